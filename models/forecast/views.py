"""The scales on which forecasters look at a series: as it is, or in logarithms.

Where values are positive and swing by factors, a rhythm multiplies: on logarithms it adds up.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, floats
from models.robust import typical

#: Values in usual units beyond which nothing is calculated.
LARGEST = 1e6
#: Logarithms want values above this share of the median: what touches zero has none.
LOWEST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class View:
    """Values in usual deviations around their middle, of logarithms with `log`."""

    log: bool
    middle: float
    unit: float

    @classmethod
    def of(cls, y: Array, log: bool = False) -> Self:
        """The view of values (n,), without gaps."""
        return cls(log, *typical(np.log(y) if log else y))

    def see(self, y: Array) -> Array:
        """Values of any shape in this view."""
        if self.log:
            y = np.log(np.maximum(y, np.exp(self.middle - 50.0)))
        return np.clip(y / self.unit - self.middle / self.unit, -LARGEST, LARGEST)

    def back(self, x: Array) -> Array:
        """What `see` made, as values."""
        y = self.middle + self.unit * x
        return np.exp(np.minimum(y, self.middle + 50.0)) if self.log else y

    def to_arrays(self) -> Arrays:
        """Three numbers."""
        return {"view": np.array([self.log, self.middle, self.unit], np.float64)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        log, middle, unit = (float(v) for v in floats(arrays, "view"))
        return cls(bool(log), middle, unit)


def has_logarithms(y: Array) -> bool:
    """Whether values (n,) are positive and stay clear of zero."""
    lowest = float(y.min())
    return lowest > 0 and lowest > LOWEST_SHARE * float(np.median(y))
