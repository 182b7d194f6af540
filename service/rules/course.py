"""How the values went that a rule's expression compares with a number, for pictures of alerts."""

from dataclasses import dataclass

import numpy as np

from service.domain.series import LabelPairs
from service.query.promql.evaluate import Result, Settings, evaluate
from service.query.promql.expressions import COMPARISONS, Binary, Expr, Number
from service.query.promql.source import Source
from service.query.promql.vectors import Steps, Vector
from service.storage.columns import Columns

#: What a picture shows at most: so many steps.
STEPS = 120
#: Series whose course is worked out at once: of more alerts nobody looks at each picture.
SERIES_MAX = 50


@dataclass(frozen=True, slots=True)
class Compared:
    """The part of an expression whose values are compared, and the number."""

    expr: Expr
    threshold: float


def compared(expr: Expr) -> Compared | None:
    """What `expr > 5` compares; None for an expression that is no such comparison."""
    if isinstance(expr, Binary) and expr.op in COMPARISONS and isinstance(expr.right, Number):
        return Compared(expr.left, expr.right.value)
    return None


def steps_until(now_ms: int, seconds: float) -> Steps:
    """The times of a picture that ends now, whole seconds apart."""
    step = max(1000, round(seconds * 1000 / STEPS) // 1000 * 1000)
    return Steps(now_ms - (STEPS - 1) * step, now_ms, step)


def courses(result: Result) -> dict[LabelPairs, Columns]:
    """The values of each series of an answer, by labels."""
    vector = result.value
    if not isinstance(vector, Vector):
        return {}
    times = result.steps.times
    rows = zip(vector.labels, vector.values, vector.present, strict=True)
    return {
        labels: Columns(times[there], np.ascontiguousarray(value[there]))
        for labels, value, there in rows
    }


def courses_until(
    part: Compared, source: Source, now_ms: int, seconds: float, settings: Settings
) -> dict[LabelPairs, Columns]:
    """The same of what a rule compares, over a time before now."""
    return courses(evaluate(part.expr, source, steps_until(now_ms, seconds), settings))
