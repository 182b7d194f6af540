"""Samples of a series in time-bucketed chunks: 16-byte records, appended in order of arrival.

One script applies a batch: it checks that the worker still owns the shard, appends to every
touched chunk, stores the log position and trims the log, all or nothing. So a sample is counted
once however often a worker dies. A script does what `MULTI` would, with one answer to read
instead of one a command.
"""

from collections.abc import Sequence

import numpy as np
from redis.asyncio import Redis

from service.domain.errors import LostLease
from service.storage import keys
from service.storage.columns import POINT, Columns, from_points
from service.storage.log import Entry
from service.storage.redis import ask, store_errors

# KEYS: epoch, position, log, then the chunks.  ARGV: epoch, position, then bytes and expiry (ms)
# of each chunk. A chunk gets its expiry when it is made.
_APPLY = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 4, #KEYS do
  local data = ARGV[2 * i - 5]
  if redis.call('APPEND', KEYS[i], data) == #data then
    redis.call('PEXPIREAT', KEYS[i], ARGV[2 * i - 4])
  end
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('XTRIM', KEYS[3], 'MINID', ARGV[2])
return 1
"""

#: Keys asked for in one MGET; a reply of more would hold the store up for others.
_KEYS_AT_ONCE = 1000


class ChunkWriter:
    """Applies log entries. Used by the worker that owns the shard, only."""

    def __init__(self, redis: Redis, bucket_ms: int, retention_ms: int) -> None:
        self._redis = redis
        self._bucket_ms = bucket_ms
        self._retention_ms = retention_ms
        self._apply = redis.register_script(_APPLY)

    async def apply(self, shard: int, epoch: int, entries: Sequence[Entry]) -> None:
        """Store the entries and their position together; `LostLease` if the epoch is over."""
        names: list[str] = [keys.epoch(shard), keys.position(shard), keys.log(shard)]
        arguments: list[bytes | int] = [epoch, entries[-1].id]
        for tenant, batches in _by_tenant(entries).items():
            for series, bucket, data in self._split(batches):
                names.append(keys.chunk(shard, tenant, series, bucket))
                arguments += (data, (bucket + 1) * self._bucket_ms + self._retention_ms)
        async with store_errors():
            if not await self._apply(keys=names, args=arguments):
                raise LostLease(f"shard {shard} has another owner since epoch {epoch}")

    def _split(self, entries: list[Entry]) -> list[tuple[int, int, bytes]]:
        ids = np.concatenate([e.batch.id for e in entries])
        points = np.empty(len(ids), POINT)
        points["t"] = np.concatenate([e.batch.t for e in entries])
        points["v"] = np.concatenate([e.batch.v for e in entries])
        buckets = points["t"] // self._bucket_ms
        order = np.lexsort((buckets, ids))  # stable: arrival order within a chunk
        ids, buckets, points = ids[order], buckets[order], points[order]
        starts = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (buckets[1:] != buckets[:-1])])
        ends = np.r_[starts[1:], len(ids)] * POINT.itemsize
        raw = points.tobytes()
        return [
            (series, bucket, raw[a:b])
            for series, bucket, a, b in zip(
                ids[starts].tolist(),
                buckets[starts].tolist(),
                (starts * POINT.itemsize).tolist(),
                ends.tolist(),
                strict=True,
            )
        ]


def _by_tenant(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if len(entry.batch.id):
            groups.setdefault(entry.tenant, []).append(entry)
    return groups


class ChunkReader:
    """Reads samples of series by time."""

    def __init__(self, redis: Redis, shards: int, bucket_ms: int) -> None:
        self._redis = redis
        self._shards = shards
        self._bucket_ms = bucket_ms

    async def read(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int
    ) -> dict[int, Columns]:
        """Samples with `start_ms <= t <= end_ms` of each series, ascending, last write wins."""
        shard = keys.shard_of(tenant, self._shards)
        buckets = range(start_ms // self._bucket_ms, end_ms // self._bucket_ms + 1)
        names = [keys.chunk(shard, tenant, i, b) for i in ids for b in buckets]
        raw: list[bytes | None] = []
        for first in range(0, len(names), _KEYS_AT_ONCE):
            raw += await ask(self._redis, "MGET", *names[first : first + _KEYS_AT_ONCE])
        found = {}
        for row, series in enumerate(ids):
            parts = [r for r in raw[row * len(buckets) : (row + 1) * len(buckets)] if r]
            columns = from_points(b"".join(parts)) if parts else Columns.empty()
            found[series] = columns.between(start_ms, end_ms)
        return found

    async def forget(self, tenant: str) -> None:
        """Delete every chunk of a tenant."""
        pattern = keys.chunk_pattern(keys.shard_of(tenant, self._shards), tenant)
        async with store_errors():
            async for name in self._redis.scan_iter(match=pattern, count=1000):
                await self._redis.unlink(name)
