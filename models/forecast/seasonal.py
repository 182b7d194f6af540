"""The plain forecasts that every other one must beat."""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, integer


class SeasonalNaive:
    """The same time one period ago; with a period of 0 or 1 the last value.

    Hard to beat where nothing but the time of day matters; it repeats yesterday's anomalies.
    """

    def __init__(self, period: int) -> None:
        self.period = period

    def fit(self, y: Array, first: int) -> Self:
        """Nothing to learn."""
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        period = max(1, min(self.period, windows.shape[1]))
        season = windows[:, windows.shape[1] - period :]
        return np.asarray(season[:, np.arange(horizon) % period])

    def to_arrays(self) -> Arrays:
        """The period."""
        return {"period": np.array(self.period)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        return cls(integer(arrays, "period"))


class SeasonalMedian:
    """The median of the same time on up to seven earlier periods, moved to the level of the last.

    Steadier than `SeasonalNaive` where days are alike but noisy.
    """

    def __init__(self, period: int) -> None:
        self.period = period

    def fit(self, y: Array, first: int) -> Self:
        """Nothing to learn."""
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        period = max(1, min(self.period, windows.shape[1]))
        count = min(7, windows.shape[1] // period)
        seasons = windows[:, windows.shape[1] - count * period :].reshape(-1, count, period)
        usual = np.median(seasons, axis=1)
        moved = np.median(seasons[:, -1] - usual, axis=1)
        return np.asarray((usual + moved[:, None])[:, np.arange(horizon) % period])

    def to_arrays(self) -> Arrays:
        """The period."""
        return {"period": np.array(self.period)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        return cls(integer(arrays, "period"))
