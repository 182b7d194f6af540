"""Where series stand, on both databases."""

import pytest
from redis.asyncio import Redis

from service.detection.records import ModelState
from service.domain.confidence import BESIDE_ROWS
from service.domain.series import SCORE, MetricType, Series
from service.insights.standings import standings_of
from service.storage.sql.engine import Database
from tests.insights.conftest import NOW
from tests.support.seed import Seed


@pytest.fixture
def seed(redis: Redis, database: Database) -> Seed:
    return Seed(redis, database, NOW)


async def test_peers_are_trained_series_of_the_same_metric_and_kind(seed: Seed) -> None:
    trained = [Series.of("requests", {"host": f"h{i}"}) for i in range(3)]
    for series in trained:
        await seed.model(series, "ready")
    gauge = Series.of("requests", {"host": "new"})
    counter = Series.of("requests", {"host": "other"}, MetricType.COUNTER)
    alone = Series.of("errors", {"host": "new"})
    said = trained[0].derived(SCORE)
    known = {s.id: s for s in (*trained, gauge, counter, alone, said)}
    rows = dict.fromkeys((*known, 12345), BESIDE_ROWS)
    async with seed.database.read() as connection:
        found = await standings_of(connection, seed.tenant, rows, known)
    states = {known[i]: standing.state for i, standing in found.items()}
    assert states == {
        **dict.fromkeys(trained, ModelState.READY),
        gauge: ModelState.PEERS,
        counter: ModelState.COLD,
        alone: ModelState.COLD,
    }
