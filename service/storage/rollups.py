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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.asyncio import Redis

from service import telemetry
from service.domain.errors import Damaged
from service.storage import keys
from service.storage.columns import Columns, Ids, Times, Values
from service.storage.redis import store_errors
from service.storage.sealed import decimal_places, pack, unpack

log = structlog.get_logger(__name__)

#: Length of a row.
STEP_MS = 300_000
#: Buckets in one hash: a week of them with the default length.
BUCKETS = 28
#: Sums below this, as integers, have all their digits.
_EXACT = float(2**52)
#: Hashes asked for at once; a reply of more would hold the store up for others.
_HASHES_AT_ONCE = 100

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
        return self._picked(slice(int(a), int(b)))

    def _picked(self, which: slice | NDArray[np.int64]) -> "Aggregates":
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
        any(p.rolled_up for p in parts),
    )
    return _grouped(joined._picked(np.argsort(joined.t, kind="stable")), step_ms)


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


def unpack_rows(stored: bytes) -> Aggregates:
    """From what is stored; `Damaged` if it is not what we wrote."""
    t, (low, high, total, count) = unpack(stored, 4)
    return Aggregates(t, low, high, total, count.astype(np.int64), rolled_up=True)


class RollupReader:
    """Reads the rows of sealed buckets."""

    def __init__(self, redis: Redis, shards: int) -> None:
        self._shards = shards
        self._read = redis.register_script(_READ)

    async def read(
        self, tenant: str, ids: Sequence[int], buckets: range
    ) -> dict[int, dict[int, Aggregates]]:
        """Rows by series and bucket, of those buckets that have any and no samples since."""
        shard = keys.shard_of(tenant, self._shards)
        wanted = [(i, part) for i in ids for part in _by_period(buckets)]
        found: dict[int, dict[int, Aggregates]] = {i: {} for i in ids}
        for begin in range(0, len(wanted), _HASHES_AT_ONCE):
            batch = wanted[begin : begin + _HASHES_AT_ONCE]
            names = [keys.rollup(shard, tenant, i, part[0] // BUCKETS) for i, part in batch]
            arguments: list[str | int] = []
            for i, part in batch:
                arguments += (keys.chunk_member(tenant, i, ""), part[0], part[-1])
            async with store_errors():
                answers = await self._read(keys=[keys.unsealed(shard), *names], args=arguments)
            for (i, part), name, values in zip(batch, names, answers, strict=True):
                for bucket, value in zip(part, values, strict=True):
                    if value:
                        found[i].update(_rows(name, bucket, value))
        return found


def _rows(name: str, bucket: int, value: bytes) -> dict[int, Aggregates]:
    try:
        return {bucket: unpack_rows(value)}
    except Damaged as error:  # the samples serve instead, if they are still there
        telemetry.CHUNKS_DAMAGED.inc()
        log.error("chunk damaged", key=name, field=bucket, reason=str(error))
        return {}


def _by_period(buckets: range) -> list[range]:
    """The same buckets, those of one hash together."""
    borders = range(buckets.start // BUCKETS * BUCKETS, buckets.stop, BUCKETS)
    return [
        range(max(buckets.start, border), min(buckets.stop, border + BUCKETS)) for border in borders
    ]
