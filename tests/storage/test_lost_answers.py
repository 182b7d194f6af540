"""The store carries something out and its answer is lost: trying again must not do it twice."""

import time

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.errors import LostLease
from service.storage import keys
from service.storage.append import LogWriter
from service.storage.chunks import ChunkWriter
from service.storage.columns import Batch
from service.storage.lease import Leases
from service.storage.log import START, LogReader

HOUR = 3_600_000
T0 = int(time.time() * 1000) // HOUR * HOUR


def one(value: float) -> Batch:
    return Batch(np.array([1]), np.array([T0 + round(value)]), np.array([value]))


async def test_a_batch_is_applied_once_however_often_it_is_tried(redis: Redis) -> None:
    writer, reader = LogWriter(redis, 1, 100), LogReader(redis)
    chunks, epoch = ChunkWriter(redis, HOUR, 24 * HOUR), await Leases(redis, "w", 60).acquire(0)
    for value in (1.0, 2.0, 3.0):
        await writer.append("acme", one(value))
    entries = await reader.read(0, START, count=2, block_ms=100)
    await chunks.apply(0, epoch, entries, START)

    # What a worker does that never heard of it: the log is trimmed to the last entry of the batch.
    again = await reader.read(0, START, count=2, block_ms=100)
    assert [e.batch.v.tolist() for e in again] == [[2.0], [3.0]]
    with pytest.raises(LostLease, match="an answer of the store was lost"):
        await chunks.apply(0, epoch, again, START)

    position = await reader.position(0)
    assert position == entries[-1].id
    await chunks.apply(0, epoch, again[1:], position)
    chunk = await redis.get(keys.chunk(0, "acme", 1, T0 // HOUR))
    assert len(chunk) == 3 * 16
