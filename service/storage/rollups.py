"""Roll-ups: lowest, highest, sum and count of a series' samples, five minutes at a time.

They are made when a chunk is sealed, from the tenant's own series only: what models write can be
had for as long as its samples are kept. They outlive the samples by far, in a hash of 28 buckets
whose fields are buckets. Values that are no number (NaN, stale markers) are not counted; infinities
are. A row's sum is rounded to the decimal places of its samples, if they have nine at most; sums
over several rows are added up in order of time. So the last digits may differ from a sum over the
samples.

If a chunk's length is no multiple of five minutes, the row at its border is in two parts, one in
each bucket; readers put them together as they do with all rows of one step.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.asyncio import Redis

from service import telemetry
from service.domain.errors import Damaged
from service.storage import keys
from service.storage.blocks import unpack_all
from service.storage.columns import Columns, Ids, Times, Values
from service.storage.redis import store_errors
from service.storage.sealed import decimal_places, pack

log = structlog.get_logger(__name__)

#: Length of a row.
STEP_MS = 300_000
#: Buckets in one hash: a week of them with the default length.
BUCKETS = 28
#: Sums below this, as integers, have all their digits.
_EXACT = float(2**52)
#: Hashes asked for at once; a reply of more would hold the store up for others.
_HASHES_AT_ONCE = 100
#: Bytes from which on rows are unpacked beside the event loop.
_LARGE = 64 << 10

# KEYS: unsealed, then hashes.  ARGV: of each hash what its buckets' names begin with in `unsealed`,
# first and last bucket.  Answers the values of each; none where samples came since.
_READ = """
local answer = {}
for i = 2, #KEYS do
  local prefix, values = ARGV[3 * i - 5], {}
  for bucket = tonumber(ARGV[3 * i - 4]), tonumber(ARGV[3 * i - 3]) do
    local name = string.format('%.0f', bucket)
    local value = redis.call('HGET', KEYS[i], name)
    if value and redis.call('ZSCORE', KEYS[1], prefix .. name) then value = false end
    values[#values + 1] = value
  end
  answer[i - 1] = values
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Aggregates:
    """Rows, ascending: `t` (n,) start in milliseconds, `min`, `max`, `sum`, `count` (n,) each.

    Every row counts at least one sample. `rolled_up` says whether any of it came from roll-ups.
    """

    t: Times
    min: Values
    max: Values
    sum: Values
    count: Ids
    rolled_up: bool = False

    def between(self, start_ms: int, end_ms: int) -> "Aggregates":
        """The rows that begin at `start_ms <= t < end_ms`."""
        a, b = np.searchsorted(self.t, [start_ms, end_ms])
        return self.picked(slice(int(a), int(b)))

    def picked(self, which: slice | NDArray[np.int64]) -> "Aggregates":
        """Some of the rows, by place."""
        return Aggregates(
            self.t[which],
            self.min[which],
            self.max[which],
            self.sum[which],
            self.count[which],
            self.rolled_up,
        )


def aggregate(columns: Columns, step_ms: int) -> Aggregates:
    """Rows of samples (n,), steps counted from the epoch; NaN is left out."""
    counted = ~np.isnan(columns.v)
    t, v = columns.t[counted], columns.v[counted]
    return _grouped(Aggregates(t, v, v, v, np.ones(len(t), np.int64)), step_ms)


def roll_up(columns: Columns) -> Aggregates:
    """Rows of five minutes of samples (n,), as they are stored.

    Sums of decimal numbers are decimal numbers: what binary addition left behind is rounded off,
    which brings them nearer to the true sum and makes them shorter.
    """
    rows = aggregate(columns, STEP_MS)
    places = decimal_places(columns.v[np.isfinite(columns.v)])
    if places is None:
        return rows
    scaled = rows.sum * 10.0**places
    exact = np.abs(scaled) < _EXACT  # also refuses what is infinite or no number
    total = np.where(exact, np.rint(np.where(exact, scaled, 0.0)) / 10.0**places, rows.sum)
    return replace(rows, sum=total)


def merge(parts: Sequence[Aggregates], step_ms: int) -> Aggregates:
    """Rows of a longer step from rows in any order; each must lie in one step as a whole."""
    if not parts:
        return aggregate(Columns.empty(), step_ms)
    joined = Aggregates(
        np.concatenate([p.t for p in parts]),
        np.concatenate([p.min for p in parts]),
        np.concatenate([p.max for p in parts]),
        np.concatenate([p.sum for p in parts]),
        np.concatenate([p.count for p in parts]),
        any(p.rolled_up and len(p.t) for p in parts),
    )
    return _grouped(joined.picked(np.argsort(joined.t, kind="stable")), step_ms)


def _grouped(rows: Aggregates, step_ms: int) -> Aggregates:
    if not len(rows.t):
        return rows
    t = rows.t // step_ms * step_ms
    starts = np.flatnonzero(np.append(True, t[1:] != t[:-1]))
    with np.errstate(all="ignore"):  # infinities of both signs have no sum
        return Aggregates(
            t[starts],
            np.minimum.reduceat(rows.min, starts),
            np.maximum.reduceat(rows.max, starts),
            np.add.reduceat(rows.sum, starts),
            np.add.reduceat(rows.count, starts),
            rows.rolled_up,
        )


def pack_rows(rows: Aggregates) -> bytes:
    """As stored; nothing for no rows."""
    if not len(rows.t):
        return b""
    return pack(rows.t, [rows.min, rows.max, rows.sum, rows.count.astype(np.float64)])


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Rows by series, ascending by bucket, and of each series the buckets that have none here."""

    rows: dict[int, Aggregates]
    missing: dict[int, list[int]]


class RollupReader:
    """Reads the rows of sealed buckets."""

    def __init__(self, redis: Redis, shards: int) -> None:
        self._shards = shards
        self._read = redis.register_script(_READ)

    async def read(self, tenant: str, ids: Sequence[int], buckets: range) -> RolledUp:
        """The rows of those buckets that have any and no samples since."""
        shard = keys.shard_of(tenant, self._shards)
        wanted = [(i, part) for i in ids for part in _by_period(buckets)]
        stored: list[bytes | None] = []  # all buckets of each series in turn
        for begin in range(0, len(wanted), _HASHES_AT_ONCE):
            batch = wanted[begin : begin + _HASHES_AT_ONCE]
            names = [keys.rollup(shard, tenant, i, part[0] // BUCKETS) for i, part in batch]
            arguments: list[str | int] = []
            for i, part in batch:
                arguments += (keys.chunk_member(tenant, i, ""), part[0], part[-1])
            async with store_errors():
                answers = await self._read(keys=[keys.unsealed(shard), *names], args=arguments)
            for values in answers:
                stored += values
        some = [place for place, value in enumerate(stored) if value]
        values = [value for value in stored if value]
        if sum(map(len, values)) < _LARGE:
            rows, bounds, damaged = rows_of(values)
        else:
            rows, bounds, damaged = await asyncio.to_thread(rows_of, values)
        for place, error in damaged:  # the samples serve instead, if they are still there
            series, bucket = divmod(some[place], len(buckets))
            name = keys.rollup(shard, tenant, ids[series], buckets[bucket] // BUCKETS)
            telemetry.CHUNKS_DAMAGED.inc()
            log.error("chunk damaged", key=name, field=buckets[bucket], reason=str(error))
        gone = {some[place] for place, _ in damaged}
        # Where in `values` those of each series begin.
        starts = np.searchsorted(some, np.arange(len(ids) + 1) * len(buckets))
        found = RolledUp({}, {})
        for number, (series, (a, b)) in enumerate(zip(ids, pairwise(starts.tolist()), strict=True)):
            first = number * len(buckets)
            here = {place - first for place in some[a:b] if place not in gone}
            found.rows[series] = rows.picked(slice(int(bounds[a]), int(bounds[b])))
            found.missing[series] = [k for at, k in enumerate(buckets) if at not in here]
        return found


def rows_of(
    values: Sequence[bytes],
) -> tuple[Aggregates, NDArray[np.int64], list[tuple[int, Damaged]]]:
    """The rows of what is stored (k,), those of value i from `bounds[i]` to `bounds[i + 1]`.

    Besides them which values are not what we wrote; they have no rows.
    """
    groups, damaged = unpack_all(values, 4)
    lengths = np.zeros(len(values), np.int64)
    for group in groups:
        lengths[group.which] = group.t.shape[1]
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    t = np.empty(bounds[-1], np.int64)
    figures = np.empty((4, bounds[-1]))
    for group in groups:
        at = bounds[group.which][:, None] + np.arange(group.t.shape[1])
        t[at] = group.t
        for figure, column in zip(figures, group.columns, strict=True):
            figure[at] = column
    low, high, total, count = figures
    rows = Aggregates(t, low, high, total, count.astype(np.int64), rolled_up=True)
    return rows, bounds, damaged


def _by_period(buckets: range) -> list[range]:
    """The same buckets, those of one hash together."""
    borders = range(buckets.start // BUCKETS * BUCKETS, buckets.stop, BUCKETS)
    return [
        range(max(buckets.start, border), min(buckets.stop, border + BUCKETS)) for border in borders
    ]
