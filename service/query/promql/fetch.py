"""What an expression needs of its source, and a source of what was fetched.

The evaluator asks its source while it runs and cannot wait; so what it will ask is worked out
beforehand, by the same rules, and fetched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from service.domain.series import Selector
from service.query.promql.evaluate import Settings
from service.query.promql.expressions import (
    Aggregate,
    At,
    Binary,
    Call,
    Expr,
    Negate,
    Range,
    Select,
    Subquery,
    ValueType,
)
from service.query.promql.source import Source
from service.query.promql.vectors import Samples, Steps


class Part(StrEnum):
    """A figure of five minutes that stands for their samples."""

    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Rolled(Selector):
    """The same series as figures: of roll-ups where samples are gone, else of each sample."""

    part: Part = Part.SUM


@dataclass(frozen=True, slots=True)
class Span:
    """The samples with `start_ms <= t <= end_ms` of the series that a selector accepts."""

    selector: Selector
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An expression and what it reads."""

    expr: Expr
    spans: list[Span]


#: Functions whose answer over figures is that over the samples, and what they become.
_FIGURES = {
    "min_over_time": ("min_over_time", Part.MIN),
    "max_over_time": ("max_over_time", Part.MAX),
    "sum_over_time": ("sum_over_time", Part.SUM),
    "count_over_time": ("sum_over_time", Part.COUNT),
}


def wanted(expr: Expr, steps: Steps, settings: Settings) -> list[Span]:
    """What `evaluate` will ask its source; spans of one selector that touch are one."""
    return plan(expr, steps, settings).spans


def plan(expr: Expr, steps: Steps, settings: Settings, raw_from_ms: int | None = None) -> Plan:
    """How to answer an expression when samples before `raw_from_ms` are kept as roll-ups only.

    Sums, counts, means and extremes over windows that reach further back are taken from the
    roll-ups' own figures; everything else sees a mean every five minutes there.
    """
    planner = _Planner(steps, settings, raw_from_ms)
    return Plan(planner.planned(expr, steps), joined(planner.spans))


def joined(spans: Iterable[Span]) -> list[Span]:
    """Those of one selector that overlap or touch as one; by selector, then by time."""
    asked: dict[Selector, list[Span]] = {}
    for span in spans:
        asked.setdefault(span.selector, []).append(span)
    return [span for parts in asked.values() for span in _merged(parts)]


def _merged(spans: list[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start_ms):
        if found and span.start_ms <= found[-1].end_ms + 1:
            found[-1] = replace(found[-1], end_ms=max(found[-1].end_ms, span.end_ms))
        else:
            found.append(span)
    return found


@dataclass(slots=True)
class _Planner:
    """Walks an expression as the evaluator does."""

    whole: Steps
    settings: Settings
    raw_from_ms: int | None
    spans: list[Span] = field(default_factory=list)

    def planned(self, expr: Expr, steps: Steps) -> Expr:
        """The expression, with its spans noted."""
        if isinstance(expr, Select):
            begin, end = self._times(steps, expr.offset_ms, expr.at)
            self._note(expr.selector, begin - self.settings.lookback_ms + 1, end)
            return expr
        if isinstance(expr, Range):
            begin, end = self._times(steps, expr.select.offset_ms, expr.select.at)
            self._note(expr.select.selector, begin - expr.range_ms + 1, end)
            return expr
        if isinstance(expr, Subquery):
            return self._subquery(expr, steps)
        if isinstance(expr, Call):
            return self._call(expr, steps)
        if isinstance(expr, Aggregate):
            param = None if expr.param is None else self.planned(expr.param, steps)
            return replace(expr, param=param, expr=self.planned(expr.expr, steps))
        if isinstance(expr, Binary):
            left = self.planned(expr.left, steps)
            return replace(expr, left=left, right=self.planned(expr.right, steps))
        if isinstance(expr, Negate):
            return Negate(self.planned(expr.expr, steps))
        return expr

    def _note(self, selector: Selector, start_ms: int, end_ms: int) -> None:
        self.spans.append(Span(selector, start_ms, end_ms))

    def _times(self, steps: Steps, offset_ms: int, at: At) -> tuple[int, int]:
        """The first and the last time that a selector with these modifiers looks at."""
        if at is None:
            last = steps.start_ms + (steps.count - 1) * steps.step_ms
            return steps.start_ms - offset_ms, last - offset_ms
        if at == "start":
            at = self.whole.start_ms
        elif at == "end":
            at = self.whole.end_ms
        return at - offset_ms, at - offset_ms

    def _subquery(self, expr: Subquery, steps: Steps) -> Expr:
        begin, end = self._times(steps, expr.offset_ms, expr.at)
        step = expr.step_ms or self.settings.subquery_step_ms
        inner = Steps(((begin - expr.range_ms) // step + 1) * step, end, step)
        if inner.start_ms > end:
            return expr
        return replace(expr, expr=self.planned(expr.expr, inner))

    def _call(self, expr: Call, steps: Steps) -> Expr:
        known = self.settings.functions.get(expr.name)
        if known is not None and known.also is not None:
            begin, end = self._times(steps, 0, None)
            for selector, past_ms, ahead_ms, newest in known.also(expr):
                past = max(past_ms, self.settings.lookback_ms - 1) if newest else past_ms
                self._note(selector, begin - past, end + ahead_ms)
        if self._reaches_back(expr, steps):
            if expr.name == "avg_over_time":
                total, count = (
                    replace(expr, name="sum_over_time"),
                    replace(expr, name="count_over_time"),
                )
                return Binary("/", self._call(total, steps), self._call(count, steps))
            name, part = _FIGURES[expr.name]
            expr = Call(name, (_of_part(expr.args[0], part),), ValueType.VECTOR)
        return replace(expr, args=tuple(self.planned(arg, steps) for arg in expr.args))

    def _reaches_back(self, expr: Call, steps: Steps) -> bool:
        """Whether a function that figures can answer reads where samples are gone."""
        if self.raw_from_ms is None or expr.name not in {*_FIGURES, "avg_over_time"}:
            return False
        (window,) = expr.args
        if not isinstance(window, Range):
            return False
        begin, _ = self._times(steps, window.select.offset_ms, window.select.at)
        return begin - window.range_ms + 1 < self.raw_from_ms


def _of_part(expr: Expr, part: Part) -> Expr:
    if not isinstance(expr, Range) or isinstance(expr.select.selector, Rolled):
        return expr
    selector = expr.select.selector
    rolled = Rolled(selector.matchers, selector.text, part)
    return replace(expr, select=replace(expr.select, selector=rolled))


class Fetched(Source):
    """What was fetched of each span, which must hold what is asked."""

    def __init__(self, found: Sequence[tuple[Span, Samples]]) -> None:
        self._found: dict[Selector, list[tuple[Span, Samples]]] = {}
        for span, samples in found:
            self._found.setdefault(span.selector, []).append((span, samples))

    def select(self, selector: Selector, start_ms: int, end_ms: int) -> Samples:
        """See `Source`. `LookupError` for what no span holds."""
        for span, samples in self._found.get(selector, ()):
            if span.start_ms <= start_ms and end_ms <= span.end_ms:
                if (span.start_ms, span.end_ms) == (start_ms, end_ms):
                    return samples
                return _between(samples, start_ms, end_ms)
        raise LookupError(f"{selector} was not fetched from {start_ms} to {end_ms}")


def _between(samples: Samples, start_ms: int, end_ms: int) -> Samples:
    keep = (samples.t >= start_ms) & (samples.t <= end_ms)
    if keep.all():
        return samples
    bounds = np.concatenate([[0], np.cumsum(keep)])[samples.bounds]
    return Samples(samples.labels, bounds, samples.t[keep], samples.v[keep])
