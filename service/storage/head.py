"""The newest samples of the series that a worker owns, in memory, for scoring and rules."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from service.domain.series import Series
from service.storage.columns import Columns, Groups, is_ascending

_EMPTY: Mapping[int, Series] = MappingProxyType({})


_NEVER = int(np.iinfo(np.int64).min)


#: A buffer grows by this share beyond what is kept before the oldest samples go.
_SPARE = 0.25
#: What models say is looked back on for less long than what was recorded: this share of it is kept.
_DERIVED, DERIVED_MIN = 8, 512


class _Buffer:
    """Ascending unique timestamps with values, newest `size` kept; grows by a quarter beyond that.

    Threads read while the event loop writes: what a view shows is never written again, and the
    whole state is replaced in one assignment.
    """

    __slots__ = ("_most", "_newest", "_state", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._most = size + max(1, int(_SPARE * size))
        self._state = _room(min(_FIRST, self._most))
        self._newest = _NEVER

    def view(self) -> Columns:
        t, v, n = self._state
        return Columns(t[:n], v[:n])

    def last(self) -> tuple[int, float] | None:
        t, v, n = self._state
        return (int(t[n - 1]), float(v[n - 1])) if n else None

    def add(self, t: int, v: float) -> None:
        """One sample: what most calls bring, so it makes no arrays."""
        all_t, all_v, n = self._state
        if t <= self._newest or n == len(all_t):
            self.extend(np.array([t]), np.array([v]))
            return
        all_t[n], all_v[n] = t, v
        self._newest = t
        self._state = (all_t, all_v, n + 1)

    def append(self, t: np.ndarray, v: np.ndarray, first: int, last: int) -> None:
        """Ascending samples, from `first` to `last`."""
        all_t, all_v, n = self._state
        end = n + len(t)
        if first <= self._newest or end > len(all_t):
            self.extend(t, v)
            return
        all_t[n:end], all_v[n:end] = t, v
        self._newest = last
        self._state = (all_t, all_v, end)

    def extend(self, t: np.ndarray, v: np.ndarray) -> None:
        """Samples in any order."""
        old_t, old_v, n = self._state
        in_order = int(t[0]) > self._newest and is_ascending(t)
        end = n + len(t)
        if not in_order or end > len(old_t):
            old = Columns(old_t[:n], old_v[:n])
            t, v = _append(old, t, v) if in_order else _merge(old, t, v)
            if len(t) > self._most:
                t, v = t[-self.size :], v[-self.size :]
            old_t, old_v, n = _room(max(len(t), min(self._most, max(_FIRST, 2 * len(t)))))
            end = len(t)
        old_t[n:end], old_v[n:end] = t, v
        self._newest = int(old_t[end - 1])
        self._state = (old_t, old_v, end)


#: Room for samples that a buffer has at first; many series are short.
_FIRST = 64


def _room(size: int) -> tuple[np.ndarray, np.ndarray, int]:
    return np.empty(size, np.int64), np.empty(size, np.float64), 0


def _append(old: Columns, t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([old.t, t]), np.concatenate([old.v, v])


def _merge(old: Columns, t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, v = _append(old, t, v)
    order = np.argsort(t, kind="stable")
    t, v = t[order], v[order]
    last = np.append(t[1:] != t[:-1], True)  # of equal timestamps the last written wins
    return t[last], v[last]


class Head:
    """Recent samples by tenant and series; `size` newest of each are kept at least.

    Of what models say an eighth of that, at least `DERIVED_MIN`: to a series there are seven more.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        #: Newest samples that are kept of what models say.
        self.derived_size = min(size, max(DERIVED_MIN, size // _DERIVED))
        self._series: dict[str, dict[int, Series]] = {}
        self._buffers: dict[str, dict[int, _Buffer]] = {}

    def tenants(self) -> list[str]:
        """The tenants of the shards that this worker owns."""
        return list(self._series)

    def series(self, tenant: str) -> Mapping[int, Series]:
        """Every series of a tenant, derived ones too."""
        return self._series.get(tenant, _EMPTY)

    def add_series(self, tenant: str, series: Mapping[int, Series]) -> None:
        """Make series known; samples may follow."""
        # A new dictionary: a thread may be looking through the old one.
        self._series[tenant] = {**self._series.get(tenant, {}), **series}
        self._buffers.setdefault(tenant, {})

    def unknown(self, tenant: str, ids: Iterable[int]) -> list[int]:
        """Those of the ids whose series is not known yet."""
        known = self._series.get(tenant, _EMPTY)
        return [i for i in ids if i not in known]

    def extend(self, tenant: str, samples: Groups) -> None:
        """Add samples. What can be asked of all groups at once is, for there are thousands."""
        buffers = self._buffers.setdefault(tenant, {})
        t, v, bounds = samples.t, samples.v, samples.bounds
        starts, ends = bounds[:-1], bounds[1:]
        falls = np.flatnonzero(t[1:] <= t[:-1]) + 1  # where a group begins it may
        ascending = np.ones(len(starts), bool)
        ascending[np.searchsorted(bounds, np.setdiff1d(falls, starts), side="right") - 1] = False
        of_groups = zip(
            samples.ids,
            starts.tolist(),
            ends.tolist(),
            t[starts].tolist(),
            t[ends - 1].tolist(),
            v[starts].tolist(),
            ascending.tolist(),
            strict=True,
        )
        for series, a, b, first, last, value, in_order in of_groups:
            buffer = buffers.get(series)
            if buffer is None:
                buffer = buffers[series] = self._made(tenant, series)
            if b - a == 1:
                buffer.add(first, value)
            elif in_order:
                buffer.append(t[a:b], v[a:b], first, last)
            else:
                buffer.extend(t[a:b], v[a:b])

    def put(self, tenant: str, series: int, columns: Columns) -> None:
        """Add samples of one series."""
        if len(columns.t):
            buffers = self._buffers.setdefault(tenant, {})
            buffer = buffers.get(series)
            if buffer is None:
                buffer = buffers[series] = self._made(tenant, series)
            buffer.extend(*columns)

    def _made(self, tenant: str, series: int) -> _Buffer:
        known = self._series.get(tenant, _EMPTY).get(series)
        return _Buffer(self.derived_size if known is not None and known.is_derived else self._size)

    def columns(self, tenant: str, series: int) -> Columns:
        """All samples in memory."""
        buffer = self._buffers.get(tenant, {}).get(series)
        return buffer.view() if buffer is not None else Columns.empty()

    def window(self, tenant: str, series: int, start_ms: int, end_ms: int) -> Columns:
        """Samples in memory with `start_ms <= t <= end_ms`."""
        return self.columns(tenant, series).between(start_ms, end_ms)

    def last(self, tenant: str, series: int, at_ms: int) -> tuple[int, float] | None:
        """The newest sample with t <= `at_ms`, as (milliseconds, value)."""
        buffer = self._buffers.get(tenant, {}).get(series)
        if buffer is None:
            return None
        newest = buffer.last()
        if newest is None or newest[0] <= at_ms:  # nearly always
            return newest
        t, v = buffer.view()
        i = int(np.searchsorted(t, at_ms, side="right")) - 1
        return (int(t[i]), float(v[i])) if i >= 0 else None

    def remove(self, tenant: str, ids: Iterable[int]) -> None:
        """Forget some series of a tenant."""
        gone = set(ids)
        kept = {i: s for i, s in self._series.get(tenant, _EMPTY).items() if i not in gone}
        if tenant in self._series:
            self._series[tenant] = kept
        buffers = self._buffers.get(tenant, {})
        for series in gone & buffers.keys():
            del buffers[series]

    def drop(self, tenant: str) -> None:
        """Forget a tenant."""
        self._series.pop(tenant, None)
        self._buffers.pop(tenant, None)
