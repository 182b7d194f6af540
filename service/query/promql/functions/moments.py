"""Functions of a window that depend on the order of its samples: variance, smoothing."""

from collections.abc import Sequence
from math import isinf
from typing import cast

import numpy as np

from service.domain.errors import Unprocessable
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.sums import add
from service.query.promql.vectors import Array, Flags, without_names
from service.query.promql.windows import Rows, Windows

#: Rows beside each other: few steps of much, where each sample depends on the one before.
_CELLS = 4_000_000
#: So few rows are quicker one by one.
_FEW = 48


def _variance(rows: Rows) -> Array:
    """Variances by Welford's algorithm, its sums compensated."""
    if len(rows.which) < _FEW:
        values = rows.values()
        return np.array(
            [
                _variance_of(row[:count].tolist())
                for row, count in zip(values, rows.counts.tolist(), strict=True)
            ]
        )
    columns = np.ascontiguousarray(rows.values().T)
    zero = np.zeros(columns.shape[1])
    mean, mean_lost, total, lost = zero, zero, zero, zero
    for j, x in enumerate(columns):
        there = j < rows.counts
        distance = x - (mean + mean_lost)
        after = add(mean, mean_lost, distance / (j + 1))
        product = distance * (x - (after[0] + after[1]))
        squares = add(total, lost, product)
        if not there.all():
            after = np.where(there, after[0], mean), np.where(there, after[1], mean_lost)
            squares = np.where(there, squares[0], total), np.where(there, squares[1], lost)
        (mean, mean_lost), (total, lost) = after, squares
    return np.asarray((total + lost) / rows.counts)


def _variance_of(values: list[float]) -> float:
    """The same of one window, in plain floats; the sums are written out, for calls are dear."""
    mean = mean_lost = total = lost = 0.0
    for count, x in enumerate(values, 1):
        distance = x - (mean + mean_lost)
        term = distance / count
        after = mean + term
        if isinf(after):
            mean_lost = 0.0
        elif abs(mean) >= abs(term):
            mean_lost += (mean - after) + term
        else:
            mean_lost += (term - after) + mean
        mean = after
        term = distance * (x - (mean + mean_lost))
        after = total + term
        if isinf(after):
            lost = 0.0
        elif abs(total) >= abs(term):
            lost += (total - after) + term
        else:
            lost += (term - after) + total
        total = after
    return (total + lost) / len(values)


@function("stdvar_over_time")
def _stdvar(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    return without_names(windows.vector(windows.each(asked.budget, _variance, cells=_CELLS)))


@function("stddev_over_time")
def _stddev(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    return without_names(
        windows.vector(np.sqrt(windows.each(asked.budget, _variance, cells=_CELLS)))
    )


def _factor(name: str, short: str, factors: Array, asked_for: Flags) -> None:
    """`Unprocessable` for a factor (steps,) that is none, where it is asked for (steps,)."""
    wrong = asked_for & ((factors <= 0) | (factors >= 1))
    if wrong.any():
        value = float(factors[int(np.argmax(wrong))])
        raise Unprocessable(f"invalid {name} factor. Expected: 0 < {short} < 1, got: {value:f}")


@function("double_exponential_smoothing")
def _smooth(asked: Asked, args: Sequence[Value]) -> Value:
    windows, level, trend = cast(Windows, args[0]), cast(Array, args[1]), cast(Array, args[2])
    anything: Flags = windows.counts.sum(axis=0) > 0
    _factor("smoothing", "sf", level, anything)
    _factor("trend", "tf", trend, anything)
    found = np.zeros(windows.first.size)
    for rows in windows.rows(asked.budget, 2, _CELLS):
        found[rows.which] = _smoothed(rows, level[rows.steps], trend[rows.steps])
    return without_names(windows.vector(found.reshape(windows.first.shape), windows.counts > 1))


def _smoothed(rows: Rows, level: Array, trend: Array) -> Array:
    """The smoothed value at the end of each row; level and trend are factors (k,)."""
    values = rows.values()
    if len(rows.which) < _FEW:
        each = zip(values, rows.counts.tolist(), level.tolist(), trend.tolist(), strict=True)
        return np.array([_smoothed_of(row[:count].tolist(), sf, tf) for row, count, sf, tf in each])
    columns = np.ascontiguousarray(values.T)
    before: Array = np.zeros(len(values))
    now: Array = columns[0]
    slope = columns[1] - columns[0]
    for j, x in enumerate(columns[1:], 1):
        next_slope = trend * (now - before) + (1 - trend) * slope if j > 1 else slope
        smooth = level * x + (1 - level) * (now + next_slope)
        there = j < rows.counts
        before, now = np.where(there, now, before), np.where(there, smooth, now)
        slope = np.where(there, next_slope, slope)
    return now


def _smoothed_of(values: list[float], level: float, trend: float) -> float:
    """The same of one window, in plain floats."""
    before, now, slope = 0.0, values[0], values[1] - values[0]
    for j, x in enumerate(values[1:], 1):
        if j > 1:
            slope = trend * (now - before) + (1 - trend) * slope
        before, now = now, level * x + (1 - level) * (now + slope)
    return now
