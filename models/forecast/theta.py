"""The Theta method, on the deseasonalised series.

Assimakopoulos and Nikolopoulos, "The theta model", International Journal of Forecasting 2000;
as exponential smoothing with drift after Hyndman and Billah, "Unmasking the Theta method", 2003.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer
from models.forecast.smoothing import seasonal_shape

#: Rows that smoothing and drift are estimated on; older ones hardly count and cost time.
RECENT = 720
#: Seasons that usual deviations are the median of.
PERIODS = 14


class Theta:
    """Smoothed level, half of the linear trend, and the usual deviation of the time of day.

    Good on short series with a trend; slow to follow a level that jumps.
    """

    season_: Array
    alpha_: float
    drift_: float

    def __init__(self, period: int) -> None:
        self.period = period

    def fit(self, y: Array, first: int) -> Self:
        """Learn from values (n,) whose first has grid index `first`."""
        period = self.period if 1 < self.period <= len(y) // 2 else 1
        self.season_ = seasonal_shape(y, first, period, PERIODS)
        plain = y - self.season_[(first + np.arange(len(y))) % period]
        recent = plain[-RECENT:]
        middle, unit = float(np.median(recent)), float(np.abs(recent - np.median(recent)).mean())
        self.alpha_, self.drift_ = 0.2, 0.0
        if unit > 1e-9 * (1.0 + abs(middle)):
            scaled = np.clip((recent - middle) / unit, -10.0, 10.0)
            # forecasting does without; it takes a second to import
            from statsmodels.tsa.forecasting.theta import ThetaModel

            fitted = ThetaModel(scaled, period=1, deseasonalize=False, use_test=False).fit()
            self.alpha_ = float(np.clip(fitted.params["alpha"], 0.01, 1.0))
            # the drift of theta = 2; a trend of 700 rows says little about the next day: damp it
            self.drift_ = 0.5 * unit * float(np.clip(fitted.params["b0"], -0.02, 0.02))
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        period = len(self.season_)
        m = windows.shape[1]
        take = min(m, RECENT)
        places = index[:, None] + np.arange(-take, 0)
        plain = windows[:, m - take :] - self.season_[places % period]
        weights = self.alpha_ * (1.0 - self.alpha_) ** np.arange(take - 1, -1, -1)
        weights /= weights.sum()
        level = (plain * weights).sum(axis=1)
        ahead = np.arange(horizon)
        season = self.season_[(index[:, None] + ahead) % period]
        return np.asarray(level[:, None] + self.drift_ * (ahead + 1.0) + season)

    def to_arrays(self) -> Arrays:
        """Season, smoothing, drift."""
        return {
            "period": np.array(self.period),
            "season": self.season_,
            "smoothing": np.array([self.alpha_, self.drift_]),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        model = cls(integer(arrays, "period"))
        model.season_ = floats(arrays, "season")
        model.alpha_, model.drift_ = (float(v) for v in floats(arrays, "smoothing"))
        return model
