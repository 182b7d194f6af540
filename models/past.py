"""A series as features see it: values in handy units, and sums that answer for any stretch."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats
from models.robust import windows

#: In units of `Units`: its square still leaves room, and sums keep four digits of ordinary values.
LARGEST = 1e12


@dataclass(frozen=True, slots=True)
class Units:
    """Turns values into ones around zero, of a size that neither overflows nor vanishes."""

    origin: float
    size: float

    @classmethod
    def of(cls, y: Array) -> Self:
        """From the first few values (n,)."""
        origin = float(y[0]) if len(y) else 0.0
        size = float(np.abs(y).max()) if len(y) else 0.0
        return cls(origin, 10.0 ** round(float(np.log10(size))) if size > 1e-290 else 1.0)

    def apply(self, y: Array) -> Array:
        """Values (n,) in these units."""
        return np.asarray(np.clip(y / self.size - self.origin / self.size, -LARGEST, LARGEST))

    def restore(self, x: Array) -> Array:
        """Back to the units of the series; the largest that float64 has, if it takes more."""
        with np.errstate(over="ignore"):
            y = x * self.size + self.origin
        return np.asarray(y if np.isfinite(y).all() else np.nan_to_num(y))

    def to_arrays(self) -> Arrays:
        """Two numbers."""
        return {"units": np.array([self.origin, self.size])}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        origin, size = (float(v) for v in floats(arrays, "units"))
        return cls(origin, size)


class Past:
    """Values (n,) on a grid whose first cell has index `first`, and their running sums."""

    def __init__(self, x: Array, first: int) -> None:
        self.x, self.first = x, first
        self.total = np.concatenate(([0.0], np.cumsum(x)))

    def __len__(self) -> int:
        return len(self.x)

    def means(self, rows: Integers, near: Integers, far: Integers) -> Array:
        """Means of x[t-far..t-near] for every t in `rows`, ascending, and pair of lags.

        (rows, pairs); NaN where the past is too short.
        """
        start, stop = rows[:, None] - far, rows[:, None] - (near - 1)
        if len(rows) and len(far) and rows[0] >= far.max():
            mean = self.total.take(stop)
            mean -= self.total.take(start)
            mean /= far - near + 1
            return mean
        mean = self.total[np.maximum(stop, 0)] - self.total[np.maximum(start, 0)]
        return np.where(start >= 0, mean / (far - near + 1), np.nan)

    def level(self, rows: Integers, lag: int, width: int) -> Array:
        """Mean of up to `width` values that end `lag` rows before each of `rows`, ascending.

        The first value if there is none.
        """
        stop = rows - (lag - 1)
        if len(rows) and stop[0] >= width:
            return np.asarray((self.total.take(stop) - self.total.take(stop - width)) / width)
        stop = np.maximum(stop, 0)
        begin = np.maximum(stop - width, 0)
        mean = (self.total[stop] - self.total[begin]) / np.maximum(stop - begin, 1)
        return np.asarray(np.where(stop > 0, mean, self.x[0]))

    def windows(self, width: int, start: int, stop: int) -> Array:
        """The `width` newest values up to each of x[start:stop]: (stop - start, width).

        The first value stands in for what is before it.
        """
        need = self.x[max(0, start - width + 1) : stop]
        missing = max(0, width - 1 - start)
        if missing:
            need = np.concatenate((np.full(missing, self.x[0]), need))
        return windows(need, width)
