"""Answers as Prometheus gives them and as we do, in one shape; and whether they are the same."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.query.promql.evaluate import Result
from service.query.promql.vectors import Vector
from service.query.promql.windows import Windows
from tests.support.promql.vocabulary import Exact

Labels = frozenset[tuple[str, str]]
#: What may be between two values that are told apart by rounding: relative, and absolute around 0.
RELATIVE, ABSOLUTE = 1e-9, 1e-9


@dataclass(frozen=True)
class Answer:
    """Values by series and time in milliseconds, or an error. A scalar is a series without labels.

    `order` are the series of an instant vector in the order in which they came.
    """

    kind: str = ""
    series: dict[Labels, dict[int, float]] | None = None
    order: tuple[Labels, ...] = ()
    error: str = ""


def of_prometheus(body: Any) -> Answer:
    """What `/api/v1/query` and `/api/v1/query_range` answered."""
    if body["status"] != "success":
        return Answer(error=body["error"])
    kind, result = body["data"]["resultType"], body["data"]["result"]
    if kind == "scalar":
        return Answer(kind, {frozenset(): _points([result])})
    found = {
        frozenset(item["metric"].items()): _points(item.get("values") or [item["value"]])
        for item in result
    }
    assert len(found) == len(result)
    return Answer(kind, found, tuple(found))


def of_ours(result: Result) -> Answer:
    """What `evaluate` gave."""
    times = result.steps.times.tolist()
    value = result.value
    assert not isinstance(value, Windows | str)
    if not isinstance(value, Vector):
        values = np.asarray(value).tolist()
        return Answer(str(result.type), {frozenset(): dict(zip(times, values, strict=True))})
    found = {
        frozenset(labels): {times[k]: float(value.values[i, k]) for k in np.flatnonzero(there)}
        for i, (labels, there) in enumerate(zip(value.labels, value.present, strict=True))
    }
    assert len(found) == len(value.labels)
    return Answer(str(result.type), found, tuple(found))


def difference(ours: Answer, theirs: Answer, exact: Exact, *, ordered: bool = False) -> str:
    """What is first seen to differ; nothing if the answers are the same."""
    if ours.error or theirs.error:
        both = bool(ours.error) and bool(theirs.error)
        return "" if both else f"errors: {ours.error or 'none'!r} and {theirs.error or 'none'!r}"
    assert ours.series is not None
    assert theirs.series is not None
    if more := ours.series.keys() - theirs.series.keys():
        return f"only ours: {dict(next(iter(more)))} of {len(more)}"
    if more := theirs.series.keys() - ours.series.keys():
        return f"only theirs: {dict(next(iter(more)))} of {len(more)}"
    for labels, points in theirs.series.items():
        mine = ours.series[labels]
        if mine.keys() != points.keys():
            apart = sorted(mine.keys() ^ points.keys())
            return f"{dict(labels)}: only one has a value at {apart[0]} and {len(apart)} in all"
        for t, value in points.items():
            if not same(mine[t], value, exact):
                return f"{dict(labels)} at {t}: {mine[t]!r} and {value!r}"
    if ordered:
        first, second = _in_order(ours), _in_order(theirs)
        if not np.array_equal(first, second, equal_nan=True):
            return f"order: {first} and {second}"
    return ""


def _in_order(answer: Answer) -> list[float]:
    """The values of an instant vector as they came; series with equal ones have no order."""
    assert answer.series is not None
    return [value for labels in answer.order for value in answer.series[labels].values()]


def same(ours: float, theirs: float, exact: Exact) -> bool:
    """Whether two values are, as far as they must be."""
    if ours == theirs:
        return ours != 0 or math.copysign(1, ours) == math.copysign(1, theirs)
    if math.isnan(ours) and math.isnan(theirs):
        return True
    close = math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return exact is Exact.ROUGH and close


def _points(pairs: list[Any]) -> dict[int, float]:
    return {round(float(t) * 1000): float(v) for t, v in pairs}
