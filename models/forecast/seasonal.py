"""The plain forecast that every other one must beat."""

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
