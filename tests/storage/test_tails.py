"""What a worker recalls of what models said: ends of chunks, sealed or not, and a short head."""

import time

import numpy as np
from redis.asyncio import Redis

from service.domain.series import SCORE, Series
from service.storage import keys
from service.storage.chunks import ChunkReader
from service.storage.columns import Columns
from service.storage.head import DERIVED_MIN, Head
from service.storage.sealed import seal

HOUR = 3_600_000
BUCKET = int(time.time() * 1000) // HOUR
CPU = Series.of("cpu", {"host": "a"})


def rows(first: int, last: int) -> Columns:
    n = np.arange(first, last)
    return Columns(BUCKET * HOUR + n * 1000, n.astype(np.float64))


async def test_only_the_end_of_an_open_chunk_is_read(redis: Redis) -> None:
    await redis.set(keys.chunk(0, "acme", CPU.id, BUCKET), rows(0, 500).pack())
    found = await ChunkReader(redis, 1, HOUR).read_tails("acme", {CPU.id: [BUCKET]}, 20)
    assert found[CPU.id].v.tolist() == list(range(480, 500))
    assert found[CPU.id].t.tolist() == rows(480, 500).t.tolist()


async def test_of_a_sealed_chunk_all_is_read_late_samples_too(redis: Redis) -> None:
    late = Columns(rows(100, 101).t + 500, np.array([-1.0]))
    raw = seal(rows(0, 200)) + late.pack()
    await redis.set(keys.chunk(0, "acme", CPU.id, BUCKET), raw)
    found = await ChunkReader(redis, 1, HOUR).read_tails("acme", {CPU.id: [BUCKET]}, 20)
    assert len(found[CPU.id].t) == 201
    assert found[CPU.id].v[101] == -1.0


async def test_samples_that_came_late_are_put_in_order_and_nothing_is_made_up(redis: Redis) -> None:
    raw = rows(0, 50).pack() + rows(10, 12).pack()
    await redis.set(keys.chunk(0, "acme", CPU.id, BUCKET), raw)
    reader = ChunkReader(redis, 1, HOUR)
    found = await reader.read_tails("acme", {CPU.id: [BUCKET - 1, BUCKET], 7: [BUCKET]}, 5)
    assert found[CPU.id].v.tolist() == [10, 11, 47, 48, 49]
    assert len(found[7].t) == 0


def test_the_head_keeps_less_of_what_models_say() -> None:
    head, score = Head(8192), CPU.derived(SCORE)
    head.add_series("acme", {CPU.id: CPU, score.id: score})
    n = np.arange(20_000)
    for part in np.array_split(n, 40):
        for series in (CPU.id, score.id):
            head.put("acme", series, Columns(part * 1000, part.astype(np.float64)))
    own, derived = head.columns("acme", CPU.id), head.columns("acme", score.id)
    assert 8192 <= len(own.t) <= 1.25 * 8192
    assert 1024 == head.derived_size <= len(derived.t) <= 1.25 * 1024
    assert own.v[-1] == derived.v[-1] == 19_999
    assert Head(64).derived_size == 64
    assert Head(2048).derived_size == DERIVED_MIN
