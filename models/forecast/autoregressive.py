"""Ridge autoregression on seasonal lags, applied to its own forecasts step by step."""

from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer
from models.robust import winsorised_mean

#: Penalty, and the largest input or output in typical deviations.
RIDGE, CLIP = 10.0, 8.0


class RidgeForecaster:
    """Linear in the last values and in the same time of earlier periods, relative to their mean.

    Strong where level, recent movement and season mix. Being recursive it may drift off; the
    choice in `models.forecast.choice` watches for that.
    """

    lags_: Integers
    weights_: Array
    unit_: float

    def __init__(self, period: int, memory: int) -> None:
        self.period, self.memory = period, memory

    def fit(self, y: Array, first: int) -> Self:
        """Learn from values (n,)."""
        n = len(y)
        reach = min(self.memory, n // 2)
        lags = {*range(1, 13), 24}
        for periods in (1, 2, 3, 7) if self.period > 1 else ():
            lags |= {periods * self.period + shift for shift in (-1, 0, 1)}
        self.lags_ = np.array(sorted(lag for lag in lags if 0 < lag <= max(1, reach)), np.int64)
        longest = int(self.lags_[-1])
        windows = sliding_window_view(y[:-1], longest)
        inputs = windows[:, longest - self.lags_]
        level = inputs.mean(axis=1)
        deviation = y[longest:] - level
        self.unit_ = max(winsorised_mean(np.abs(deviation)), 1e-9 * (1.0 + float(np.abs(y).max())))
        Z = np.clip((inputs - level[:, None]) / self.unit_, -CLIP, CLIP)
        target = np.clip(deviation / self.unit_, -CLIP, CLIP)
        weight = np.ones(len(Z))
        self.weights_ = np.zeros(Z.shape[1])
        for _ in range(3):
            gram = (Z * weight[:, None]).T @ Z + RIDGE * np.eye(Z.shape[1])
            self.weights_ = np.linalg.solve(gram, (Z * weight[:, None]).T @ target)
            error = np.abs(target - Z @ self.weights_)
            limit = 3.0 * winsorised_mean(error) + 1e-9
            weight = np.minimum(1.0, limit / np.maximum(error, limit))
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        longest = int(self.lags_[-1])
        past = windows[:, -longest:]
        if past.shape[1] < longest:
            missing = longest - past.shape[1]
            past = np.concatenate((np.repeat(past[:, :1], missing, axis=1), past), axis=1)
        path = np.concatenate((past, np.zeros((len(past), horizon))), axis=1)
        for step in range(horizon):
            inputs = path[:, longest + step - self.lags_]
            level = inputs.mean(axis=1)
            Z = np.clip((inputs - level[:, None]) / self.unit_, -CLIP, CLIP)
            change = np.clip(Z @ self.weights_, -CLIP, CLIP)
            path[:, longest + step] = level + self.unit_ * change
        return path[:, longest:]

    def to_arrays(self) -> Arrays:
        """Lags and weights."""
        return {
            "period": np.array(self.period),
            "memory": np.array(self.memory),
            "lags": self.lags_,
            "weights": self.weights_,
            "unit": np.array(self.unit_),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        model = cls(integer(arrays, "period"), integer(arrays, "memory"))
        model.lags_ = np.asarray(arrays["lags"], np.int64)
        model.weights_ = floats(arrays, "weights")
        model.unit_ = float(floats(arrays, "unit"))
        return model
