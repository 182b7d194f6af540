"""What a client is tested with here holds for one Redis and for a cluster alike."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.storage.embedded import EmbeddedStore
from service.storage.redis import connect
from tests.support.redis_cluster import Cluster

#: They are about one server: they halt it.
_OF_ONE = {"test_a_store_that_hangs_is_reported_in_time_and_to_all_who_wait"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test with a client runs on both, unless it is about one server or names its store."""
    names = metafunc.fixturenames
    if "redis" in names and "store" not in names and metafunc.function.__name__ not in _OF_ONE:
        metafunc.parametrize("redis", ["one", "cluster"], indirect=True)


@pytest.fixture(scope="session")
def cluster(short_tmp: Path) -> Iterator[Cluster]:
    """Three masters of this test process; whole again after each test that hurts it."""
    made = Cluster(short_tmp / "cluster")
    yield made
    made.close()


@pytest.fixture
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client of an empty store: of one Redis, or of a cluster."""
    if getattr(request, "param", "one") == "cluster":
        of_cluster: Cluster = request.getfixturevalue("cluster")
        client = connect(of_cluster.url, cluster=True)
    else:
        store: EmbeddedStore = request.getfixturevalue("store")
        client = connect(store.url)
    await client.flushall()
    yield client
    await client.aclose()
