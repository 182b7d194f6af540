"""Features of a regular series: how does each value stand to its own past?

All are causal and signed, in units of what is usual for the series (z values), so that one
setting serves every series. A value of 0 is what was expected.
"""

from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, ArrayMap, Arrays, Flags, Integers, floats, nested, within
from models.grid import Grid
from models.residual import RidgeAutoregression, ScaleOfDay, lag_means, winsorised_mean

#: Name of each feature and what a person calls it.
FEATURES = {
    "next": "compared with the values just before",
    "hour": "compared with what was expected an hour before",
    "day": "compared with what was expected the day before",
    "same_time": "compared with the same time on other days",
    "level": "compared with the long-run level",
    "recent_level": "compared with the recent level",
    "restless_short": "how far off the last values were",
    "restless_long": "how far off the values have been for a while",
    "drift": "a run of values on the same side",
    "spread_short": "how much the last values vary",
    "shift_short": "the mean of the last values",
    "spread_long": "how much values have varied for a while",
    "shift_long": "the mean of values for a while",
}
#: Features that are residuals of a prediction.
PREDICTED = ("next", "hour", "day", "same_time")
#: No feature looks further back; a context of so many rows and the new ones is always enough.
MEMORY = 2400
LONG, SHORT = 2000, 300
#: Rows before the first that is wanted, from which running means start.
LEAD = 20
LARGEST_Z = 1e6


class Features:
    """Learns what is usual for a series and turns values into rows of `FEATURES`."""

    def fit(self, y: Array, seen: Flags, first: int, grid: Grid) -> Self:
        """Learn from values (n,) on `grid` from index `first`; `seen` marks measured cells."""
        self.period_ = grid.period
        middle, unit = typical(y[seen])
        self.normal_ = np.array([middle, unit])
        x = self._normalise(y)
        n = len(x)
        hour = int(np.clip(grid.rows_in(3600.0), 2, min(60, max(2, n // 10))))
        horizons = (1, hour, max(hour, min(grid.period or hour, n // 3)))
        trusted = seen.astype(np.float64)
        self.regressions_ = [
            RidgeAutoregression(h, grid.period, MEMORY).fit(x, trusted) for h in horizons
        ]
        index = first + np.arange(n)
        errors = self._errors(x, 0)
        self.scales_ = [ScaleOfDay(grid.period, 0.02).fit(e[seen], index[seen]) for e in errors]
        plain = _local(x, first, 0)
        centre = np.median(plain, axis=0)
        spread = np.array([winsorised_mean(column) for column in np.abs(plain - centre).T])
        centre[:2], spread[:2] = 0.0, 1.0  # levels are z values already
        self.local_ = np.stack([centre, np.maximum(spread, 0.1)])
        return self

    def transform(self, y: Array, first: int, start: int) -> Array:
        """Rows of features for y[start:], each from its own past: (n - start, 13)."""
        x = self._normalise(y)
        begin = max(0, start - LEAD)
        index = first + np.arange(begin, len(x))
        scaled = [
            e / s.at(index) for e, s in zip(self._errors(x, begin), self.scales_, strict=True)
        ]
        residuals = np.stack(scaled, axis=1)
        skip = start - begin
        surprise = np.clip(residuals[:, 0], -8.0, 8.0)
        running = np.stack(
            [
                _windows(np.abs(surprise), 5, skip).mean(axis=1),
                _windows(np.abs(surprise), LEAD, skip).mean(axis=1),
                _windows(surprise, 5, skip).mean(axis=1),
            ],
            axis=1,
        )
        centre, spread = self.local_
        plain = (_local(x, first, start) - centre) / spread
        Z = np.concatenate([residuals[skip:], plain[:, :2], running, plain[:, 2:]], axis=1)
        return np.asarray(np.clip(Z, -LARGEST_Z, LARGEST_Z))

    def expect(self, y: Array, first: int, start: int) -> tuple[Array, Array]:
        """Expectation of y[start:], an hour ahead, and the usual error: both (n - start,)."""
        middle, unit = self.normal_
        predicted = self.regressions_[1].predict(self._normalise(y), start)
        scale = self.scales_[1].at(first + np.arange(start, len(y)))
        return middle + unit * predicted, unit * scale

    def _normalise(self, y: Array) -> Array:
        middle, unit = self.normal_
        return np.asarray(np.clip(y / unit - middle / unit, -LARGEST_Z, LARGEST_Z))

    def _errors(self, x: Array, start: int) -> list[Array]:
        now = x[start:]
        errors = [now - regression.predict(x, start) for regression in self.regressions_]
        errors.append(now - _same_time(x, self.period_, start))
        return errors

    def to_arrays(self) -> Arrays:
        """Everything learned."""
        arrays: Arrays = {
            "period": np.array(self.period_),
            "normal": self.normal_,
            "local": self.local_,
        }
        for number, regression in enumerate(self.regressions_):
            arrays |= nested(f"regression{number}", regression.to_arrays())
        for number, scale in enumerate(self.scales_):
            arrays |= nested(f"scale{number}", scale.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        features = cls()
        features.period_ = int(np.asarray(arrays["period"], np.int64))
        features.normal_ = floats(arrays, "normal")
        features.local_ = floats(arrays, "local")
        features.regressions_ = [
            RidgeAutoregression.from_arrays(within(f"regression{i}", arrays)) for i in range(3)
        ]
        features.scales_ = [
            ScaleOfDay.from_arrays(within(f"scale{i}", arrays)) for i in range(len(PREDICTED))
        ]
        return features


def typical(y: Array) -> tuple[float, float]:
    """Median and usual deviation of values (n,); the latter is never 0.

    Series that rarely leave one value (error counters) have no quartile range; then the mean
    deviation counts, and for constants a thousandth of the value.
    """
    low, middle, high = (float(q) for q in np.quantile(y, [0.25, 0.5, 0.75]))
    away = np.abs(y / 2 - middle / 2)  # halves, for the sake of the largest floats
    unit = max(
        (high / 2 - low / 2) / 0.6745,
        0.6 * winsorised_mean(away),
        0.6 * winsorised_mean(away, 0.999),
        1e-3 * abs(middle),
        1e-9,
    )
    return middle, unit


def running_quartiles(x: Array, width: int, first: int, start: int) -> Array:
    """Quartiles of the `width` values before each of x[start:]: (n - start, 3).

    Taken anew at every 64th of the width, at fixed grid indices, and kept in between: a level that
    moves slowly need not be sorted at every row.
    """
    n = len(x)
    every = max(1, width // 64)
    rows = np.arange(start, n)
    anchor = np.maximum(rows - (first + rows) % every, 0)
    places, which = np.unique(anchor, return_inverse=True)
    quartiles = np.empty((len(places), 3))
    for number, place in enumerate(places):
        past = x[max(0, place - width) : place] if place else x[:1]
        k = len(past) - 1
        quartiles[number] = np.partition(past, (k // 4, k // 2, k - k // 4))[
            [k // 4, k // 2, k - k // 4]
        ]
    return np.asarray(quartiles[which])


def _local(x: Array, first: int, start: int) -> Array:
    """Features that need nothing learned: levels, spreads and shifts, (n - start, 6)."""
    columns = []
    now = x[start:]
    levels = {}
    for width in (LONG, SHORT):
        low, middle, high = running_quartiles(x, width, first, start).T
        levels[width] = middle
        columns.append((now - middle) / np.maximum((high - low) / 1.349, 0.1))
    limited = np.clip(x, -50.0, 50.0)
    for width in (10, 40):
        recent = _windows(limited, width, start)
        columns.append(np.log(recent.std(axis=1) + 0.02))
        columns.append(recent.mean(axis=1) - np.clip(levels[LONG], -50.0, 50.0))
    return np.stack(columns, axis=1)


def _windows(x: Array, width: int, start: int) -> Array:
    """The `width` newest values up to each of x[start:]; the first value stands in for the past."""
    need = x[max(0, start - width + 1) :]
    missing = max(0, width - 1 - start)
    if missing:
        need = np.concatenate((np.full(missing, x[0]), need))
    return sliding_window_view(need, width)


def _same_time(x: Array, period: int, start: int) -> Array:
    """Median of the same time on up to seven earlier days; at first the recent median."""
    rows: Integers = np.arange(start, len(x))
    if not period:
        return np.median(_windows(x, 49, start)[:, :-1], axis=1)
    around = period // 576
    days = np.arange(1, max(1, min(7, (MEMORY - around) // period)) + 1) * period
    seasons = lag_means(x, rows, np.maximum(days - around, 1), days + around)
    known = ~np.isnan(seasons[:, 0])
    result = np.empty(len(rows))
    if known.any():
        ordered = np.sort(seasons[known], axis=1)  # NaN sorts to the end
        count = (~np.isnan(ordered)).sum(axis=1)
        line = np.arange(len(ordered))
        result[known] = (ordered[line, (count - 1) // 2] + ordered[line, count // 2]) / 2
    if not known.all():
        early = np.flatnonzero(~known)
        result[early] = np.median(_windows(x, 49, start)[early, :-1], axis=1)
    return result
