"""How far values may lie from a forecast, learned from its own errors in a backtest.

Split-conformal (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005): as
wide as errors were. But errors of neighbouring moments are one piece of news, so that a week of
them says less than their number: widths are those of the usual stretch, and how stretches differ.
"""

from statistics import NormalDist
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer, scalar

#: Stretches that the moments of a backtest are split into.
FOLDS = 8
#: Standard deviations between stretches that are added to their mean for an interval of 90 %, and
#: with which power of normal quantiles they grow: stretches know the less the rarer a value is.
CAUTION, RARER = 1.0, 1.5
#: The interval that tells how much wider than the backtest's errors is cautious.
WIDENED_AT = 0.9
#: Parts of a season that may differ in their errors, and seasons that say that they do not.
PARTS, PRIOR = 24, 3.0
#: Share of errors that tell their size: what is larger counts as that.
WINSORISED = 0.97
#: Steps that the size of errors is smoothed over, on both sides.
BESIDE = 3


class Widths:
    """Errors (moments, steps) as a size for each step and time of day, and their shape."""

    period: int
    scale_: Array
    shape_: Array
    caution_: float
    hours_: Array

    def fit(
        self, errors: Array, horizon: int, index: Integers | None = None, period: int = 0
    ) -> Self:
        """Learn from truth minus forecast (k, h), moments in order of time, h ≤ `horizon`.

        `index` (k,) are the moments' grid indices: errors may be larger at some places of a season
        of `period` rows.
        """
        steps = errors.shape[1]
        self.period, self.hours_ = period, np.ones(1)
        if index is not None and period > 1:
            places = (index[:, None] + np.arange(steps)) % period
            seasons = float(index[-1] - index[0] + steps) / period
            self.hours_ = _hours(errors, places, period, seasons)
            errors = errors / self._hour(places)
        size = np.abs(errors).mean(axis=0)
        kernel = np.full(2 * BESIDE + 1, 1.0 / (2 * BESIDE + 1))
        self.scale_ = np.convolve(np.pad(size, BESIDE, mode="edge"), kernel, "valid") + 1e-9
        if steps < horizon:  # a history too short to see so far: grow like a random walk
            further = np.sqrt(np.arange(steps + 1, horizon + 1) / steps)
            self.scale_ = np.concatenate((self.scale_, self.scale_.max() * further))
        self.shape_ = (errors / self.scale_[:steps]).astype(np.float32).astype(np.float64)
        self.caution_ = CAUTION if len(errors) > 1 else 1.0
        return self

    def _hour(self, places: Integers) -> Array:
        """How large errors at places in the season usually are, beside all others."""
        return np.asarray(self.hours_[places * len(self.hours_) // max(self.period, 1)])

    def _scale(self, index: int) -> Array:
        """Size of errors (horizon,) from a grid index on."""
        ahead = index + np.arange(len(self.scale_), dtype=np.int64)
        return self.scale_ * self._hour(ahead % max(self.period, 1))

    def sides(self, level: float, index: int = 0) -> tuple[Array, Array]:
        """How far below and above (horizon,) values lie with a probability of `level`; ≤ 0 ≤.

        `index` is the grid index of the first step.
        """
        low, high = self._ends(level)
        scale = self._scale(index)
        return low * scale, high * scale

    def coverage(self, errors: Array, index: Integers, level: float) -> float:
        """Share of errors (k, h) from grid indices (k,) on that lie between the sides."""
        low, high = self._ends(level)
        places = (index[:, None] + np.arange(errors.shape[1])) % max(self.period, 1)
        scale = self.scale_[: errors.shape[1]] * self._hour(places)
        return float(((errors >= low * scale) & (errors <= high * scale)).mean())

    def _ends(self, level: float) -> tuple[float, float]:
        """The sides in sizes of errors."""
        tail = (1.0 - level) / 2.0
        parts = np.array_split(self.shape_, min(FOLDS, len(self.shape_)))
        asked = [tail, 1.0 - tail]
        if len({len(part) for part in parts}) == 1:  # one call takes a fraction of the time
            ends = np.quantile(np.reshape(parts, (len(parts), -1)), asked, axis=1).T
        else:
            ends = np.array([np.quantile(part, asked) for part in parts])
        rarity = NormalDist().inv_cdf(1.0 - tail) / NormalDist().inv_cdf((1.0 + WIDENED_AT) / 2.0)
        caution = self.caution_ * rarity**RARER
        wide = caution * ends.std(axis=0, ddof=1) if len(parts) > 1 else ends[0]
        low, high = ends.mean(axis=0) + np.array([-1.0, 1.0]) * np.abs(wide)
        return min(float(low), 0.0), max(float(high), 0.0)

    def paths(self, index: int = 0) -> Array:
        """(k, horizon) courses of errors, as the backtest had them, as much wider as `sides` are.

        Where the backtest saw less far they go on at their last place.
        """
        low, high = self._ends(WIDENED_AT)
        ends = np.quantile(self.shape_, [(1.0 - WIDENED_AT) / 2.0, (1.0 + WIDENED_AT) / 2.0])
        narrow = max(float(ends[1] - ends[0]), 1e-9)
        shape = self.shape_ * max(1.0, (high - low) / narrow)
        missing = len(self.scale_) - shape.shape[1]
        if missing:
            shape = np.concatenate((shape, np.repeat(shape[:, -1:], missing, axis=1)), axis=1)
        return np.asarray(shape * self._scale(index))

    def to_arrays(self) -> Arrays:
        """Sizes and shapes."""
        return {
            "scale": self.scale_,
            "shape": self.shape_.astype(np.float32),
            "caution": np.array(self.caution_),
            "hours": self.hours_,
            "period": np.array(self.period),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        own = cls()
        own.scale_, own.shape_ = floats(arrays, "scale"), floats(arrays, "shape")
        own.caution_ = scalar(arrays, "caution")
        own.hours_, own.period = floats(arrays, "hours"), integer(arrays, "period")
        return own


def _hours(errors: Array, places: Integers, period: int, seasons: float) -> Array:
    """How large errors (k, h) are at each of some parts of the season, in the usual ones.

    `seasons` is how many they tell of.
    """
    parts = min(PARTS, max(period, 1))
    size = np.abs(errors)
    size = np.minimum(size, np.quantile(size, WINSORISED)).ravel()
    usual = float(size.mean())
    if usual <= 0.0 or parts < 2:
        return np.ones(1)
    part = (places * parts // period).ravel()
    both = np.stack([np.bincount(part, weights, parts) for weights in (np.ones(len(part)), size)])
    count, total = 2.0 * both + np.roll(both, 1, axis=1) + np.roll(both, -1, axis=1)
    mean = np.where(count > 0, total / np.maximum(count, 1.0), usual)
    return np.asarray((seasons * mean + PRIOR * usual) / ((seasons + PRIOR) * usual))
