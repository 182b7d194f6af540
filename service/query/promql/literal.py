"""Series that are held in memory as they were given: those of a test, of a file, of a rule."""

from collections.abc import Iterable

import numpy as np

from service.domain.errors import Unprocessable
from service.domain.series import NAME, LabelPairs, Selector
from service.query.matchers import accepts
from service.query.promql.source import Source
from service.query.promql.vectors import STALE_BITS, Array, Samples
from service.storage.columns import Columns, Times

#: The value that ends a series.
STALE = float(np.int64(STALE_BITS).view(np.float64))


class Literal(Source):
    """Some series, to which samples may be added in order of time.

    What is later than `until_ms` is not seen yet, if that is set.
    """

    def __init__(self, series: Iterable[tuple[LabelPairs, Columns]] = ()) -> None:
        self.until_ms: int | None = None
        self._series: list[_Growing] = []
        self._places: dict[LabelPairs, int] = {}
        self._named: dict[str, list[int]] = {}
        self._accepted: dict[Selector, list[int]] = {}
        for labels, columns in series:
            self.put(labels, columns)

    def __len__(self) -> int:
        return len(self._series)

    def extent(self) -> tuple[int, int] | None:
        """The times of the earliest and the latest sample, None if there is none."""
        some = [one.columns.t for one in self._series if len(one.columns.t)]
        if not some:
            return None
        return min(int(t[0]) for t in some), max(int(t[-1]) for t in some)

    def put(self, labels: LabelPairs, columns: Columns) -> None:
        """A whole series; it takes the place of one with the same labels."""
        self._of(labels).set(columns)

    def append(self, labels: LabelPairs, t_ms: int, value: float) -> None:
        """One sample more; `Unprocessable` if its series has a later one, or another then."""
        self._of(labels).append(t_ms, value)

    def select(self, selector: Selector, start_ms: int, end_ms: int) -> Samples:
        """The samples with `start_ms <= t <= end_ms` of the series that a selector accepts."""
        end = end_ms if self.until_ms is None else min(end_ms, self.until_ms)
        series = [self._series[place] for place in self._matching(selector)]
        found = [(one.labels, one.columns.between(start_ms, end)) for one in series]
        return Samples.of([(labels, columns) for labels, columns in found if len(columns.t)])

    def _matching(self, selector: Selector) -> list[int]:
        known = self._accepted.get(selector)
        if known is None:
            name = selector.name
            asked = range(len(self._series)) if name is None else self._named.get(name, ())
            series = self._series
            known = [i for i in asked if accepts(selector.matchers, dict(series[i].labels))]
            self._accepted[selector] = known
        return known

    def _of(self, labels: LabelPairs) -> "_Growing":
        place = self._places.get(labels)
        if place is None:
            place = self._places[labels] = len(self._series)
            self._series.append(_Growing(labels))
            self._named.setdefault(dict(labels).get(NAME, ""), []).append(place)
            self._accepted.clear()
        return self._series[place]


class _Growing:
    """One series in arrays that have room for more."""

    def __init__(self, labels: LabelPairs) -> None:
        self.labels = labels
        self._t: Times = np.empty(0, np.int64)
        self._v: Array = np.empty(0)
        self._count = 0

    @property
    def columns(self) -> Columns:
        return Columns(self._t[: self._count], self._v[: self._count])

    def set(self, columns: Columns) -> None:
        self._t, self._v = columns
        self._count = len(columns.t)

    def append(self, t_ms: int, value: float) -> None:
        count = self._count
        new = np.float64(value)
        if count and t_ms <= self._t[count - 1]:
            if t_ms < self._t[count - 1]:
                raise Unprocessable("out of order sample")
            if new.view(np.int64) != self._v[count - 1].view(np.int64):
                raise Unprocessable("duplicate sample for timestamp")
            return
        if count == len(self._t):
            # Twice as large, and new: what was given is not written into.
            room = max(16, count)
            self._t = np.concatenate([self._t, np.zeros(room, np.int64)])
            self._v = np.concatenate([self._v, np.zeros(room)])
        self._t[count], self._v[count] = t_ms, new
        self._count = count + 1
