"""The newest samples of the series that a worker owns, in memory, for scoring and rules."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from service.domain.series import Series
from service.storage.columns import Columns

_EMPTY: Mapping[int, Series] = MappingProxyType({})


class _Buffer:
    """Ascending unique timestamps with values, newest `size` kept; grows to twice that."""

    __slots__ = ("_n", "_t", "_v", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._t = np.empty(min(64, 2 * size), np.int64)
        self._v = np.empty(len(self._t), np.float64)
        self._n = 0

    def view(self) -> Columns:
        return Columns(self._t[: self._n], self._v[: self._n])

    def extend(self, t: np.ndarray, v: np.ndarray) -> None:
        ascending = len(t) == 1 or bool(np.all(t[1:] > t[:-1]))
        if not ascending or (self._n and t[0] <= self._t[self._n - 1]):
            t, v = _merge(self.view(), t, v)
            self._n = 0
        if self._n + len(t) > len(self._t):
            keep = self.view()
            # Copies: readers may still hold views of the old arrays.
            t = np.concatenate([keep.t, t])[-self.size :]
            v = np.concatenate([keep.v, v])[-self.size :]
            room = min(2 * self.size, max(64, 2 * len(t)))
            self._t, self._v = np.empty(room, np.int64), np.empty(room, np.float64)
            self._n = 0
        elif self._n == 0:
            self._t, self._v = np.empty_like(self._t), np.empty_like(self._v)
        end = self._n + len(t)
        self._t[self._n : end], self._v[self._n : end] = t, v
        self._n = end


def _merge(old: Columns, t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, v = np.concatenate([old.t, t]), np.concatenate([old.v, v])
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
        self._series.setdefault(tenant, {}).update(series)
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

    def drop(self, tenant: str) -> None:
        """Forget a tenant."""
        self._series.pop(tenant, None)
        self._buffers.pop(tenant, None)
