"""Which series a tenant has: id → labels and type, in Redis, with a bounded memory of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec
from redis.asyncio import Redis

from service.domain.quotas import Quota
from service.domain.series import MetricType, Series
from service.storage import keys
from service.storage.redis import ask, store_errors

_TYPES = tuple(MetricType)
#: Entries of a registry that are read together: a tenant has a hundred thousand, and others wait.
_READ_AT_ONCE = 1000

# KEYS: hash, version, the shard's tenants, new series.  ARGV: tenant, limit, new series a minute
# (-1: no limit), then id and value of each series.  Answers the milliseconds until there is a token
# for another new series, then a Registered code for each.
#
# The tokens of a minute are a bucket in Redis' own time: exact however many replicas register.
_REGISTER = """
local answer, fresh = {0}, false
local limit, minute = tonumber(ARGV[2]), tonumber(ARGV[3])
local count = redis.call('HLEN', KEYS[1])
local time = redis.call('TIME')
local now, tokens = time[1] * 1000000 + time[2], minute
local stored = minute >= 0 and redis.call('GET', KEYS[4])
if stored then
  local left, since = struct.unpack('<dd', stored)
  tokens = math.min(minute, left + math.max(0, now - since) * minute / 60000000)
end
for i = 4, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if known then
    answer[#answer + 1] = (string.sub(known, 2) == string.sub(ARGV[i + 1], 2)) and 0 or 3
  elseif limit >= 0 and count >= limit then
    answer[#answer + 1] = 2
  elseif minute >= 0 and tokens < 1 then
    answer[1] = math.ceil((1 - tokens) * 60000 / minute)
    answer[#answer + 1] = 4
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    count = count + 1
    tokens = tokens - 1
    fresh = true
    answer[#answer + 1] = 1
  end
end
if fresh then
  redis.call('INCR', KEYS[2])
  redis.call('SADD', KEYS[3], ARGV[1])
  if minute >= 0 then
    local full = math.ceil((minute - tokens) * 60000 / minute) + 1
    redis.call('SET', KEYS[4], struct.pack('<dd', tokens, now), 'PX', full)
  end
end
return answer
"""


class Registered(IntEnum):
    """What became of a series that was offered."""

    KNOWN = 0
    NEW = 1
    OVER_LIMIT = 2
    COLLISION = 3
    OVER_RATE = 4


@dataclass(frozen=True, slots=True)
class Registration:
    """An outcome for each series that was offered.

    `retry_after` is the seconds until another new series is taken; 0 unless one is `OVER_RATE`.
    """

    outcomes: list[Registered]
    retry_after: float = 0.0


def encode(series: Series) -> bytes:
    """One byte for the type, then the labels as a flat msgpack array."""
    flat = [part for pair in series.labels for part in pair]
    return bytes([48 + _TYPES.index(series.metric_type)]) + msgspec.msgpack.encode(flat)


def decode(series_id: bytes, value: bytes) -> Series:
    """The series of a registry entry."""
    flat = msgspec.msgpack.decode(value[1:], type=list[str])
    labels = tuple(zip(flat[::2], flat[1::2], strict=True))
    return Series(int.from_bytes(series_id, "big"), labels, _TYPES[value[0] - 48])


_ById = dict[int, Series]


@dataclass
class _Known:
    version: bytes | None
    series: _ById


class SeriesRegistry:
    """Series by tenant. What models write is kept apart, so that it counts in no quota."""

    def __init__(self, redis: Redis, shards: int) -> None:
        self._redis = redis
        self._shards = shards
        self._register = redis.register_script(_REGISTER)
        self._known: dict[tuple[str, bool], _Known] = {}
        #: Own and derived series and both together, as they were last asked for.
        self._joined: dict[str, tuple[_ById, _ById, _ById]] = {}

    def _keys(self, tenant: str, derived: bool) -> tuple[str, str]:
        shard = keys.shard_of(tenant, self._shards)
        return (
            keys.registry(shard, tenant, derived=derived),
            keys.registry_version(shard, tenant, derived=derived),
        )

    async def register(
        self, tenant: str, series: Sequence[Series], quota: Quota | None = None
    ) -> Registration:
        """Make sure that the series are known; one answer each.

        `quota` bounds the number of the tenant's own series and how many it adds a minute; derived
        ones are never bounded.
        """
        answers: dict[int, Registered] = {}
        wait = 0
        for derived in (False, True):
            part = [s for s in series if s.is_derived is derived]
            if not part:
                continue
            arguments: list[bytes | str | int] = [
                tenant,
                -1 if derived or quota is None else quota.series,
                -1 if derived or quota is None else quota.new_series_per_minute,
            ]
            for s in part:
                arguments += (s.id.to_bytes(8, "big"), encode(s))
            shard = keys.shard_of(tenant, self._shards)
            names = (
                *self._keys(tenant, derived),
                keys.shard_tenants(shard),
                keys.new_series(shard, tenant),
            )
            async with store_errors():
                milliseconds, *codes = await self._register(keys=names, args=arguments)
            wait = max(wait, milliseconds)
            answers.update((s.id, Registered(code)) for s, code in zip(part, codes, strict=True))
        return Registration([answers[s.id] for s in series], wait / 1000)

    async def generation(self, tenant: str) -> int:
        """A number that grows when series of the tenant are deleted: ids from before are stale."""
        shard = keys.shard_of(tenant, self._shards)
        return int(await ask(self._redis, "GET", keys.generation(shard, tenant)) or 0)

    async def all(self, tenant: str, *, derived: bool | None = None) -> dict[int, Series]:
        """Every series of the tenant; `derived` True or False for only these.

        Not to be changed. It is the same mapping as before if nothing has changed.
        """
        if derived is not None:
            return await self._load(tenant, derived)
        own, written = await self._load(tenant, False), await self._load(tenant, True)
        known = self._joined.get(tenant)
        if known is None or known[0] is not own or known[1] is not written:
            known = self._joined[tenant] = (own, written, {**own, **written})
        return known[2]

    async def _load(self, tenant: str, derived: bool) -> _ById:
        name, version_name = self._keys(tenant, derived)
        known = self._known.get((tenant, derived))
        version = await ask(self._redis, "GET", version_name)
        if known is not None and known.version == version:
            return known.series
        series: dict[int, Series] = {}
        before: _ById = known.series if known else {}
        cursor, more = 0, True
        while more:
            cursor, part = await self._some(name, cursor)
            for raw_id, value in part.items():
                number = int.from_bytes(raw_id, "big")
                series[number] = before.get(number) or decode(raw_id, value)
            more = bool(cursor)
        self._known[tenant, derived] = _Known(version, series)
        return series

    async def _some(self, name: str, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        """Some entries of a hash, and where to go on; 0 at its end."""
        answer = await ask(self._redis, "HSCAN", name, cursor, "COUNT", _READ_AT_ONCE)
        return int(answer[0]), answer[1]

    async def lookup(self, tenant: str, ids: Iterable[int]) -> dict[int, Series]:
        """The series of these ids; unknown ids are left out."""
        wanted = list(ids)
        found: dict[int, Series] = {}
        for derived in (False, True):
            rest = [i for i in wanted if i not in found]
            if not rest:
                break
            raw = [i.to_bytes(8, "big") for i in rest]
            values = await ask(self._redis, "HMGET", self._keys(tenant, derived)[0], *raw)
            answers = zip(rest, raw, values, strict=True)
            found.update((i, decode(b, value)) for i, b, value in answers if value)
        return found

    async def tenants(self, shard: int) -> list[str]:
        """The tenants that have series in a shard."""
        members = await ask(self._redis, "SMEMBERS", keys.shard_tenants(shard))
        return sorted(t.decode() for t in members)
