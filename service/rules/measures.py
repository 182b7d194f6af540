"""Functions that say what models wrote, as numbers: `expected(cpu)`, `forecast(disk, 6h)`.

They take a metric and give one value for each of its series, under its labels without the name.
"""

from collections.abc import Sequence

import numpy as np

from models.crossing import crossing, first
from service.domain.rules import LIKELY
from service.domain.series import (
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    FORECAST_LOWER,
    FORECAST_UPPER,
    NO_SERIES,
    SCORE,
    LabelPairs,
    Selector,
)
from service.query.promql.expressions import Call, Select
from service.query.promql.functions.registry import Asked, Reach
from service.query.promql.vectors import Array, Vector, is_stale, merged, nameless, without_names
from service.rules.looks import series_of
from service.storage.columns import Columns

#: What models write, by the function that gives it.
WRITTEN = {
    "anomaly_score": SCORE,
    "expected": EXPECTED,
    "expected_lower": EXPECTED_LOWER,
    "expected_upper": EXPECTED_UPPER,
}
#: Forecasts reach no further than this.
FAR_MS = 400 * 86_400_000
_BACK_MS = 300_000


def selector_of(call: Call) -> Selector:
    """The selector that a call is about."""
    metric = call.args[0]
    return metric.selector if isinstance(metric, Select) else NO_SERIES


def written(asked: Asked) -> Vector:
    """The newest of what models wrote about each series."""
    selector = selector_of(asked.node).derived(WRITTEN[asked.node.name])
    return without_names(asked.newest(Select(selector))[0])


def reach_of_written(call: Call) -> Sequence[Reach]:
    """What `written` selects."""
    return [Reach(selector_of(call).derived(WRITTEN[call.name]), 0, newest=True)]


def reach_of_forecast(call: Call) -> Sequence[Reach]:
    """The series themselves and what is forecast of them, as far as it reaches."""
    selector = selector_of(call)
    suffixes = (FORECAST, FORECAST_LOWER, FORECAST_UPPER)
    ahead = [Reach(selector.derived(suffix), _BACK_MS, FAR_MS) for suffix in suffixes]
    return [Reach(selector, _BACK_MS), *ahead]


def forecast(asked: Asked) -> Vector:
    """What is forecast of each series for so many seconds from each step, between two samples of
    the forecast on the line between them; nothing beyond the last one."""
    ahead_ms = 1000.0 * asked.scalar(asked.node.args[1])
    labels, values = [], []
    for pairs, columns in _written_ahead(asked, FORECAST).items():
        at = asked.times + ahead_ms
        inside = (at >= columns.t[0]) & (at <= columns.t[-1])
        labels.append(nameless(pairs))
        values.append(np.where(inside, np.interp(at, columns.t, columns.v), np.nan))
    return _stacked(asked, labels, values)


def crosses_in(asked: Asked) -> Vector:
    """Seconds until each series crosses a threshold, more likely than not or as likely as asked.

    Upwards where it is below the threshold now, else downwards; nothing where it does not.
    """
    threshold = asked.scalar(asked.node.args[1])
    asks = asked.node.args[2:]
    likely = asked.scalar(asks[0]) if asks else np.full(asked.steps.count, LIKELY)
    now, _ = asked.newest(Select(selector_of(asked.node)))
    ahead = {
        suffix: _written_ahead(asked, suffix)
        for suffix in (FORECAST, FORECAST_LOWER, FORECAST_UPPER)
    }
    labels, values = [], []
    for row, pairs in enumerate(now.labels):
        series = series_of(asked.source, pairs)
        middle, lower, upper = (
            found.get(series.derived(suffix).labels, Columns.empty())
            for suffix, found in ahead.items()
        )
        lows, highs = lower.at(middle.t), upper.at(middle.t)
        seconds = np.full(asked.steps.count, np.nan)
        for step, at in enumerate(asked.times.tolist()):
            begin = int(np.searchsorted(middle.t, at, side="right"))
            if not now.present[row, step] or begin == len(middle.t):
                continue
            asked.budget.check()
            crossed = crossing(
                middle.v[begin:],
                lows[begin:],
                highs[begin:],
                float(threshold[step]),
                bool(now.values[row, step] < threshold[step]),
            )
            place = first(crossed, float(likely[step]))
            if place is not None:
                seconds[step] = (int(middle.t[begin + place]) - at) / 1000
        labels.append(nameless(pairs))
        values.append(seconds)
    return _stacked(asked, labels, values)


def _written_ahead(asked: Asked, suffix: str) -> dict[LabelPairs, Columns]:
    """What is forecast of the series of a call, at all steps and after them."""
    selector = selector_of(asked.node).derived(suffix)
    end = int(asked.times[-1]) + FAR_MS
    samples = asked.source.select(selector, int(asked.times[0]) - _BACK_MS, end)
    asked.budget.read(len(samples.labels), len(samples.t))
    found = {}
    for i, pairs in enumerate(samples.labels):
        part = slice(int(samples.bounds[i]), int(samples.bounds[i + 1]))
        good = ~is_stale(samples.v[part])
        if good.any():
            found[pairs] = Columns(samples.t[part][good], samples.v[part][good])
    return found


def _stacked(asked: Asked, labels: list[LabelPairs], values: list[Array]) -> Vector:
    """Rows of values, none where they are NaN."""
    if not values:
        return Vector.empty(asked.steps.count)
    stacked = np.stack(values)
    return merged(Vector(labels, stacked, ~np.isnan(stacked)))
