"""What should the value be? Ridge autoregression on recent and seasonal lags, and its band.

Hoerl and Kennard, "Ridge regression", Technometrics 1970; robust weights after Huber, "Robust
estimation of a location parameter", Annals of Mathematical Statistics 1964. A prediction made h
steps ahead uses nothing newer than h steps: with h of about an hour the expectation shows the
pattern of the series instead of following the last value into every anomaly.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats

RIDGE = 50.0
#: Inputs are limited to so many typical deviations: an anomaly among the lags must not throw
#: the prediction about a day later.
CLIP = 5.0
LEVEL_ROWS = 60


def lag_means(x: Array, rows: Integers, near: Integers, far: Integers) -> Array:
    """Means of x[t-far..t-near] for every t in `rows` and pair of lags: (rows, pairs).

    NaN where the past is too short.
    """
    total = np.concatenate(([0.0], np.cumsum(x)))
    start = rows[:, None] - far
    stop = np.maximum(rows[:, None] - near + 1, 0)
    mean = (total[stop] - total[np.maximum(start, 0)]) / (far - near + 1)
    return np.where(start >= 0, mean, np.nan)


def winsorised_mean(values: Array, share: float = 0.98) -> float:
    """Mean of values ≥ 0 after the largest were cut to the `share` quantile; 0 for none."""
    if not len(values):
        return 0.0
    return float(np.minimum(values, np.quantile(values, share)).mean())


class RidgeAutoregression:
    """Predicts x[t] from what lies at least `horizon` rows before it.

    Inputs are means of recent lags and of the same time on earlier days, relative to the local
    level. Only lags that half of the training rows have are used.
    """

    near_: Integers
    far_: Integers
    weights_: Array
    unit_: float
    bounds_: tuple[float, float]

    def __init__(self, horizon: int, period: int, memory: int) -> None:
        self.horizon, self.period, self.memory = horizon, period, memory

    def fit(self, x: Array, trusted: Array) -> Self:
        """Learn from x (n,) with weights `trusted` (n,) of 0 for rows nobody measured."""
        n = len(x)
        low, high = (float(q) for q in np.quantile(x[trusted > 0], [0.002, 0.998]))
        margin = max(high - low, 1e-3)
        self.bounds_ = (low - margin, high + margin)
        self.near_, self.far_ = self._lags(n)
        rows = np.arange(n)
        F, level = self._design(x, rows)
        deviation = x - level
        self.unit_ = max(winsorised_mean(np.abs(deviation[trusted > 0])), 1e-3)
        Z = np.clip(F / self.unit_, -CLIP, CLIP)
        y = np.clip(deviation / self.unit_, -2 * CLIP, 2 * CLIP)
        weight = np.where(rows < min(self.horizon, n // 4), 0.0, trusted)
        self.weights_ = np.zeros(Z.shape[1])
        for _ in range(3):
            gram = (Z * weight[:, None]).T @ Z + RIDGE * np.eye(Z.shape[1])
            solved = np.linalg.solve(gram, (Z * weight[:, None]).T @ y)
            self.weights_ = np.asarray(solved, np.float64)
            error = np.abs(y - Z @ self.weights_)
            limit = 3.0 * winsorised_mean(error[trusted > 0]) + 1e-9
            weight = np.where(weight > 0, limit / np.maximum(error, limit), 0.0)
        return self

    def predict(self, x: Array, start: int) -> Array:
        """Predictions of x[start:], each from its own past: (n - start,)."""
        F, level = self._design(x, np.arange(start, len(x)))
        Z = np.clip(F / self.unit_, -CLIP, CLIP)
        return np.clip(level + self.unit_ * (Z @ self.weights_), *self.bounds_)

    def _lags(self, n: int) -> tuple[Integers, Integers]:
        h, period = self.horizon, self.period
        pairs = [(h + k, h + k) for k in (0, 1, 2, 3, 4, 5, 7, 9)]
        pairs += [(h, h + k) for k in (24, 59, 119)]
        around, wide = max(1, period // 288), max(2, period // 24)
        for days in (1, 2, 3, 7) if period else ():
            lag = days * period
            if lag - around // 2 >= h:
                pairs.append((lag - around // 2, lag + around // 2))
                pairs.append((max(h, lag - wide), lag + wide))
            if days != 3 and lag - 2 * around >= h:
                pairs.append((lag - 2 * around, lag - around))
                pairs.append((lag + around, lag + 2 * around))
        reach = min(self.memory, int(0.6 * n))
        chosen = np.array([p for p in pairs if p[1] <= max(reach, h)], np.int64).reshape(-1, 2)
        return chosen[:, 0], chosen[:, 1]

    def _design(self, x: Array, rows: Integers) -> tuple[Array, Array]:
        """Inputs relative to the level (rows, p), and the level (rows,)."""
        x = np.clip(x, *self.bounds_)  # else a freak value would sit in every mean for an hour
        total = np.concatenate(([0.0], np.cumsum(x)))
        stop = np.maximum(rows - self.horizon + 1, 0)
        begin = np.maximum(stop - LEVEL_ROWS, 0)
        level = (total[stop] - total[begin]) / np.maximum(stop - begin, 1)
        level = np.where(stop > 0, level, x[0])
        lags = lag_means(x, rows, self.near_, self.far_)
        return np.nan_to_num(lags - level[:, None]), level

    def to_arrays(self) -> Arrays:
        """Lags, weights and limits."""
        return {
            "settings": np.array([self.horizon, self.period, self.memory], np.int64),
            "near": self.near_,
            "far": self.far_,
            "weights": self.weights_,
            "limits": np.array([self.unit_, *self.bounds_]),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        horizon, period, memory = (int(v) for v in np.asarray(arrays["settings"], np.int64))
        model = cls(horizon, period, memory)
        model.near_ = np.asarray(arrays["near"], np.int64)
        model.far_ = np.asarray(arrays["far"], np.int64)
        model.weights_ = floats(arrays, "weights")
        model.unit_, low, high = (float(v) for v in floats(arrays, "limits"))
        model.bounds_ = (low, high)
        return model


class ScaleOfDay:
    """How large errors usually are at each time of the day: half the hour's own, half overall.

    `floor` is the smallest scale; 24 bins a period, fewer where a period has fewer rows.
    """

    bins_: Array

    def __init__(self, period: int, floor: float) -> None:
        self.period, self.floor = period, floor

    def fit(self, error: Array, index: Integers) -> Self:
        """Learn from errors (n,) at grid indices (n,)."""
        size = np.abs(error)
        overall = winsorised_mean(size)
        count = min(24, self.period) if self.period else 1
        place = self._bin(index, count)
        cut = np.minimum(size, 5.0 * overall)
        total = np.bincount(place, cut, count) + 10.0 * overall
        mean = total / (np.bincount(place, minlength=count) + 10.0)
        if count > 2:
            mean = 0.5 * mean + 0.25 * (np.roll(mean, 1) + np.roll(mean, -1))
        self.bins_ = np.maximum(np.maximum(0.5 * (mean + overall), 0.3 * overall), self.floor)
        return self

    def at(self, index: Integers) -> Array:
        """Scale at grid indices (n,)."""
        return np.asarray(self.bins_[self._bin(index, len(self.bins_))])

    def _bin(self, index: Integers, count: int) -> Integers:
        if not self.period:
            return np.zeros(len(index), np.int64)
        return np.asarray(index % self.period * count // self.period, np.int64)

    def to_arrays(self) -> Arrays:
        """Scale of each bin."""
        return {"bins": self.bins_, "settings": np.array([self.period, self.floor])}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        period, floor = (float(v) for v in floats(arrays, "settings"))
        scale = cls(int(period), floor)
        scale.bins_ = floats(arrays, "bins")
        return scale


class Band:
    """Around an expectation, where about 99 % of values fell out of sample.

    The two sides have their own width, limited by what it takes to hold less: twice the 97.5 %
    quantile of a side, three times its 90 % quantile. A past outage of half a day then does not
    make the band useless; where tails are heavier than a Laplace distribution's, it holds less.
    """

    low_: float
    high_: float

    def fit(self, residual: Array) -> Self:
        """Learn from out-of-sample residuals in units of their scale (n,)."""
        below, above = np.maximum(-residual, 0.0), np.maximum(residual, 0.0)
        # the plain and the cautious quantile; a finite sample needs the (n+1)/n of conformal bands
        level = min(1.0, 0.995 * (1.0 + 1.0 / max(len(residual), 1)))
        sides = []
        for side in (below, above):
            often, mostly = (float(q) for q in np.quantile(side, [0.975, 0.9]))
            usual = min(2.0 * often, 3.0 * mostly) + 0.25
            # few residuals rarely show how far the tail goes
            wider = 1.0 + 8.0 / max(len(residual), 8)
            sides.append(wider * min(float(np.quantile(side, level)), usual) + 1e-9)
        self.low_, self.high_ = sides
        return self

    def around(self, expected: Array, scale: Array) -> tuple[Array, Array]:
        """Lower and upper limits (n,) for expectations and their scales (n,)."""
        return expected - self.low_ * scale, expected + self.high_ * scale

    def to_arrays(self) -> Arrays:
        """The two widths, in scales."""
        return {"sides": np.array([self.low_, self.high_])}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        band = cls()
        band.low_, band.high_ = (float(v) for v in floats(arrays, "sides"))
        return band
