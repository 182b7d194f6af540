"""Sealing: chunks whose time is over are sorted, packed and rolled up, where they stand.

The chunks that are not sealed stand in a sorted set of their shard, by when they are due;
`ChunkWriter` adds one with its first sample, and again with a late one. One script replaces a
batch: each chunk with its roll-up and its place in the set, unless it has grown since it was read;
then it is tried again. So a crash at any moment leaves a chunk as it was, to be sealed later.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from redis.asyncio import Redis

from service import telemetry
from service.domain.errors import Damaged, LostLease
from service.storage import keys
from service.storage.chunks import samples_of
from service.storage.columns import POINT
from service.storage.redis import ask, store_errors
from service.storage.rollups import BUCKETS, pack_rows, roll_up
from service.storage.sealed import seal

log = structlog.get_logger(__name__)

# KEYS: epoch, unsealed, then chunk and roll-up of each.  ARGV: epoch, when to try those again that
# have grown, then of each: member, length and last record as read, new value (empty: keep it),
# field (empty: no roll-up), rows (empty: none), expiry of the roll-up (ms).  Answers how many were
# replaced, -1 if the epoch is over.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local replaced = 0
for i = 3, #ARGV, 7 do
  local k = 3 + (i - 3) / 7 * 2
  local member, length, value, field = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 3], ARGV[i + 4]
  if redis.call('STRLEN', KEYS[k]) ~= length
      or (length > 0 and redis.call('GETRANGE', KEYS[k], -16, -1) ~= ARGV[i + 2]) then
    redis.call('ZADD', KEYS[2], 'XX', ARGV[2], member)
  else
    if value ~= '' then redis.call('SET', KEYS[k], value, 'KEEPTTL') end
    if field ~= '' then
      if ARGV[i + 5] ~= '' then
        redis.call('HSET', KEYS[k + 1], field, ARGV[i + 5])
        redis.call('PEXPIREAT', KEYS[k + 1], ARGV[i + 6])
      else
        redis.call('HDEL', KEYS[k + 1], field)
      end
    end
    redis.call('ZREM', KEYS[2], member)
    replaced = replaced + 1
  end
end
return replaced
"""

#: How long a chunk rests that grew while it was sealed.
_AGAIN_MS = 60_000


class _Chunk(NamedTuple):
    tenant: str
    series: int
    bucket: int
    rolled_up: bool
    value: bytes

    @property
    def member(self) -> str:
        return keys.chunk_member(self.tenant, self.series, self.bucket)


class Sealer:
    """Seals chunks. Used by the worker that owns the shard, only."""

    def __init__(self, redis: Redis, bucket_ms: int, rollup_retention_ms: int) -> None:
        self._redis = redis
        self._bucket_ms = bucket_ms
        self._rollup_retention_ms = rollup_retention_ms
        self._replace = redis.register_script(_REPLACE)

    async def seal_due(self, shard: int, epoch: int, now_ms: int, limit: int) -> int:
        """Seal up to `limit` chunks that are due; how many were due.

        Raises `LostLease` if the epoch is over.
        """
        due: list[bytes] = await ask(
            self._redis,
            *("ZRANGEBYSCORE", keys.unsealed(shard), "-inf", now_ms, "LIMIT", 0, limit),
        )
        if not due:
            return 0
        chunks = await self._read(shard, [member.decode() for member in due])
        names = [keys.epoch(shard), keys.unsealed(shard)]
        arguments: list[bytes | str | int] = [epoch, now_ms + _AGAIN_MS]
        prepared = await asyncio.to_thread(lambda: [self._prepared(shard, c) for c in chunks])
        for chunk, (value, rows) in zip(chunks, prepared, strict=True):
            period = chunk.bucket // BUCKETS
            names.append(keys.chunk(shard, chunk.tenant, chunk.series, chunk.bucket))
            names.append(keys.rollup(shard, chunk.tenant, chunk.series, period))
            arguments += (chunk.member, len(chunk.value), chunk.value[-POINT.itemsize :], value)
            arguments += ("" if rows is None else chunk.bucket, rows or b"")
            arguments.append((period + 1) * BUCKETS * self._bucket_ms + self._rollup_retention_ms)
        async with store_errors():
            replaced = await self._replace(keys=names, args=arguments)
        if replaced < 0:
            raise LostLease(f"shard {shard} has another owner since epoch {epoch}")
        telemetry.CHUNKS_SEALED.inc(replaced)
        return len(due)

    async def _read(self, shard: int, members: Sequence[str]) -> list[_Chunk]:
        """The chunks of the members, which are `tenant:series:bucket`."""
        parts = [
            (tenant, int(series, 16), int(bucket))
            for tenant, series, bucket in (member.rsplit(":", 2) for member in members)
        ]
        values = await ask(self._redis, "MGET", *(keys.chunk(shard, *part) for part in parts))
        own: set[tuple[str, int]] = set()
        for tenant in {tenant for tenant, _, _ in parts}:
            ids = sorted({series for each, series, _ in parts if each == tenant})
            registry = keys.registry(shard, tenant, derived=False)
            known = await ask(self._redis, "HMGET", registry, *(i.to_bytes(8, "big") for i in ids))
            own.update((tenant, i) for i, entry in zip(ids, known, strict=True) if entry)
        return [
            _Chunk(*part, part[:2] in own, value or b"")
            for part, value in zip(parts, values, strict=True)
        ]

    def _prepared(self, shard: int, chunk: _Chunk) -> tuple[bytes, bytes | None]:
        """New value of a chunk, empty to keep it; rows of its roll-up, None for no roll-up."""
        if not chunk.value:  # expired or deleted
            return b"", None
        try:
            columns = samples_of([chunk.value], [chunk.bucket], self._bucket_ms)
        except Damaged as error:
            telemetry.CHUNKS_DAMAGED.inc()
            name = keys.chunk(shard, chunk.tenant, chunk.series, chunk.bucket)
            log.error("chunk damaged", key=name, reason=str(error))
            return b"", None
        value = seal(columns)
        if len(value) >= len(columns.t) * POINT.itemsize:  # a few samples
            value = columns.pack()
        rows = pack_rows(roll_up(columns)) if chunk.rolled_up else None
        return value, rows
