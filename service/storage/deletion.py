"""Deleting series: out of the registry at once, out of the chunks by the worker, in order.

A tombstone in the log tells the worker, the only writer of chunks, what to erase: what was recorded
before it goes, what is recorded after it stays. The tenant's generation grows with it, so that no
replica goes on with ids from before.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from redis.asyncio import Redis

from service.domain.errors import LostLease
from service.domain.series import DERIVED, Series
from service.storage import keys
from service.storage.chunks import ChunkReader
from service.storage.log import Entry
from service.storage.redis import store_errors
from service.storage.rollups import BUCKETS

# KEYS: generation, log, then hash and version of the tenant's own series and of the derived ones.
# ARGV: tenant, tombstone (ids of 8 bytes, as the log has them), then the ids as the registry has
#   them. Answers how many of them there were.
_DELETE = """
local gone = 0
for i = 3, #ARGV do
  for key = 3, 5, 2 do
    if redis.call('HDEL', KEYS[key], ARGV[i]) == 1 then
      redis.call('INCR', KEYS[key + 1])
      gone = gone + 1
    end
  end
end
if gone > 0 then
  redis.call('INCR', KEYS[1])
  redis.call('XADD', KEYS[2], '*', 't', ARGV[1], 'x', ARGV[2])
end
return gone
"""

# KEYS: generation, log, the shard's tenants, then hashes and versions as above.  ARGV: tenant.
_DELETE_ALL = """
redis.call('INCR', KEYS[1])
redis.call('SREM', KEYS[3], ARGV[1])
for key = 4, 6, 2 do
  redis.call('UNLINK', KEYS[key])
  redis.call('INCR', KEYS[key + 1])
end
return redis.call('XADD', KEYS[2], '*', 't', ARGV[1], 'x', '')
"""

# KEYS: epoch, then what goes.  ARGV: epoch.
_ERASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', unpack(KEYS, 2))
return 1
"""

# KEYS: epoch, position, log.  ARGV: epoch, position.
_GO_ON = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('XTRIM', KEYS[3], 'MINID', ARGV[2])
return 1
"""

#: Forecasts are samples in the future, no further than that.
_AHEAD_MS = 31 * 86_400_000
#: Names that one script takes: Lua unpacks no more than some thousands.
_NAMES_AT_ONCE = 1000


class Deletion:
    """Asks for series to be deleted; any process may."""

    def __init__(self, redis: Redis, shards: int) -> None:
        self._shards = shards
        self._delete = redis.register_script(_DELETE)
        self._delete_all = redis.register_script(_DELETE_ALL)

    async def series(self, tenant: str, series: Series) -> bool:
        """Delete a series and what models say about it; False if the tenant has it not."""
        shard = keys.shard_of(tenant, self._shards)
        ids = [series.id, *(series.derived(suffix).id for suffix in DERIVED)]
        async with store_errors():
            gone = await self._delete(
                keys=[
                    keys.generation(shard, tenant),
                    keys.log(shard),
                    *_registry_keys(shard, tenant),
                ],
                args=[
                    tenant,
                    np.array(ids, "<i8").tobytes(),
                    *(i.to_bytes(8, "big") for i in ids),
                ],
            )
        return bool(gone)

    async def tenant(self, tenant: str) -> None:
        """Delete every series of a tenant."""
        shard = keys.shard_of(tenant, self._shards)
        async with store_errors():
            await self._delete_all(
                keys=[
                    keys.generation(shard, tenant),
                    keys.log(shard),
                    keys.shard_tenants(shard),
                    *_registry_keys(shard, tenant),
                ],
                args=[tenant],
            )


def _registry_keys(shard: int, tenant: str) -> Iterator[str]:
    for derived in (False, True):
        yield keys.registry(shard, tenant, derived=derived)
        yield keys.registry_version(shard, tenant, derived=derived)


class Eraser:
    """Erases what tombstones name. Used by the worker that owns the shard, only."""

    def __init__(
        self,
        redis: Redis,
        chunks: ChunkReader,
        bucket_ms: int,
        retention_ms: int,
        rollup_retention_ms: int,
    ) -> None:
        self._chunks = chunks
        self._bucket_ms, self._retention_ms = bucket_ms, retention_ms
        self._rollup_retention_ms = rollup_retention_ms
        self._erase = redis.register_script(_ERASE)
        self._go_on = redis.register_script(_GO_ON)

    async def apply(self, shard: int, epoch: int, tombstone: Entry, now_ms: int) -> None:
        """Erase, then move the log's position behind the tombstone; repeated, it does no harm.

        Raises `LostLease` if the epoch is over.
        """
        if tombstone.erased is None:
            raise ValueError("the entry is no tombstone")
        names: list[str] = []
        if len(tombstone.erased):
            names = self._names(shard, tombstone.tenant, tombstone.erased.tolist(), now_ms)
        else:
            await self._chunks.forget(tombstone.tenant)
        async with store_errors():
            for first in range(0, len(names), _NAMES_AT_ONCE):
                part = names[first : first + _NAMES_AT_ONCE]
                _check(await self._erase(keys=[keys.epoch(shard), *part], args=[epoch]), shard)
            passed = await self._go_on(
                keys=[keys.epoch(shard), keys.position(shard), keys.log(shard)],
                args=[epoch, tombstone.id],
            )
        _check(passed, shard)

    def _names(self, shard: int, tenant: str, ids: Sequence[int], now_ms: int) -> list[str]:
        """Everything that may be kept of the series."""
        first = (now_ms - self._retention_ms) // self._bucket_ms - 1
        last = (now_ms + _AHEAD_MS) // self._bucket_ms
        oldest = (now_ms - self._rollup_retention_ms) // self._bucket_ms // BUCKETS - 1
        periods = range(oldest, last // BUCKETS + 1)
        return [
            *(keys.chunk(shard, tenant, i, b) for i in ids for b in range(first, last + 1)),
            *(keys.rollup(shard, tenant, i, period) for i in ids for period in periods),
        ]


def _check(done: int, shard: int) -> None:
    if not done:
        raise LostLease(f"shard {shard} has another owner")
