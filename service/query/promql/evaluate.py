"""Evaluates an expression over a source, at one time or at many, all steps at once.

Pure: the source and the times are arguments. Semantics are those of Prometheus 3: ranges and the
lookback are open at their left end, a stale marker ends a series.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from service.domain.errors import InvalidInput
from service.query.promql.aggregate import aggregate
from service.query.promql.budget import Budget, Limits, Notes
from service.query.promql.expressions import (
    Aggregate,
    At,
    Binary,
    Call,
    Expr,
    Labels,
    Negate,
    Number,
    Range,
    Select,
    Subquery,
    ValueType,
    type_of,
)
from service.query.promql.functions import FUNCTIONS
from service.query.promql.functions.registry import Function, Value
from service.query.promql.match import binary
from service.query.promql.source import Source
from service.query.promql.vectors import Array, Samples, Steps, Vector, is_stale, without_names
from service.query.promql.windows import Windows, upto, windows
from service.storage.columns import Times

#: How old the newest sample may be and still be the value, if nothing else is said.
LOOKBACK_MS = 300_000
#: The step of subqueries that name none: Prometheus' own evaluation interval.
SUBQUERY_STEP_MS = 60_000


NO_CALL = Call("", (), ValueType.SCALAR)


@dataclass(frozen=True, slots=True)
class Result:
    """An answer: a value of a type at some steps, and what was said on the way."""

    type: ValueType
    value: Value
    steps: Steps
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for a whole query."""

    lookback_ms: int = LOOKBACK_MS
    subquery_step_ms: int = SUBQUERY_STEP_MS
    limits: Limits = field(default_factory=Limits)
    functions: Mapping[str, Function] = field(default_factory=lambda: FUNCTIONS)


def evaluate(
    expr: Expr,
    source: Source,
    steps: Steps,
    settings: Settings | None = None,
    budget: Budget | None = None,
) -> Result:
    """The answer at all steps, within a budget that may have begun before.

    Raises `InvalidInput` for an expression that cannot be asked at several steps, `Unprocessable`
    for one that cannot be answered over these samples, `QueryTooDear` and `QueryTimeout`.
    """
    settings = settings or Settings()
    kind = type_of(expr)
    if steps.count > 1 and kind in (ValueType.MATRIX, ValueType.STRING):
        what = "range vector" if kind is ValueType.MATRIX else "string"
        raise InvalidInput(
            f'invalid expression type "{what}" for range query, must be Scalar or instant Vector'
        )
    notes = Notes()
    budget = budget or Budget(settings.limits)
    evaluation = Evaluation(source, steps, steps, settings, notes, budget)
    # What is not a number, or too large for one, is a result like any other.
    with np.errstate(all="ignore"):
        value = evaluation.value(expr)
    if isinstance(value, Vector):
        value = value.seen()
    return Result(kind, value, steps, tuple(notes.warnings), tuple(notes.infos))


@dataclass(slots=True)
class Evaluation:
    """One expression, or one part of it, at the same steps. `whole` are those of the query."""

    source: Source
    steps: Steps
    whole: Steps
    settings: Settings
    notes: Notes
    budget: Budget
    node: Call = NO_CALL

    @property
    def times(self) -> Times:
        """The times of evaluation (steps,), in milliseconds."""
        return self.steps.times

    def value(self, expr: Expr) -> Value:
        """What any expression evaluates to."""
        if isinstance(expr, Number):
            return np.full(self.steps.count, expr.value)
        if isinstance(expr, Select):
            return self.newest(expr)[0]
        if isinstance(expr, Binary):
            return binary(expr, self.value(expr.left), self.value(expr.right), self.notes)
        if isinstance(expr, Call):
            return self._call(expr)
        if isinstance(expr, Aggregate):
            return self._aggregate(expr)
        if isinstance(expr, Range):
            return self._range(expr)
        if isinstance(expr, Subquery):
            return self._subquery(expr)
        if isinstance(expr, Negate):
            return self._negated(expr)
        if isinstance(expr, Labels):
            raise InvalidInput("label selectors have no value of their own")
        return expr.value

    def vector(self, expr: Expr) -> Vector:
        """What an expression evaluates to that is an instant vector."""
        return cast(Vector, self.value(expr))

    def scalar(self, expr: Expr) -> Array:
        """What an expression evaluates to that is a scalar (steps,)."""
        return cast(Array, self.value(expr))

    def text(self, expr: Expr) -> str:
        """What an expression evaluates to that is a string."""
        return cast(str, self.value(expr))

    def newest(self, select: Select) -> tuple[Vector, Times]:
        """The newest sample of each series at each step, and its time (n, steps)."""
        times, lookback = self._times(select.offset_ms, select.at), self.settings.lookback_ms
        begin, end = int(times[0]), int(times[-1])
        if begin == end:
            labels, t, v = self.source.newest(select.selector, begin - lookback + 1, end)
            self.budget.read(len(labels), len(labels))
            there = ~is_stale(v)
            if self.steps.count == 1:  # rules do little else, by the thousand
                return Vector(labels, v[:, None], there[:, None]), t[:, None]
            shape = (len(labels), self.steps.count)
            value, seen = np.broadcast_to(v[:, None], shape), np.broadcast_to(there[:, None], shape)
            return Vector(labels, value, seen), np.broadcast_to(t[:, None], shape)
        labels, bounds, t, v = self.source.select(select.selector, begin - lookback + 1, end)
        self.budget.read(len(labels), len(t))
        self.budget.hold(len(labels), self.steps.count)
        if not len(t):
            return Vector.empty(self.steps.count), np.empty((0, self.steps.count), np.int64)
        last = upto(bounds, t, times)
        place = np.maximum(last - 1, 0)
        at, value = t[place], v[place]
        there = (last > bounds[:-1, None]) & (at > times - lookback) & ~is_stale(value)
        return Vector(labels, value, there), at

    def _times(self, offset_ms: int, at: At) -> Times:
        """The times that a selector with these modifiers looks at (steps,)."""
        if at is None:
            return self.steps.times - offset_ms
        if at == "start":
            at = self.whole.start_ms
        elif at == "end":
            at = self.whole.end_ms
        return np.full(self.steps.count, at - offset_ms, np.int64)

    def _range(self, expr: Range) -> Windows:
        select = expr.select
        ends = self._times(select.offset_ms, select.at)
        begin, end = int(ends[0]) - expr.range_ms + 1, int(ends[-1])
        samples = self.source.select(select.selector, begin, end)
        self.budget.read(len(samples.labels), len(samples.t))
        self.budget.hold(len(samples.labels), self.steps.count)
        return windows(samples, ends, expr.range_ms, self.steps.times)

    def _subquery(self, expr: Subquery) -> Windows:
        ends = self._times(expr.offset_ms, expr.at)
        step = expr.step_ms or self.settings.subquery_step_ms
        begin, end = int(ends[0]) - expr.range_ms, int(ends[-1])
        # Steps of a subquery are multiples of its step, whatever the time of evaluation.
        inner = Steps((begin // step + 1) * step, end, step)
        if inner.start_ms > end:
            found = Vector.empty(0)
        else:
            self.budget.hold(1, inner.count)
            evaluation = replace(self, steps=inner)
            found = evaluation.vector_of(expr.expr)
        times = inner.times if found.values.shape[1] else np.empty(0, np.int64)
        series, at = np.nonzero(found.present)
        bounds = np.concatenate([[0], np.cumsum(found.present.sum(axis=1))]).astype(np.int64)
        samples = Samples(found.labels, bounds, times[at], found.values[series, at])
        self.budget.read(len(samples.labels), len(samples.t))
        self.budget.hold(len(samples.labels), self.steps.count)
        return windows(samples, ends, expr.range_ms, self.steps.times)

    def vector_of(self, expr: Expr) -> Vector:
        """An instant vector, or a scalar as one without labels, as subqueries take them."""
        value = self.value(expr)
        if isinstance(value, Vector):
            return value
        scalar = cast(Array, value)[None, :]
        return Vector([()], scalar, np.ones(scalar.shape, np.bool_))

    def _negated(self, expr: Negate) -> Value:
        value = self.value(expr.expr)
        if isinstance(value, Vector):
            value = without_names(value)
            return Vector(value.labels, -value.values, value.present)
        return -cast(Array, value)

    def _aggregate(self, expr: Aggregate) -> Vector:
        param = None if expr.param is None else self.value(expr.param)
        return aggregate(expr, self.vector(expr.expr), cast(Array | str | None, param), self.notes)

    def _call(self, expr: Call) -> Value:
        known = self.settings.functions[expr.name]
        asked = replace(self, node=expr)
        args = () if known.lazy else [asked.value(arg) for arg in expr.args]
        self.budget.check()  # between two pieces of work, not before all of them
        return known.call(asked, args)
