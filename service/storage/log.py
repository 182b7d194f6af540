"""The log of a shard: a Redis stream, one entry a request, trimmed behind the applied position.

It is never capped: a cap would lose acknowledged samples. Over the backlog limit the writer
(`service.storage.append`) refuses instead.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from redis.asyncio import Redis

from service.storage import keys
from service.storage.columns import Batch, Ids
from service.storage.redis import ask, store_errors

START = b"0-0"


class Entry(NamedTuple):
    """One applied or waiting request: samples, or a tombstone.

    `erased` is None for samples; else the ids of the series to erase, none for all of the tenant's.
    """

    id: bytes
    tenant: str
    batch: Batch
    erased: Ids | None = None


class LogReader:
    """Reads what follows a position."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def position(self, shard: int) -> bytes:
        """The id of the last entry that the chunks contain."""
        found: bytes | None = await ask(self._redis, "GET", keys.position(shard))
        return found or START

    async def read(
        self, shard: int, after: bytes, *, count: int, block_ms: int | None
    ) -> list[Entry]:
        """Up to `count` entries after a position, oldest first.

        Waits at most `block_ms` for the first of them; None does not wait.
        """
        block: tuple[str | int, ...] = () if block_ms is None else ("BLOCK", block_ms)
        answer = await ask(
            self._redis, "XREAD", "COUNT", count, *block, "STREAMS", keys.log(shard), after
        )
        return [_entry(entry_id, fields) for entry_id, fields in _entries(answer)]

    async def backlog(self, shards: Sequence[int]) -> dict[int, int]:
        """Entries that wait, by shard."""
        async with store_errors():
            return {shard: await self._redis.xlen(keys.log(shard)) for shard in shards}


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    tenant = fields[b"t"].decode()
    if (erased := fields.get(b"x")) is not None:
        return Entry(entry_id, tenant, Batch.empty(), np.frombuffer(erased, np.dtype("<i8")))
    return Entry(entry_id, tenant, Batch.unpack(fields[b"d"]))


def _entries(answer: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # Of one stream, redis-py answers a list of pairs in RESP2 and a dictionary of lists in RESP3.
    if not answer:
        return []
    if isinstance(answer, dict):
        (groups,) = answer.values()
        return list(groups[0]) if groups and isinstance(groups[0], list) else list(groups)
    if isinstance(answer, list):
        ((_, entries),) = answer
        return list(entries)
    raise TypeError(f"unexpected answer to XREAD: {type(answer).__name__}")
