"""The log of a shard: a Redis stream, one entry a request, trimmed behind the applied position.

It is never capped: a cap would lose acknowledged samples. Over the backlog limit the writer
(`service.storage.append`) refuses instead.
"""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from service.storage import keys
from service.storage.columns import Batch
from service.storage.redis import ask, store_errors

START = b"0-0"


class Entry(NamedTuple):
    """One applied or waiting request."""

    id: bytes
    tenant: str
    batch: Batch


class LogReader:
    """Reads what follows a position."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def position(self, shard: int) -> bytes:
        """The id of the last entry that the chunks contain."""
        found: bytes | None = await ask(self._redis, "GET", keys.position(shard))
        return found or START

    async def read(
        self, positions: dict[int, bytes], *, count: int, block_ms: int
    ) -> dict[int, list[Entry]]:
        """Up to `count` entries after each shard's position, waiting at most `block_ms`."""
        shard_of = {keys.log(shard).encode(): shard for shard in positions}
        after = list(positions.values())
        command: tuple[str | bytes | int, ...] = (
            "XREAD",
            "COUNT",
            count,
            "BLOCK",
            block_ms,
            "STREAMS",
            *shard_of,
            *after,
        )
        answer = await ask(self._redis, *command)
        return {
            shard_of[name]: [_entry(i, fields) for i, fields in entries]
            for name, entries in _pairs(answer)
        }

    async def backlog(self, shards: Sequence[int]) -> dict[int, int]:
        """Entries that wait, by shard."""
        async with store_errors():
            return {shard: await self._redis.xlen(keys.log(shard)) for shard in shards}


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(entry_id, fields[b"t"].decode(), Batch.unpack(fields[b"d"]))


def _pairs(answer: object) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    # redis-py answers a list of pairs in RESP2 and a dictionary of lists in RESP3.
    if not answer:
        return []
    if isinstance(answer, dict):
        flat = [(name, groups) for name, groups in answer.items()]
        return [
            (n, g[0] if g and g[0] and isinstance(g[0][0], list | tuple) else g) for n, g in flat
        ]
    if isinstance(answer, list):
        return [(name, entries) for name, entries in answer]
    raise TypeError(f"unexpected answer to XREAD: {type(answer).__name__}")
