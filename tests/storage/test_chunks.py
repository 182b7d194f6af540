"""Reading chunks as the store holds them: records, sealed blocks, and damage."""

import time
from collections.abc import Sequence

import numpy as np
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.storage import keys
from service.storage.chunks import ChunkReader
from service.storage.columns import POINT, Columns
from service.storage.sealed import seal

HOUR = 3_600_000
T0 = int(time.time() * 1000) // HOUR * HOUR


def columns(t: Sequence[int], v: Sequence[float]) -> Columns:
    return Columns(np.array(t, np.int64), np.array(v, np.float64))


def records(t: Sequence[int], v: Sequence[float]) -> bytes:
    points = np.empty(len(t), POINT)
    points["t"], points["v"] = t, v
    return points.tobytes()


def name(series: int, bucket: int) -> str:
    return keys.chunk(0, "acme", series, T0 // HOUR + bucket)


async def test_sealed_blocks_and_late_records_read_as_one(redis: Redis) -> None:
    block = seal(columns([T0, T0 + 10, T0 + 20], [1, 2, 3]))
    late = records([T0 + 15, T0 + 10, T0 + 15], [9, 8, 7])
    await redis.set(name(1, 0), block + late)
    await redis.set(name(1, 1), records([T0 + HOUR], [4]))
    found = (await ChunkReader(redis, 1, HOUR).read("acme", [1], T0 + 1, T0 + 2 * HOUR))[1]
    assert found.t.tolist() == [T0 + 10, T0 + 15, T0 + 20, T0 + HOUR]
    assert found.v.tolist() == [8, 7, 3, 4]


@pytest.mark.parametrize(
    "damaged",
    [
        records([T0 + HOUR], [2])[:-1],
        seal(columns([T0 + HOUR], [2]))[:-16],
        seal(columns([T0 + HOUR], [2]))[:20] + b"?" + seal(columns([T0 + HOUR], [2]))[21:],
        records([T0], [2]),
        records([T0 + 2 * HOUR], [2]),
        records([T0 + HOUR], [2]) + seal(columns([T0 + HOUR + 1], [2])),
    ],
    ids=["cut", "cut block", "changed block", "early", "late", "block after records"],
)
async def test_a_damaged_chunk_is_named_and_the_others_are_read(
    redis: Redis, damaged: bytes
) -> None:
    for bucket in (0, 2):
        t = T0 + bucket * HOUR
        await redis.set(name(1, bucket), seal(columns([t, t + 5], [1, 1])))
    await redis.set(name(1, 1), damaged)
    await redis.set(name(2, 1), records([T0 + HOUR], [5]))
    with capture_logs() as lines:
        found = await ChunkReader(redis, 1, HOUR).read("acme", [1, 2], T0, T0 + 3 * HOUR - 1)
    assert found[1].t.tolist() == [T0, T0 + 5, T0 + 2 * HOUR, T0 + 2 * HOUR + 5]
    assert found[2].v.tolist() == [5]
    (line,) = lines
    assert (line["event"], line["key"]) == ("chunk damaged", name(1, 1))
    assert len(line["reason"]) > 10
