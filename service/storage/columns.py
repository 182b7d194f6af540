"""Samples travel in columns. Timestamps are int64 milliseconds, values float64."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Values = NDArray[np.float64]
Ids = NDArray[np.int64]

#: One sample in the log: which series, when, what.
RECORD = np.dtype([("id", "<i8"), ("t", "<i8"), ("v", "<f8")])
#: One sample in a chunk.
POINT = np.dtype([("t", "<i8"), ("v", "<f8")])


class Columns(NamedTuple):
    """Samples of one series: `t` (n,) milliseconds ascending and unique, `v` (n,)."""

    t: Times
    v: Values

    @classmethod
    def empty(cls) -> "Columns":
        """No samples."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float64))

    def between(self, start_ms: int, end_ms: int) -> "Columns":
        """The samples with `start_ms <= t <= end_ms`."""
        a, b = np.searchsorted(self.t, [start_ms, end_ms + 1])
        return Columns(self.t[a:b], self.v[a:b])

    def at(self, t: Times) -> Values:
        """The values at exactly the times `t` (n,), NaN where there is no sample."""
        found = np.full(len(t), np.nan)
        if len(self.t):
            place = np.minimum(np.searchsorted(self.t, t), len(self.t) - 1)
            same = self.t[place] == t
            found[same] = self.v[place[same]]
        return found

    def pack(self) -> bytes:
        """As 16-byte records of a chunk."""
        points = np.empty(len(self.t), POINT)
        points["t"], points["v"] = self
        return points.tobytes()


class Together(NamedTuple):
    """Samples of k series: those of series i from `bounds[i]` to `bounds[i + 1]` (k + 1,).

    `t` and `v` (all,) as in `Columns`, one series after the other.
    """

    bounds: Ids
    t: Times
    v: Values

    @classmethod
    def of(cls, columns: "list[Columns]") -> "Together":
        """One after the other."""
        lengths = [0, *(len(each.t) for each in columns)]
        none = Columns.empty()
        return cls(
            np.cumsum(lengths),
            np.concatenate([each.t for each in (none, *columns)]),
            np.concatenate([each.v for each in (none, *columns)]),
        )

    def between(self, start_ms: int, end_ms: int) -> "Together":
        """The samples with `start_ms <= t <= end_ms`."""
        keep = (self.t >= start_ms) & (self.t <= end_ms)
        if keep.all():
            return self
        bounds = np.concatenate([[0], np.cumsum(keep)])[self.bounds]
        return Together(bounds, self.t[keep], self.v[keep])

    def split(self) -> list[Columns]:
        """Each series by itself."""
        return [Columns(self.t[a:b], self.v[a:b]) for a, b in pairwise(self.bounds.tolist())]


class Batch(NamedTuple):
    """Samples of many series of one tenant, in order of arrival: `id`, `t`, `v`, each (n,)."""

    id: Ids
    t: Times
    v: Values

    @classmethod
    def empty(cls) -> "Batch":
        """No samples."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))

    def pack(self) -> bytes:
        """As 24-byte records for the log."""
        records = np.empty(len(self.id), RECORD)
        records["id"], records["t"], records["v"] = self
        return records.tobytes()

    @classmethod
    def unpack(cls, blob: bytes) -> "Batch":
        """From the log's records."""
        records = np.frombuffer(blob, RECORD)
        return cls(
            np.ascontiguousarray(records["id"]),
            np.ascontiguousarray(records["t"]),
            np.ascontiguousarray(records["v"]),
        )

    @classmethod
    def join(cls, parts: "list[Batch]") -> "Batch":
        """One after the other."""
        return cls(
            np.concatenate([p.id for p in parts]) if parts else np.empty(0, np.int64),
            np.concatenate([p.t for p in parts]) if parts else np.empty(0, np.int64),
            np.concatenate([p.v for p in parts]) if parts else np.empty(0, np.float64),
        )


class Groups(NamedTuple):
    """Samples by series and time bucket, of each group in order of arrival.

    `ids` and `buckets` have (k,), ordered by bucket; the samples of group i are those from
    `bounds[i]` to `bounds[i + 1]` of `t` and `v`.
    """

    ids: list[int]
    buckets: list[int]
    bounds: NDArray[np.int64]
    t: Times
    v: Values

    @classmethod
    def of(cls, batch: Batch, bucket_ms: int) -> "Groups":
        """The groups of at least one sample."""
        buckets = batch.t // bucket_ms
        if (buckets == buckets[0]).all():
            order = np.argsort(batch.id, kind="stable")
        else:
            order = np.lexsort((batch.id, buckets))  # stable too
        ids, buckets = batch.id[order], buckets[order]
        new = (ids[1:] != ids[:-1]) | (buckets[1:] != buckets[:-1])
        starts = np.append(0, np.flatnonzero(new) + 1)
        return cls(
            ids[starts].tolist(),
            buckets[starts].tolist(),
            np.append(starts, len(ids)),
            batch.t[order],
            batch.v[order],
        )


def is_ascending(t: Times) -> bool:
    """Whether each time is later than the one before it."""
    return bool((t[1:] > t[:-1]).all())


def in_order(columns: Columns) -> Columns:
    """The same ascending, from any order; of equal timestamps the last written wins."""
    t, v = columns
    if is_ascending(t):
        return columns
    order = np.argsort(t, kind="stable")
    t, v = t[order], v[order]
    last = np.append(t[1:] != t[:-1], True)
    return Columns(t[last], v[last])
