"""The newest samples of the series that a worker owns, in memory, for scoring and rules."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from service.domain.series import Series
from service.storage.columns import Columns

_EMPTY: Mapping[int, Series] = MappingProxyType({})


class _Buffer:
    """Ascending unique timestamps with values, newest `size` kept; grows to twice that.

    Threads read while the event loop writes: what a view shows is never written again, and the
    whole state is replaced in one assignment.
    """

    __slots__ = ("_state", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._state = _room(min(64, 2 * size))

    def view(self) -> Columns:
        t, v, n = self._state
        return Columns(t[:n], v[:n])

    def extend(self, t: np.ndarray, v: np.ndarray) -> None:
        old_t, old_v, n = self._state
        ascending = len(t) == 1 or bool(np.all(t[1:] > t[:-1]))
        in_order = ascending and (not n or bool(t[0] > old_t[n - 1]))
        end = n + len(t)
        if not in_order or end > len(old_t):
            old = Columns(old_t[:n], old_v[:n])
            t, v = _append(old, t, v) if in_order else _merge(old, t, v)
            if len(t) > 2 * self.size:
                t, v = t[-self.size :], v[-self.size :]
            old_t, old_v, n = _room(max(len(t), min(2 * self.size, max(64, 2 * len(t)))))
            end = len(t)
        old_t[n:end], old_v[n:end] = t, v
        self._state = (old_t, old_v, end)


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
    """Recent samples by tenant and series; `size` newest of each are kept at least."""

    def __init__(self, size: int) -> None:
        self._size = size
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

    def unknown(self, tenant: str, ids: np.ndarray) -> list[int]:
        """Those of the ids whose series is not known yet."""
        known = self._series.get(tenant, _EMPTY)
        return [i for i in np.unique(ids).tolist() if i not in known]

    def extend(self, tenant: str, ids: np.ndarray, t: np.ndarray, v: np.ndarray) -> list[int]:
        """Add samples (each array (n,), in order of arrival); the ids that were touched."""
        order = np.argsort(ids, kind="stable")
        ids, t, v = ids[order], t[order], v[order]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else ids
        ends = np.r_[starts[1:], len(ids)]
        buffers = self._buffers.setdefault(tenant, {})
        touched: list[int] = ids[starts].tolist()
        for series, a, b in zip(touched, starts.tolist(), ends.tolist(), strict=True):
            buffer = buffers.get(series)
            if buffer is None:
                buffer = buffers[series] = _Buffer(self._size)
            buffer.extend(t[a:b], v[a:b])
        return touched

    def columns(self, tenant: str, series: int) -> Columns:
        """All samples in memory."""
        buffer = self._buffers.get(tenant, {}).get(series)
        return buffer.view() if buffer is not None else Columns.empty()

    def window(self, tenant: str, series: int, start_ms: int, end_ms: int) -> Columns:
        """Samples in memory with `start_ms <= t <= end_ms`."""
        return self.columns(tenant, series).between(start_ms, end_ms)

    def last(self, tenant: str, series: int, at_ms: int) -> tuple[int, float] | None:
        """The newest sample with t <= `at_ms`, as (milliseconds, value)."""
        t, v = self.columns(tenant, series)
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
