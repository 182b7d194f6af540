"""A random forest on seasonal lags, applied to its own forecasts step by step.

Breiman, "Random forests", Machine Learning 2001; lags relative to a level, after Bontempi, Ben
Taieb and Le Borgne, "Machine learning strategies for time series forecasting", 2013.
"""

from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, ArrayMap, Arrays, Integers, nested, within
from models.forecast.autoregressive import Lags, lags
from models.forecast.trees import Trees
from models.robust import winsorised_mean

#: Trees, rows of a leaf at least, and the share of columns that a split sees.
TREES, LEAF, SHARE = 60, 3, 0.4
#: Newest rows that are learned from.
RECENT = 2000
#: Largest input or output in typical deviations, and rows without a season that make a level.
CLIP, LEVEL_ROWS = 8.0, 24
SEED = 0


class ForestForecaster:
    """What followed when the last values and those of earlier days were as they are now.

    Sees what no line can (thresholds, days that differ from others); knows no value that it has
    not seen, relative to the level of the last season.
    """

    lags_: Integers
    unit_: float
    trees_: Trees

    def __init__(self, period: int, memory: int) -> None:
        self.period, self.memory = period, memory

    def fit(self, y: Array, first: int) -> Self:
        """Learn from values (n,) whose first has grid index `first`."""
        self.lags_ = lags(Lags.WEEK, self.period, min(self.memory, len(y) // 2))
        start = max(self._reach, len(y) - RECENT)
        windows = sliding_window_view(y[:-1], self._reach)[start - self._reach :]
        level = self._level(windows)
        target = y[start:] - level
        self.unit_ = max(winsorised_mean(np.abs(target)), 1e-9 * (1.0 + float(np.abs(y).max())))
        X = self._inputs(windows, level, first + np.arange(start, len(y)))
        target = np.clip(target / self.unit_, -CLIP, CLIP)
        self.trees_ = Trees.grow(X, target, TREES, LEAF, SHARE, SEED)
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        reach = self._reach
        past = windows[:, -reach:]
        missing = reach - past.shape[1]
        past = np.concatenate((np.repeat(past[:, :1], missing, axis=1), past), axis=1)
        path = np.concatenate((past, np.zeros((len(past), horizon))), axis=1)
        for step in range(horizon):
            seen = path[:, step : step + reach]
            level = self._level(seen)
            change = self.trees_.predict(self._inputs(seen, level, index + step))
            path[:, reach + step] = level + self.unit_ * change
        return path[:, reach:]

    @property
    def _reach(self) -> int:
        return int(self.lags_[-1])

    def _level(self, windows: Array) -> Array:
        """Mean (k,) of the last season of windows (k, reach)."""
        rows = self.period if self.period > 1 else LEVEL_ROWS
        return np.asarray(windows[:, -rows:].mean(axis=1))

    def _inputs(self, windows: Array, level: Array, index: Integers) -> Array:
        """(k, p) lags in units around the level, and the place in the season."""
        seen = windows[:, self._reach - self.lags_] - level[:, None]
        seen = np.clip(seen / self.unit_, -CLIP, CLIP)
        if self.period <= 1:
            return np.asarray(seen)
        return np.concatenate((seen, (index % self.period)[:, None]), axis=1)

    def to_arrays(self) -> Arrays:
        """Lags, unit and the trees."""
        return {
            "settings": np.array([self.period, self.memory], np.int64),
            "lags": self.lags_,
            "unit": np.array(self.unit_),
            **nested("trees", self.trees_.to_arrays()),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        period, memory = (int(v) for v in np.asarray(arrays["settings"], np.int64))
        model = cls(period, memory)
        model.lags_ = np.asarray(arrays["lags"], np.int64)
        model.unit_ = float(np.asarray(arrays["unit"], np.float64))
        model.trees_ = Trees.from_arrays(within("trees", arrays))
        return model
