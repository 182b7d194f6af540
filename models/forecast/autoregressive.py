"""Ridge autoregression on recent and seasonal lags, applied to its own forecasts step by step.

Hoerl and Kennard, "Ridge regression", Technometrics 1970; robust weights after Huber, "Robust
estimation of a location parameter", Annals of Mathematical Statistics 1964.
"""

from enum import StrEnum
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, ArrayMap, Arrays, Integers, floats
from models.robust import winsorised_mean

#: Penalty, and the largest input or output in typical deviations.
RIDGE, CLIP = 1.0, 8.0
#: Rounds of weighting errors, and from how many typical ones on they count less.
ROUNDS, HUBER = 3, 2.5
#: Rows without a season that a level is taken from.
LEVEL_ROWS = 24


class Lags(StrEnum):
    """What a value is predicted from, besides the last few."""

    WEEK = "week"  # the same time on each of seven days, and its neighbours
    WIDE = "wide"  # the same, with two neighbours on each side
    DAY = "day"  # the whole last day, and the same time on two


def lags(kind: Lags, period: int, reach: int) -> Integers:
    """Ascending lags for a season of `period` rows, none beyond `reach` (at least 1)."""
    if period <= 1:
        chosen = {*range(1, 13), 24}
    elif kind is Lags.DAY:
        chosen = {*range(1, 26), *_around(period, 1), *_around(2 * period, 1)}
    elif kind is Lags.WEEK:
        chosen = {1, 2, 3}.union(*(_around(days * period, 1) for days in range(1, 8)))
    else:
        chosen = {*range(1, 9), 14 * period}
        for days, beside in ((1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1), (7, 2)):
            chosen |= _around(days * period, beside)
    return np.array(sorted(lag for lag in chosen if 0 < lag <= max(1, reach)), np.int64)


def _around(lag: int, beside: int) -> set[int]:
    return set(range(lag - beside, lag + beside + 1))


def _cut_mean(sizes: Array) -> float:
    """Mean of values ≥ 0 after the largest tenth was cut to the next smaller one."""
    place = int(0.9 * (len(sizes) - 1))
    most = np.partition(sizes, place)[place]
    return float(np.add.reduce(np.minimum(sizes, most))) / len(sizes)


class RidgeForecaster:
    """Linear in the last values and in the same time of earlier days, relative to a level.

    The level is the mean of its inputs, or, with `by_season`, that of the last season. Strong
    where level, recent movement and season mix. Being recursive it may drift off; who asks it
    watches for that (`models.forecast.series`).
    """

    lags_: Integers
    weights_: Array
    unit_: float

    def __init__(self, period: int, memory: int, kind: Lags, by_season: bool = False) -> None:
        self.period, self.memory, self.kind, self.by_season = period, memory, kind, by_season

    def fit(self, y: Array, first: int) -> Self:
        """Learn from values (n,)."""
        self.lags_ = lags(self.kind, self.period, min(self.memory, len(y) // 2))
        start = self._reach
        inputs = sliding_window_view(y[:-1], start)[:, start - self.lags_]
        level = self._levels(y, start) if self.by_season else inputs.mean(axis=1)
        inputs = inputs - level[:, None]
        target = y[start:] - level
        self.unit_ = max(winsorised_mean(np.abs(target)), 1e-9 * (1.0 + float(np.abs(y).max())))
        Z = np.clip(inputs / self.unit_, -CLIP, CLIP)
        target = np.clip(target / self.unit_, -CLIP, CLIP)
        weighted = Z
        for _ in range(ROUNDS):
            gram = weighted.T @ Z
            gram.flat[:: len(gram) + 1] += RIDGE
            self.weights_ = np.linalg.solve(gram, weighted.T @ target)
            error = np.abs(target - Z @ self.weights_)
            limit = HUBER * _cut_mean(error) + 1e-9
            weighted = Z * np.minimum(1.0, limit / np.maximum(error, limit))[:, None]
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        reach, season = self._reach, self._season
        past = windows[:, -reach:]
        if past.shape[1] < reach:
            missing = reach - past.shape[1]
            past = np.concatenate((np.repeat(past[:, :1], missing, axis=1), past), axis=1)
        # steps are rows, so that a lag is one stretch of memory; all in units of the model
        path = np.empty((reach + horizon, len(past)))
        path[:reach] = past.T / self.unit_
        summed = np.add.reduce(path[reach - season : reach])
        for step in range(reach, reach + horizon):
            inputs = path[step - self.lags_]
            level = summed / season if self.by_season else np.add.reduce(inputs) / len(inputs)
            inputs -= level
            np.minimum(inputs, CLIP, out=inputs)
            np.maximum(inputs, -CLIP, out=inputs)
            change = self.weights_ @ inputs
            path[step] = level + np.minimum(np.maximum(change, -CLIP), CLIP)
            summed += path[step] - path[step - season]
        return np.asarray(path[reach:].T * self.unit_)

    @property
    def _season(self) -> int:
        """Rows that a level by season is the mean of: at most so many as all lags reach back."""
        rows = self.period if self.period > 1 else LEVEL_ROWS
        return min(rows, int(self.lags_[-1]))

    @property
    def _reach(self) -> int:
        return int(self.lags_[-1])

    def _levels(self, y: Array, start: int) -> Array:
        """Mean of the season before each of the rows from `start` on."""
        season = self._season
        summed = np.concatenate(([0.0], np.cumsum(y)))
        return np.asarray((summed[start:-1] - summed[start - season : -1 - season]) / season)

    def to_arrays(self) -> Arrays:
        """Lags and weights."""
        return {
            "settings": np.array([self.period, self.memory, self.by_season], np.int64),
            "kind": np.array(self.kind.value),
            "lags": self.lags_,
            "weights": self.weights_,
            "unit": np.array(self.unit_),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        period, memory, by_season = (int(v) for v in np.asarray(arrays["settings"], np.int64))
        model = cls(period, memory, Lags(str(arrays["kind"])), bool(by_season))
        model.lags_ = np.asarray(arrays["lags"], np.int64)
        model.weights_ = floats(arrays, "weights")
        model.unit_ = float(floats(arrays, "unit"))
        return model
