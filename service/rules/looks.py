"""What functions of models see: the series of a selector, and of each what models wrote, at a step.

In a worker that is its head; elsewhere what the query's source gives, looked up once a query.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.domain.series import LabelPairs, Selector, Series, series_id
from service.query.promql.functions.registry import Asked, Reach
from service.query.promql.source import Source
from service.rules.sight import HeadReader, Sight
from service.storage.columns import Columns


class Look(Protocol):
    """Where functions of models look."""

    def at(
        self, asked: Asked, selector: Selector, reaches: Sequence[Reach], step: int
    ) -> tuple[Sight, Sequence[Series]]:
        """What is seen at a step of the query, and the series that the selector accepts."""
        ...


class Selecting(Protocol):
    """Remembers which series a selector accepts."""

    def select(
        self, tenant: str, known: Mapping[int, Series], selector: Selector
    ) -> Sequence[Series]:
        """Those of the known series."""
        ...


@dataclass(frozen=True, slots=True)
class HeadLook:
    """A worker's head at the time of an evaluation."""

    tenant: str
    head: HeadReader
    index: Selecting
    lookback_ms: int

    def at(
        self, asked: Asked, selector: Selector, reaches: Sequence[Reach], step: int
    ) -> tuple[Sight, Sequence[Series]]:
        """See `Look.at`."""
        known = self.head.series(self.tenant)
        at_ms = asked.steps.start_ms + step * asked.steps.step_ms
        sight = Sight(self.tenant, self.head, known, at_ms, self.lookback_ms)
        return sight, self.index.select(self.tenant, known, selector)


@dataclass(slots=True)
class SourceLook:
    """A query's source. Use one for one query."""

    lookback_ms: int
    _seen: dict[Selector, "_Seen"] = field(default_factory=dict)

    def at(
        self, asked: Asked, selector: Selector, reaches: Sequence[Reach], step: int
    ) -> tuple[Sight, Sequence[Series]]:
        """See `Look.at`."""
        asked.budget.check()
        seen = self._seen.get(selector)
        if seen is None:
            seen = self._seen[selector] = _Seen()
            for reach in reaches:
                seen.read(asked, reach, own=reach.selector == selector)
        at_ms = asked.steps.start_ms + step * asked.steps.step_ms
        return Sight("", seen, seen.known, at_ms, self.lookback_ms), seen.own


class _Seen:
    """Samples of some series, as a head has them."""

    def __init__(self) -> None:
        self.known: dict[int, Series] = {}
        self.own: list[Series] = []
        self._columns: dict[int, Columns] = {}

    def read(self, asked: Asked, reach: Reach, *, own: bool) -> None:
        """Read what a reach takes in over all steps of the query."""
        steps = asked.steps
        first, last = steps.start_ms - reach.past_ms, int(steps.times[-1]) + reach.ahead_ms
        labels, bounds, t, v = asked.source.select(reach.selector, first, last)
        asked.budget.read(len(labels), len(t))
        for i, pairs in enumerate(labels):
            series = series_of(asked.source, pairs)
            self.known[series.id] = series
            self._columns[series.id] = Columns(
                t[bounds[i] : bounds[i + 1]], v[bounds[i] : bounds[i + 1]]
            )
            if own:
                self.own.append(series)

    def series(self, tenant: str) -> Mapping[int, Series]:
        """Every series that was read."""
        return self.known

    def window(self, tenant: str, series: int, start_ms: int, end_ms: int) -> Columns:
        """Samples with `start_ms <= t <= end_ms`."""
        return self._columns.get(series, Columns.empty()).between(start_ms, end_ms)

    def last(self, tenant: str, series: int, at_ms: int) -> tuple[int, float] | None:
        """The newest sample with t <= `at_ms`."""
        t, v = self._columns.get(series, Columns.empty())
        place = bisect_right(t, at_ms) - 1
        return (int(t[place]), float(v[place])) if place >= 0 else None


def series_of(source: Source, labels: LabelPairs) -> Series:
    """The series of those labels."""
    return Series(series_id(labels), labels, source.metric_type(labels))
