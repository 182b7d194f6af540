"""Samples of a series in time-bucketed chunks: 16-byte records, appended in order of arrival.

A chunk that is over is sealed (`storage.sealing`): its value begins with a block of the same
samples, sorted and packed, and late ones stand after it as records again.

One script applies a batch: it checks that the worker still owns the shard and that the position is
where the batch begins, appends to every touched chunk, stores the log position and trims the log,
all or nothing. So a sample is counted once however often a worker dies or an answer is lost. A
script does what `MULTI` would, with one answer to read instead of one a command.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import structlog
from redis.asyncio import Redis

from service import telemetry
from service.domain.clock import Clock, SystemClock
from service.domain.errors import Damaged, LostLease
from service.storage import keys
from service.storage.columns import (
    POINT,
    Batch,
    Columns,
    Groups,
    Together,
    in_order,
    is_ascending,
)
from service.storage.ends import Ends
from service.storage.log import Entry
from service.storage.order import Order, is_plain
from service.storage.redis import ask, store_errors
from service.storage.sealed import read_values

log = structlog.get_logger(__name__)

# KEYS: epoch, position, log, unsealed, then the chunks, those of a tenant and bucket together.
# ARGV: epoch, position, the one before ("" for any), now, retention, slack, the least delay (all
# ms), length of a chunk's prefix, then of each such run of chunks: their number, their expiry (ms),
# and the bytes of each. Answers 1, 0 if the epoch is over, -1 if the position is another: an
# attempt whose answer was lost had been carried out. A chunk gets its expiry when it is made. It is
# to be sealed when its bucket is over and the slack has passed; what comes after that may meet a
# sealed one, which is due again. Half of the slack is for workers whose clocks differ.
_APPLY = """
local call = redis.call
if call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' and (call('GET', KEYS[2]) or '0-0') ~= ARGV[3] then return -1 end
local now, retention, slack = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local soonest, prefix = now + tonumber(ARGV[7]), tonumber(ARGV[8]) + 1
local key, at = 5, 9
while key <= #KEYS do
  local last, expiry = key + tonumber(ARGV[at]) - 1, ARGV[at + 1]
  local over = tonumber(expiry) - retention
  local late, due = now >= over + slack / 2, math.max(over + slack, soonest)
  at = at + 2 - key
  for k = key, last do
    local data = ARGV[at + k]
    local made = call('APPEND', KEYS[k], data) == #data
    if made then call('PEXPIREAT', KEYS[k], expiry) end
    if made or late then call('ZADD', KEYS[4], 'NX', due, string.sub(KEYS[k], prefix)) end
  end
  key, at = last + 1, at + last + 1
end
call('SET', KEYS[2], ARGV[2])
call('XTRIM', KEYS[3], 'MINID', ARGV[2])
return 1
"""

# KEYS: chunks.  ARGV: bytes.  Answers the end of each chunk, of one with sealed blocks all of it.
# Whether there are any its eighth byte says.
_TAILS = """
local found = {}
for i, key in ipairs(KEYS) do
  if redis.call('GETRANGE', key, 7, 7) == string.char(128) then
    found[i] = redis.call('GET', key)
  else
    found[i] = redis.call('GETRANGE', key, -tonumber(ARGV[1]), -1)
  end
end
return found
"""

#: A late sample's chunk is sealed again after this, with those that came along meanwhile.
_SEAL_AGAIN_MS = 60_000
#: Keys asked for in one MGET; a reply of more would hold the store up for others.
_KEYS_AT_ONCE = 1000
#: Bytes from which on chunks are unpacked beside the event loop.
_LARGE = 256 << 10


class ChunkWriter:
    """Applies log entries. Used by the worker that owns the shard, only."""

    def __init__(
        self,
        redis: Redis,
        bucket_ms: int,
        retention_ms: int,
        slack_ms: int = 3_600_000,
        clock: Clock | None = None,
    ) -> None:
        self._redis = redis
        self._bucket_ms = bucket_ms
        self._retention_ms = retention_ms
        self._slack_ms = slack_ms
        self._clock = clock or SystemClock()
        self._apply = redis.register_script(_APPLY)

    async def apply(
        self, shard: int, epoch: int, entries: Sequence[Entry], after: bytes | None = None
    ) -> None:
        """Store the entries and their position together.

        `after` is the position that they follow in the log. Raises `LostLease` if the epoch is
        over, or if the position is another: then an earlier attempt was carried out although its
        answer was lost, and what the caller knows of the shard is to be read anew.
        """
        names: list[str] = [
            keys.epoch(shard),
            keys.position(shard),
            keys.log(shard),
            keys.unsealed(shard),
        ]
        now_ms = round(self._clock.now() * 1000)
        prefix = keys.chunk_prefix(shard)
        arguments: list[bytes | int] = [epoch, entries[-1].id, after or b"", now_ms]
        arguments += [self._retention_ms, self._slack_ms, _SEAL_AGAIN_MS, len(prefix)]
        for tenant, batch in by_tenant(entries).items():
            groups = Groups.of(batch, self._bucket_ms)
            names += self._names(f"{prefix}{tenant}", groups)
            arguments += self._arguments(groups)
        async with store_errors():
            answer = await self._apply(keys=names, args=arguments)
        if answer == 0:
            raise LostLease(f"shard {shard} has another owner since epoch {epoch}")
        if answer < 0:
            raise LostLease(f"an answer of the store was lost; shard {shard} is read anew")

    def _names(self, prefix: str, groups: Groups) -> list[str]:
        pairs = zip(groups.ids, groups.buckets, strict=True)
        return [f"{prefix}:{series:016x}:{bucket}" for series, bucket in pairs]

    def _arguments(self, groups: Groups) -> Iterator[bytes | int]:
        raw = Columns(groups.t, groups.v).pack()
        at = (groups.bounds * POINT.itemsize).tolist()
        life = self._bucket_ms + self._retention_ms
        first = 0
        for bucket, run in groupby(groups.buckets):
            last = first + sum(1 for _ in run)
            yield last - first
            yield bucket * self._bucket_ms + life
            for start, end in zip(at[first:last], at[first + 1 : last + 1], strict=True):
                yield raw[start:end]
            first = last


def by_tenant(entries: Iterable[Entry]) -> dict[str, Batch]:
    """The samples of entries, in their order; tenants without any are left out."""
    groups: dict[str, list[Batch]] = {}
    for entry in entries:
        if len(entry.batch.id):
            groups.setdefault(entry.tenant, []).append(entry.batch)
    return {tenant: Batch.join(batches) for tenant, batches in groups.items()}


class ChunkReader:
    """Reads samples of series by time."""

    def __init__(self, redis: Redis, shards: int, bucket_ms: int) -> None:
        self._redis = redis
        self._shards = shards
        self._bucket_ms = bucket_ms
        self._tails = redis.register_script(_TAILS)
        self._ends = Ends(redis, shards)

    @property
    def bucket_ms(self) -> int:
        """Length of a chunk's time bucket."""
        return self._bucket_ms

    async def read(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int
    ) -> dict[int, Columns]:
        """Samples with `start_ms <= t <= end_ms` of each series, ascending, last write wins.

        A chunk that is damaged is logged, counted and left out; the others are read.
        """
        buckets = range(start_ms // self._bucket_ms, end_ms // self._bucket_ms + 1)
        found = await self.read_buckets(tenant, dict.fromkeys(ids, buckets))
        return {series: columns.between(start_ms, end_ms) for series, columns in found.items()}

    async def read_buckets(
        self, tenant: str, wanted: Mapping[int, Sequence[int]]
    ) -> dict[int, Columns]:
        """The same of whole buckets, which ascend: those that are named for each series."""
        names = self._names(tenant, wanted)
        raw: list[bytes | None] = []
        for first in range(0, len(names), _KEYS_AT_ONCE):
            raw += await ask(self._redis, "MGET", *names[first : first + _KEYS_AT_ONCE])
        if sum(len(value) for value in raw if value) < _LARGE:
            return self._found(wanted, names, raw)
        return await asyncio.to_thread(self._found, wanted, names, raw)

    async def read_together(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int
    ) -> Together:
        """As `read`, in arrays that all series share: much less work where each has few samples."""
        buckets = range(start_ms // self._bucket_ms, end_ms // self._bucket_ms + 1)
        wanted = dict.fromkeys(ids, buckets)
        names = self._names(tenant, wanted)
        values = await self._ends.read(tenant, ids, buckets, names, start_ms)

        def found() -> tuple[Together, Order]:
            read = together(values.raw, buckets, self._bucket_ms)
            if read is None:  # damaged chunks are left out one by one
                columns = self._found(wanted, names, values.raw)
                read = Together.of([columns[i] for i in ids])
            bounds, t, v = read.between(start_ms, end_ms)
            cut = Together(bounds, np.ascontiguousarray(t), np.ascontiguousarray(v))
            return cut, values.order(self._bucket_ms)

        large = sum(map(len, filter(None, values.raw))) >= _LARGE
        read, order = await asyncio.to_thread(found) if large else found()
        await self._ends.learn(values, order)
        return read

    async def read_tails(
        self, tenant: str, wanted: Mapping[int, Sequence[int]], rows: int
    ) -> dict[int, Columns]:
        """The newest `rows` samples or more of each bucket that is named for a series, ascending.

        Of chunks that are not sealed no more is asked of the store. By arrival, not by time: of a
        series with late samples a few of those are missing.
        """
        names = self._names(tenant, wanted)
        raw: list[bytes | None] = []
        for first in range(0, len(names), _KEYS_AT_ONCE):
            part = names[first : first + _KEYS_AT_ONCE]
            async with store_errors():
                raw += await self._tails(keys=part, args=[rows * POINT.itemsize])
        return self._found(wanted, names, raw)

    def _names(self, tenant: str, wanted: Mapping[int, Sequence[int]]) -> list[str]:
        prefix = keys.chunk_prefix(keys.shard_of(tenant, self._shards)) + f"{tenant}:"
        return [
            f"{head}{bucket}"
            for head, buckets in ((f"{prefix}{i:016x}:", b) for i, b in wanted.items())
            for bucket in buckets
        ]

    def _found(
        self,
        wanted: Mapping[int, Sequence[int]],
        names: Sequence[str],
        raw: Sequence[bytes | None],
    ) -> dict[int, Columns]:
        """Samples by series from the values of their chunks."""
        found, at = {}, 0
        for series, buckets in wanted.items():
            end = at + len(buckets)
            found[series] = self._columns(names[at:end], raw[at:end], buckets)
            at = end
        return found

    def _columns(
        self, names: Sequence[str], values: Sequence[bytes | None], buckets: Sequence[int]
    ) -> Columns:
        """Samples of one series from its chunks, those left out that are damaged."""
        there = [
            (value, bucket, name)
            for value, bucket, name in zip(values, buckets, names, strict=True)
            if value
        ]
        try:
            return samples_of([x[0] for x in there], [x[1] for x in there], self._bucket_ms)
        except Damaged:
            sound = [x for x in there if self._is_sound(*x)]
            return samples_of([x[0] for x in sound], [x[1] for x in sound], self._bucket_ms)

    def _is_sound(self, value: bytes, bucket: int, name: str) -> bool:
        try:
            samples_of([value], [bucket], self._bucket_ms)
        except Damaged as error:
            telemetry.CHUNKS_DAMAGED.inc()
            log.error("chunk damaged", key=name, reason=str(error))
            return False
        return True

    async def forget(self, tenant: str) -> None:
        """Delete every chunk of a tenant, and what was rolled up of them."""
        shard = keys.shard_of(tenant, self._shards)
        async with store_errors():
            for pattern in (keys.chunk_pattern(shard, tenant), keys.rollup_pattern(shard, tenant)):
                async for name in self._redis.scan_iter(match=pattern, count=1000):
                    await self._redis.unlink(name)


def together(values: Sequence[bytes | None], buckets: range, bucket_ms: int) -> Together | None:
    """Samples of several series from their chunks' values, those of all `buckets` of each in turn.

    Of equal timestamps the last written wins. None if some values are damaged.
    """
    there = [i for i, value in enumerate(values) if value]
    some = [value for value in values if value]
    lengths = np.zeros(len(values), np.int64)
    try:
        if all(map(is_plain, some)):
            points = np.frombuffer(b"".join(some), POINT)
            t, v = points["t"], points["v"]
            lengths[there] = [len(value) // POINT.itemsize for value in some]
        else:
            (t, v), ends = read_values(some)
            lengths[there] = np.diff(ends)
    except Damaged:
        return None
    ends = np.cumsum(lengths)
    bounds = np.concatenate([[0], ends])[:: len(buckets)]
    own = np.tile(np.array(buckets, np.int64) * bucket_ms, len(values) // len(buckets))[there]
    begins, ends = (ends - lengths)[there], ends[there]
    late = np.flatnonzero(t[1:] <= t[:-1]) + 1
    late = np.setdiff1d(late, bounds)  # of another series
    if len(late):
        first, last = np.minimum.reduceat(t, begins), np.maximum.reduceat(t, begins)
    else:
        first, last = t[begins], t[ends - 1]
    if bool((first < own).any() or (last >= own + bucket_ms).any()):
        return None
    found = Together(bounds, t, v)
    if not len(late):
        return found
    columns = found.split()
    for i in np.unique(np.searchsorted(bounds, late, side="right") - 1).tolist():
        columns[i] = in_order(columns[i])
    return Together.of(columns)


def samples_of(values: Sequence[bytes], buckets: Sequence[int], bucket_ms: int) -> Columns:
    """Samples of one series from its chunks' values, ascending, last write wins.

    Raises `Damaged` if a value is not what we wrote, or holds samples of another bucket.
    """
    if not values:
        return Columns.empty()
    columns, bounds = read_values(values)
    own = np.array(buckets, np.int64) * bucket_ms
    t = columns.t
    if is_ascending(t):
        low, high = t[bounds[:-1]], t[bounds[1:] - 1]
    else:
        starts = bounds[:-1]
        low, high = np.minimum.reduceat(t, starts), np.maximum.reduceat(t, starts)
        columns = in_order(columns)
    if bool(((low < own) | (high >= own + bucket_ms)).any()):
        raise Damaged("it holds samples of another time than its own")
    return columns
