"""Chooses a forecaster by rolling backtest and puts honest intervals around what it says.

Intervals are split-conformal (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World", 2005): as wide as the backtest's own errors were, step by step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import (
    Array,
    ArrayMap,
    Arrays,
    Forecaster,
    Integers,
    floats,
    integer,
    nested,
    scalar,
    within,
)
from models.forecast.autoregressive import RidgeForecaster
from models.forecast.seasonal import SeasonalMedian, SeasonalNaive
from models.forecast.theta import Theta
from models.forecast.trend import DampedTrend
from models.grid import Grid
from models.robust import typical

#: Rows that forecasters look back on.
MEMORY = 2400
ROWS_MIN = 32
#: The candidates are fitted once on the first share of the history; the rest judges them.
FITTED_SHARE = 0.7
#: Moments of the rest from which they must look ahead.
ORIGINS = 40
FLAT_HANDICAP = 1.1


class Kind(NamedTuple):
    """How a candidate is made for a period and a memory in rows, and read back."""

    make: Callable[[int, int], Forecaster]
    load: Callable[[ArrayMap], Forecaster]


KINDS: dict[str, Kind] = {
    "naive": Kind(lambda period, memory: SeasonalNaive(1), SeasonalNaive.from_arrays),
    "seasonal_naive": Kind(lambda period, memory: SeasonalNaive(period), SeasonalNaive.from_arrays),
    "seasonal_median": Kind(
        lambda period, memory: SeasonalMedian(period), SeasonalMedian.from_arrays
    ),
    "weekly_naive": Kind(
        lambda period, memory: SeasonalNaive(7 * period), SeasonalNaive.from_arrays
    ),
    "ridge": Kind(RidgeForecaster, RidgeForecaster.from_arrays),
    "trend": Kind(lambda period, memory: DampedTrend(), DampedTrend.from_arrays),
    "theta": Kind(lambda period, memory: Theta(period), Theta.from_arrays),
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """The next values: all (horizon,), times in milliseconds, `lower <= value <= upper`.

    `model` names the forecaster; `fell_back` says that the chosen one left all reason and the
    last value stands in for it.
    """

    t_ms: Integers
    value: Array
    lower: Array
    upper: Array
    model: str
    fell_back: bool


class SeriesForecaster:
    """Fits every candidate, keeps the one with the smallest error out of sample.

    `horizon` in steps of the series; `level` is the share of values that intervals should hold.
    After `fit`, `errors_` has each candidate's mean absolute error in the backtest, `chosen_` the
    winner, `coverage_` the share of backtest values inside the intervals.
    """

    def __init__(self, horizon: int = 24, level: float = 0.9) -> None:
        self.horizon, self.level = horizon, level

    def fit(self, t_ms: Integers, values: Array) -> Self:
        """Learn from timestamps (n,), ascending milliseconds, and values (n,).

        Raises ValueError with fewer than `ROWS_MIN` finite values.
        """
        usable = int(np.isfinite(values).sum())
        if usable < ROWS_MIN:
            raise ValueError(f"values: {usable} finite rows, a forecaster needs {ROWS_MIN}")
        self.grid_ = Grid.learn(t_ms)
        laid = self.grid_.lay(t_ms, values)
        self.middle_, self.unit_ = typical(laid.y)
        y, first, n = self._inside(laid.y), laid.first, len(laid.y)
        self.range_ = np.array([float(y.min()), float(y.max())])
        self.floor_ = 0.0 if float(laid.y.min()) >= 0 else -np.inf

        cut = max(ROWS_MIN // 2, round(FITTED_SHARE * n))
        horizon = min(self.horizon, max(1, (n - cut) // 2))
        memory = min(MEMORY, cut)
        origins = np.unique(np.linspace(cut, n - horizon, ORIGINS).round().astype(np.int64))
        windows = sliding_window_view(y, memory)[origins - memory]
        truth = sliding_window_view(y, horizon)[origins]
        self.errors_: dict[str, float] = {}
        paths: dict[str, Array] = {}
        for name in self._candidates(cut):
            model = self._make(name, memory).fit(y[:cut], first)
            path = model.predict(windows, first + origins, horizon)
            if self._unreasonable(path, windows):
                continue
            paths[name] = path
            self.errors_[name] = float(np.abs(path - truth).mean()) * self.unit_
        self.chosen_ = min(self.errors_, key=self._cost)
        self._learn_widths(truth - paths[self.chosen_], horizon)
        self.error_ = self.errors_[self.chosen_]
        spread = (truth - paths[self.chosen_]) / self.unit_scale_[:horizon]
        self.coverage_ = float(((spread >= self.sides_[0]) & (spread <= self.sides_[1])).mean())
        self.model_ = self._make(self.chosen_, MEMORY).fit(y, first)
        keep = np.flatnonzero(np.isfinite(values))[-MEMORY:]
        self.tail_t_, self.tail_v_ = t_ms[keep], values[keep]
        return self

    def predict(self, t_ms: Integers, values: Array) -> Forecast:
        """The steps after the newest of the rows (n,); without any, after the training's end."""
        before = self.tail_t_ < t_ms[0] if len(t_ms) else np.ones(len(self.tail_t_), np.bool_)
        t = np.concatenate((self.tail_t_[before], t_ms))
        laid = self.grid_.lay(t, np.concatenate((self.tail_v_[before], values)))
        y = self._inside(laid.y)[-MEMORY:]
        index = np.array([laid.first + len(laid.y)], np.int64)
        path = self.model_.predict(y[None], index, self.horizon)
        fell_back = self._unreasonable(path, y[None])
        if fell_back:
            path = np.repeat(y[None, -1:], self.horizon, axis=1)
        value = path[0]
        lower = self._outside(value + self.sides_[0] * self.unit_scale_)
        upper = self._outside(value + self.sides_[1] * self.unit_scale_)
        value = self._outside(value)
        start = int(t[-1]) if len(t) else 0
        return Forecast(
            start + (1 + np.arange(self.horizon, dtype=np.int64)) * self.grid_.step_ms,
            value,
            np.minimum(lower, value),
            np.maximum(upper, value),
            "naive" if fell_back else self.chosen_,
            fell_back,
        )

    def _cost(self, name: str) -> float:
        # a flat line warns of nothing: what moves may be wrong by a tenth more
        return self.errors_[name] * (FLAT_HANDICAP if name == "naive" else 1.0)

    def _candidates(self, rows: int) -> list[str]:
        period = self.grid_.period
        names = ["naive", "trend", "ridge", "theta"]
        if 1 < period <= rows:
            names.append("seasonal_naive")
        if 1 < 3 * period <= min(rows, MEMORY):
            names.append("seasonal_median")
        if 1 < 7 * period <= min(rows, MEMORY):
            names.append("weekly_naive")
        return names

    def _make(self, name: str, memory: int) -> Forecaster:
        return KINDS[name].make(self.grid_.period, memory)

    def _learn_widths(self, error: Array, horizon: int) -> None:
        """Errors grow with the step: a smooth scale per step, and one quantile for all of them."""
        size = np.abs(error).mean(axis=0)
        smooth = np.convolve(np.pad(size, 2, mode="edge"), np.full(5, 0.2), "valid")
        scale = np.maximum.accumulate(smooth) + 1e-9
        if horizon < self.horizon:  # a history too short to see so far: grow like a random walk
            further = np.sqrt(np.arange(horizon + 1, self.horizon + 1) / horizon)
            scale = np.concatenate((scale, scale[-1] * further))
        self.unit_scale_ = scale
        spread = (error / scale[:horizon]).ravel()
        tail = (1.0 - self.level) / 2.0
        correction = 1.0 + 1.0 / error.shape[0]
        high = min(1.0, (1.0 - tail) * correction)
        sides = np.quantile(spread, [1.0 - high, high])
        self.sides_ = np.array([min(float(sides[0]), 0.0), max(float(sides[1]), 0.0)])

    def _inside(self, y: Array) -> Array:
        """Values in usual units, cut where no forecast would be of use."""
        return np.clip(y / self.unit_ - self.middle_ / self.unit_, -1e6, 1e6)

    def _outside(self, x: Array) -> Array:
        return np.maximum(self.middle_ + self.unit_ * x, self.floor_)

    def _unreasonable(self, path: Array, windows: Array) -> bool:
        """Whether a path leaves what was ever seen, and what is now, by more than that range."""
        low, high = self.range_
        margin = max(high - low, 1.0)
        recent = windows[:, -24:]
        low = np.minimum(low, recent.min(axis=1, keepdims=True)) - margin
        high = np.maximum(high, recent.max(axis=1, keepdims=True)) + margin
        return not bool(np.all((path >= low) & (path <= high)))

    def to_arrays(self) -> Arrays:
        """Everything that `predict` needs."""
        return {
            **self.grid_.to_arrays(),
            "horizon": np.array(self.horizon),
            "level": np.array(self.level),
            "chosen": np.array(self.chosen_),
            "normal": np.array([self.middle_, self.unit_, self.floor_]),
            "range": self.range_,
            "scale": self.unit_scale_,
            "sides": self.sides_,
            "tail_t": self.tail_t_,
            "tail_v": self.tail_v_,
            **nested("model", self.model_.to_arrays()),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`. Raises KeyError if something is missing."""
        own = cls(integer(arrays, "horizon"), scalar(arrays, "level"))
        own.grid_ = Grid.from_arrays(arrays)
        own.chosen_ = str(arrays["chosen"])
        own.middle_, own.unit_, own.floor_ = (float(v) for v in floats(arrays, "normal"))
        own.range_ = floats(arrays, "range")
        own.unit_scale_ = floats(arrays, "scale")
        own.sides_ = floats(arrays, "sides")
        own.tail_t_ = np.asarray(arrays["tail_t"], np.int64)
        own.tail_v_ = floats(arrays, "tail_v")
        own.model_ = KINDS[own.chosen_].load(within("model", arrays))
        return own
