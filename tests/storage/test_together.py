"""Samples of many series read together are those read one by one."""

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.series import Series
from service.storage import keys
from service.storage.chunks import ChunkReader, together
from service.storage.columns import Columns, Together
from service.storage.sealing import Sealer
from service.storage.sql.engine import Database
from tests.support.seed import BUCKET_MS, Seed

NOW = 1_700_000_000
DAY_MS = 86_400_000


@pytest.fixture
def seed(redis: Redis, sqlite: Database) -> Seed:
    return Seed(redis, sqlite, NOW)


async def compared(seed: Seed, series: list[Series], start_ms: int, end_ms: int) -> Together:
    reader = ChunkReader(seed.redis, 1, BUCKET_MS)
    ids = [each.id for each in series]
    found = await reader.read_together(seed.tenant, ids, start_ms, end_ms)
    one_by_one = await reader.read(seed.tenant, ids, start_ms, end_ms)
    assert len(found.bounds) == len(ids) + 1
    for number, columns in zip(ids, found.split(), strict=True):
        assert columns.t.tolist() == one_by_one[number].t.tolist()
        assert columns.v.tobytes() == one_by_one[number].v.tobytes()
    return found


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("late", [False, True])
async def test_they_are_the_same(seed: Seed, sealed: bool, late: bool) -> None:
    random = np.random.default_rng(1)
    series = [Series.of("m", {"i": str(i)}) for i in range(7)]
    for i, each in enumerate(series[:-1]):  # the last one has nothing
        t = NOW - 60.0 * np.arange(300 * i, 0, -1) - i
        await seed.put(each, t, random.normal(size=len(t)))
    if late:
        await seed.put(series[3], [NOW - 500.5, NOW - 1000, NOW - 63], [1.0, 2.0, 3.0])
    if sealed:
        sealer = Sealer(seed.redis, BUCKET_MS, 36_500 * DAY_MS)
        assert await sealer.seal_due(seed.shard, 1, (NOW + 3600) * 1000, 100)
        await seed.put(series[2], [NOW - 0.5], [4.0])
    whole = await compared(seed, series, (NOW - 10**6) * 1000, NOW * 1000)
    assert len(whole.t) == 60 * 15 * 5 + 2 * late + sealed
    await compared(seed, series, (NOW - 7000) * 1000, (NOW - 600) * 1000)
    none = await compared(seed, series, (NOW + 1) * 1000, (NOW + 2) * 1000)
    assert not len(none.t)
    await compared(seed, series[::-1], (NOW - 7000) * 1000, NOW * 1000)
    await compared(seed, [], 0, NOW * 1000)


async def test_what_is_damaged_is_left_out(seed: Seed) -> None:
    series = [Series.of("m", {"i": str(i)}) for i in range(3)]
    for each in series:
        await seed.put(each, [NOW - 1.0, NOW], [1.0, 2.0])
    key = keys.chunk(seed.shard, seed.tenant, series[1].id, NOW * 1000 // BUCKET_MS)
    assert await seed.redis.append(key, b"half a") > 16
    found = await compared(seed, series, (NOW - 60) * 1000, NOW * 1000)
    assert found.bounds.tolist() == [0, 2, 2, 4]


def test_samples_of_another_time_are_seen() -> None:
    value = Columns(np.array([5, BUCKET_MS]), np.zeros(2)).pack()
    assert together([value], range(1), BUCKET_MS) is None
    value = Columns(np.array([5, 6]), np.zeros(2)).pack()
    found = together([None, value, value, None, None, None], range(1), BUCKET_MS)
    assert found is not None
    assert found.bounds.tolist() == [0, 0, 2, 4, 4, 4, 4]
    assert found.t.tolist() == [5, 6, 5, 6]
