"""A source of samples written down in a test, and answers as tables."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from service.domain.series import NAME, LabelPairs, canonical
from service.query.promql.evaluate import Result, evaluate
from service.query.promql.literal import STALE
from service.query.promql.literal import Literal as InMemory
from service.query.promql.parse import parse
from service.query.promql.source import Source
from service.query.promql.vectors import Steps, Vector
from service.storage.columns import Columns

__all__ = ["STALE", "Literal", "alike", "ask", "every", "labels", "same", "table"]


class Literal(InMemory):
    """Series by their canonical labels: `Literal({labels("up", job="api"): every(15, [1, 1])})`."""

    def __init__(self, series: Mapping[LabelPairs, Columns]) -> None:
        super().__init__(series.items())
        self.series = series


def labels(name: str = "", **others: str) -> LabelPairs:
    """Canonical labels; without a name there is none among them."""
    return tuple(pair for pair in canonical(name, others) if pair != (NAME, ""))


def every(seconds: float, values: Sequence[float | None], start: float = 0.0) -> Columns:
    """A sample each so many seconds, none where the value is None; times are in seconds."""
    times = [round((start + i * seconds) * 1000) for i in range(len(values))]
    there = [(t, v) for t, v in zip(times, values, strict=True) if v is not None]
    return Columns(
        np.array([t for t, _ in there], np.int64), np.array([v for _, v in there], np.float64)
    )


def ask(
    text: str, source: Source, start: float, end: float | None = None, step: float = 60
) -> Result:
    """The answer at a time, or from `start` to `end`; in seconds."""
    last = start if end is None else end
    steps = Steps(round(start * 1000), round(last * 1000), round(step * 1000))
    return evaluate(parse(text), source, steps)


def table(result: Result) -> dict[LabelPairs, list[float | None]]:
    """Each series' value at each step, None where it has none; a scalar has no labels."""
    value = result.value
    if isinstance(value, np.ndarray):
        return {(): value.tolist()}
    if not isinstance(value, Vector):
        raise TypeError(f"not a table: {result.type}")
    return {
        labels: [v if there else None for v, there in zip(row, present, strict=True)]
        for labels, row, present in zip(
            value.labels, value.values.tolist(), value.present.tolist(), strict=True
        )
    }


def same(a: float | None, b: float | None) -> bool:
    """Whether two values are the same number; NaN is like NaN."""
    if a is None or b is None:
        return a is b
    return a == b or (math.isnan(a) and math.isnan(b))


def alike(
    left: dict[LabelPairs, list[float | None]], right: dict[LabelPairs, list[float | None]]
) -> bool:
    """Whether two tables say the same."""
    return left.keys() == right.keys() and all(
        len(row) == len(right[labels]) and all(map(same, row, right[labels]))
        for labels, row in left.items()
    )
