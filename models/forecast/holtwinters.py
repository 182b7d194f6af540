"""Holt-Winters: a level, a damped trend and a season, all three smoothed.

Winters, "Forecasting sales by exponentially weighted moving averages", Management Science 1960; the
damped trend after Gardner and McKenzie 1985. statsmodels finds the parameters; windows are walked
here, all at once.
"""

import warnings
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer

#: Rows, and at least so many seasons, that parameters are estimated on and windows are walked over.
RECENT, SEASONS = 480, 4
#: Level, trend and season weights and the damping where nothing can be estimated.
USUAL = (0.2, 0.01, 0.1, 0.95)
#: Bounds of the damping, and the largest deviation in usual ones: freaks steer no parameter.
DAMPING, CLIP = (0.8, 0.995), 8.0
#: Longer seasons have too many states for what a window knows of them.
PERIOD_MOST = 336


class HoltWinters:
    """Level, fading trend and season that follow the values.

    Good where the rhythm itself changes slowly. Recent anomalies stay in its season for days.
    """

    parameters_: Array

    def __init__(self, period: int) -> None:
        self.period = period

    def fit(self, y: Array, first: int) -> Self:
        """Estimate weights and damping on the newest of values (n,)."""
        self.parameters_ = np.array(USUAL)
        recent = y[-self._rows(len(y)) :]
        period = self._season(len(recent))
        middle = float(np.median(recent))
        unit = float(np.abs(recent - middle).mean())
        if unit <= 1e-9 * (1.0 + abs(middle)) or len(recent) < 12:
            return self
        scaled = np.clip((recent - middle) / unit, -CLIP, CLIP)
        level, trend, season = _states(scaled[None], period)
        # forecasting does without; it takes a second to import
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no convergence: what was found is used or dropped
            fitted = ExponentialSmoothing(
                scaled,
                trend="add",
                damped_trend=True,
                seasonal="add" if period > 1 else None,
                seasonal_periods=period if period > 1 else None,
                initialization_method="known",
                initial_level=float(level[0]),
                initial_trend=float(trend[0]),
                initial_seasonal=season[0] if period > 1 else None,
                bounds={"damping_trend": DAMPING},
            ).fit(use_brute=False)
        found = [fitted.params[f"smoothing_{name}"] for name in ("level", "trend", "seasonal")]
        usable = np.nan_to_num([*found, fitted.params["damping_trend"]], nan=0.0)
        self.parameters_ = np.clip(usable, 0.0, 1.0)
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        past = windows[:, windows.shape[1] - self._rows(windows.shape[1]) :]
        period = self._season(past.shape[1])
        alpha, beta, gamma, phi = self.parameters_
        level, trend, season = _states(past, period)
        season = np.ascontiguousarray(season.T)
        for row, value in enumerate(past.T):
            place = row % period
            expected = level + phi * trend
            error = value - expected - season[place]
            # weights of the components' errors, in statsmodels' terms of smoothed values
            season_error = value - expected
            new = expected + alpha * error
            trend = phi * trend + beta * (new - level - phi * trend)
            level = new
            season[place] += gamma * (season_error - season[place])
        ahead = np.arange(horizon)
        travelled = np.cumsum(phi ** (ahead + 1.0))
        places = (past.shape[1] + ahead) % period
        return np.asarray(level[:, None] + trend[:, None] * travelled + season[places].T)

    def _rows(self, rows: int) -> int:
        return min(rows, max(RECENT, SEASONS * self.period))

    def _season(self, rows: int) -> int:
        """Rows of a season, 1 where so many rows hold fewer than two."""
        return self.period if 1 < self.period <= min(rows // 2, PERIOD_MOST) else 1

    def to_arrays(self) -> Arrays:
        """The period and four numbers."""
        return {"period": np.array(self.period), "parameters": self.parameters_}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        model = cls(integer(arrays, "period"))
        model.parameters_ = floats(arrays, "parameters")
        return model


def _states(past: Array, period: int) -> tuple[Array, Array, Array]:
    """Level (k,), trend (k,), season (k, period) before windows (k, m), from their first rows."""
    if period <= 1:
        return past[:, :12].mean(axis=1), np.zeros(len(past)), np.zeros((len(past), 1))
    seasons = min(past.shape[1] // period, SEASONS)
    first = past[:, : seasons * period].reshape(len(past), seasons, period)
    season = (first - first.mean(axis=2, keepdims=True)).mean(axis=1)
    return first[:, 0].mean(axis=1), np.zeros(len(past)), season
