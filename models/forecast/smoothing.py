"""Simple exponential smoothing of what is left without the season.

Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", 1957 (reprinted
in the International Journal of Forecasting 2004); without a trend, and with the season as usual
deviations instead of smoothed ones.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats

#: Rows that smoothing is chosen on, and that a level is made of.
RECENT = 720
#: Weights of the newest row that are tried, and steps ahead at which they are judged.
WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
AHEAD = (1, 6, 12, 24, 48)


class SmoothedSeason:
    """The usual deviation of the time of the season on top of a level that follows the values.

    With a fixed `weight` of 1 that is the last value, moved as the time of day moves it: what
    nothing beats on a random walk with a season. Blind to trends; slow on rhythms that change.
    """

    season_: Array
    weight_: float

    def __init__(self, period: int, periods: int, weight: float | None = None) -> None:
        self.period, self.periods, self.weight = period, periods, weight

    def fit(self, y: Array, first: int) -> Self:
        """Learn from values (n,) whose first has grid index `first`."""
        period = self.period if 1 < self.period <= len(y) // 2 else 1
        self.season_ = seasonal_shape(y, first, period, self.periods)
        if self.weight is not None:
            self.weight_ = self.weight
            return self
        plain = (y - self.season_[(first + np.arange(len(y))) % period])[-RECENT:]
        start = plain[:24].mean()
        best = np.inf
        for weight, level in zip(WEIGHTS, _levels(plain, start), strict=True):
            error = sum(
                float(np.abs(plain[24 + h :] - level[24:-h]).mean())
                for h in AHEAD
                if len(plain) > 2 * (24 + h)
            )
            if error < best:
                best, self.weight_ = error, weight
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        period, take = len(self.season_), min(windows.shape[1], RECENT)
        if self.weight_ == 1.0:
            take = 1
        places = index[:, None] + np.arange(-take, 0)
        plain = windows[:, windows.shape[1] - take :] - self.season_[places % period]
        weights = self.weight_ * (1.0 - self.weight_) ** np.arange(take - 1, -1, -1)
        level = plain @ (weights / weights.sum())
        return np.asarray(
            level[:, None] + self.season_[(index[:, None] + np.arange(horizon)) % period]
        )

    def to_arrays(self) -> Arrays:
        """Season and smoothing."""
        return {
            "settings": np.array([self.period, self.periods], np.int64),
            "season": self.season_,
            "weight": np.array(self.weight_),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to predict."""
        period, periods = (int(v) for v in np.asarray(arrays["settings"], np.int64))
        model = cls(period, periods)
        model.season_ = floats(arrays, "season")
        model.weight_ = float(floats(arrays, "weight"))
        return model


#: Rows of a block, how much a block's rows count for each level in it, and its start for them.
_BLOCK = 24
_AGO = np.arange(_BLOCK)[:, None] - np.arange(_BLOCK)
_WEIGHTS = np.array(WEIGHTS)[:, None, None]
_WITHIN = np.where(_AGO >= 0, _WEIGHTS * (1.0 - _WEIGHTS) ** np.maximum(_AGO, 0), 0.0)
_CARRIED = (1.0 - _WEIGHTS[:, 0]) ** np.arange(1, _BLOCK + 1)


def _levels(plain: Array, start: float) -> Array:
    """Levels (weights, n) after each of values (n,), for each of `WEIGHTS`: block by block."""
    blocks = np.pad(plain, (0, -len(plain) % _BLOCK)).reshape(-1, _BLOCK)
    levels = np.asarray(blocks @ _WITHIN.transpose(0, 2, 1))
    before = np.full(len(WEIGHTS), start)
    for block in range(len(blocks)):
        levels[:, block] += before[:, None] * _CARRIED
        before = levels[:, block, -1]
    return levels.reshape(len(WEIGHTS), -1)[:, : len(plain)]


def seasonal_shape(y: Array, first: int, period: int, periods: int) -> Array:
    """Usual deviation from the period's mean at each place in the period: (period,), mean 0.

    The median over the newest `periods` (the mean of two or less): one bad day leaves no mark.
    """
    if period <= 1:
        return np.zeros(1)
    whole = min(len(y) // period, periods)
    if whole < 1:
        return np.zeros(period)
    begin = len(y) - whole * period
    days = y[begin:].reshape(whole, period)
    deviation = days - days.mean(axis=1, keepdims=True)
    shape = np.median(deviation, axis=0) if whole > 2 else deviation.mean(axis=0)
    return np.asarray(np.roll(shape - shape.mean(), (first + begin) % period))
