"""How far values may lie from a forecast, learned from its own errors in a backtest.

Split-conformal (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005): as
wide as errors were. But errors of neighbouring moments are one piece of news, so that a week of
them says less than their number: widths are those of the usual stretch, and how stretches differ.
"""

from statistics import NormalDist
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, floats, scalar

#: Stretches that the moments of a backtest are split into.
FOLDS = 8
#: Standard deviations between stretches that are added to their mean for an interval of 90 %, and
#: with which power of normal quantiles they grow: stretches know the less the rarer a value is.
CAUTION, RARER = 1.0, 1.5
#: The interval that tells how much wider than the backtest's errors is cautious.
WIDENED_AT = 0.9
#: Steps that the size of errors is smoothed over, on both sides.
BESIDE = 3


class Widths:
    """Errors (moments, steps) as a size for each step and their shape around it."""

    scale_: Array
    shape_: Array
    caution_: float

    def fit(self, errors: Array, horizon: int) -> Self:
        """Learn from truth minus forecast (k, h), moments in order of time, h ≤ `horizon`."""
        steps = errors.shape[1]
        size = np.abs(errors).mean(axis=0)
        kernel = np.full(2 * BESIDE + 1, 1.0 / (2 * BESIDE + 1))
        self.scale_ = np.convolve(np.pad(size, BESIDE, mode="edge"), kernel, "valid") + 1e-9
        if steps < horizon:  # a history too short to see so far: grow like a random walk
            further = np.sqrt(np.arange(steps + 1, horizon + 1) / steps)
            self.scale_ = np.concatenate((self.scale_, self.scale_.max() * further))
        self.shape_ = (errors / self.scale_[:steps]).astype(np.float32).astype(np.float64)
        self.caution_ = CAUTION if len(errors) > 1 else 1.0
        return self

    def sides(self, level: float) -> tuple[Array, Array]:
        """How far below and above (horizon,) values lie with a probability of `level`; ≤ 0 ≤."""
        tail = (1.0 - level) / 2.0
        parts = np.array_split(self.shape_, min(FOLDS, len(self.shape_)))
        ends = np.array([np.quantile(part, [tail, 1.0 - tail]) for part in parts])
        rarity = NormalDist().inv_cdf(1.0 - tail) / NormalDist().inv_cdf((1.0 + WIDENED_AT) / 2.0)
        caution = self.caution_ * rarity**RARER
        wide = caution * ends.std(axis=0, ddof=1) if len(parts) > 1 else ends[0]
        low, high = ends.mean(axis=0) + np.array([-1.0, 1.0]) * np.abs(wide)
        return min(low, 0.0) * self.scale_, max(high, 0.0) * self.scale_

    def paths(self) -> Array:
        """(k, horizon) courses of errors, as the backtest had them, as much wider as `sides` are.

        Where the backtest saw less far they go on at their last place.
        """
        low, high = self.sides(WIDENED_AT)
        ends = np.quantile(self.shape_, [(1.0 - WIDENED_AT) / 2.0, (1.0 + WIDENED_AT) / 2.0])
        narrow, wide = max(float(ends[1] - ends[0]), 1e-9), float((high - low)[0] / self.scale_[0])
        shape = self.shape_ * max(1.0, wide / narrow)
        missing = len(self.scale_) - shape.shape[1]
        if missing:
            shape = np.concatenate((shape, np.repeat(shape[:, -1:], missing, axis=1)), axis=1)
        return np.asarray(shape * self.scale_)

    def to_arrays(self) -> Arrays:
        """Sizes and shapes."""
        return {
            "scale": self.scale_,
            "shape": self.shape_.astype(np.float32),
            "caution": np.array(self.caution_),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        own = cls()
        own.scale_, own.shape_ = floats(arrays, "scale"), floats(arrays, "shape")
        own.caution_ = scalar(arrays, "caution")
        return own
