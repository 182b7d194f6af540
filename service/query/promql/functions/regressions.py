"""Straight lines through the samples of a window."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.sums import along
from service.query.promql.vectors import Array, without_names
from service.query.promql.windows import Rows, Windows
from service.storage.columns import Times


def _line(rows: Rows, origin_ms: Times) -> tuple[Array, Array]:
    """The least-squares line of each row: slope per second, and value at a time (k,)."""
    y, n = rows.values(), rows.counts.astype(np.float64)
    # Behind the last sample there are zeros, which change no sum.
    x = np.where(rows.there, (rows.times() - origin_ms[:, None]) / 1e3, 0.0)
    sum_x, sum_y, sum_xy, sum_xx = (
        total + lost for total, lost in map(along, (x, y, x * y, x * x))
    )
    covariance = sum_xy - sum_x * sum_y / n
    slope = covariance / (sum_xx - sum_x * sum_x / n)
    value = sum_y / n - slope * sum_x / n
    level = ((y == y[:, :1]) | ~rows.there).all(axis=1)
    flat = np.where(np.isinf(y[:, 0]), np.nan, y[:, 0])
    slope = np.where(level, np.where(np.isnan(flat), np.nan, 0.0), slope)
    return slope, np.where(level, flat, value)


@function("deriv")
def _deriv(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    values = windows.each(asked.budget, lambda rows: _line(rows, windows.t[rows.first])[0], least=2)
    return without_names(windows.vector(values, windows.counts > 1))


@function("predict_linear")
def _predict_linear(asked: Asked, args: Sequence[Value]) -> Value:
    windows, seconds = cast(Windows, args[0]), cast(Array, args[1])
    found = np.zeros(windows.first.size)
    for rows in windows.rows(asked.budget, 2):
        step = rows.steps
        slope, value = _line(rows, windows.steps_ms[step])
        found[rows.which] = slope * seconds[step] + value
    return without_names(windows.vector(found.reshape(windows.first.shape), windows.counts > 1))
