"""The forecast of one series: members weighted by how well each would have done before.

Weights fall with the fourth power of a member's error in a rolling backtest. On hourly series that
beats the best single member throughout (Bates and Granger, "The combination of forecasts", 1969,
for why; `docs/forecasts.md` for figures).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import (
    Array,
    ArrayMap,
    Arrays,
    Flags,
    Forecaster,
    Integers,
    floats,
    integer,
    nested,
    scalar,
    within,
)
from models.forecast.intervals import FOLDS, Widths
from models.forecast.pool import POOL, members
from models.forecast.views import View, has_logarithms
from models.grid import LARGEST, Grid

#: Rows that forecasters look back on.
MEMORY = 2400
ROWS_MIN = 32
#: Newest rows that are learned from: older ones say little and take time.
ROWS_MOST = 10_000
#: The members are fitted once on the first share of the history; the rest judges them.
FITTED_SHARE = 0.7
#: Moments of the rest from which they must look ahead.
ORIGINS = 24
#: Weights are errors to this power, inverted; members below a share of the largest are left out.
POWER, LEAST = 4.0, 0.01
#: How much the newest errors count beside those of the backtest: the series may have changed.
LATELY = 0.5
#: Where the path must stay, in ranges of what was ever seen beyond that range.
MARGIN = 1.0
RECENT = 24
_NO_TIMES, _NO_VALUES = np.zeros(0, np.int64), np.zeros(0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The next values: all (horizon,), times in milliseconds, `lower <= value <= upper`.

    `model` names the heaviest member; `fell_back` says that most of the weight left all reason, and
    what stayed, or the last value, stands in for it.
    """

    t_ms: Integers
    value: Array
    lower: Array
    upper: Array
    model: str
    fell_back: bool


class _Path(NamedTuple):
    """(horizon,) values ahead of the newest row at `t_ms`, in usual units.

    `begin` is the grid index of the first of them.
    """

    t_ms: int
    begin: int
    value: Array
    model: str
    fell_back: bool


class SeriesForecaster:
    """Fits every member of the pool and weights them by their errors out of sample.

    `horizon` in steps of the series; `level` is the share of values that intervals should hold;
    `dear` also asks the members that take long. After `fit`, `errors_` has each member's mean
    absolute error in the backtest, `weights_` those that are asked, `error_` that of the mixture
    and `coverage_` the share of backtest values inside the intervals, both out of sample.
    """

    def __init__(self, horizon: int = 24, level: float = 0.9, dear: bool = False) -> None:
        self.horizon, self.level, self.dear = horizon, level, dear

    def fit(self, t_ms: Integers, values: Array) -> Self:
        """Learn from timestamps (n,), ascending milliseconds, and values (n,).

        Raises ValueError with fewer than `ROWS_MIN` finite values.
        """
        usable = int(np.isfinite(values).sum())
        if usable < ROWS_MIN:
            raise ValueError(f"values: {usable} finite rows, a forecaster needs {ROWS_MIN}")
        finite = np.flatnonzero(np.isfinite(values))[-ROWS_MOST:]
        t_ms, values = t_ms[finite], values[finite]
        self.scale_ = _magnitude(values)
        self.grid_ = Grid.learn(t_ms)
        laid = self.grid_.lay(t_ms, _divided(values, self.scale_))
        self.plain_ = View.of(laid.y)
        self.log_ = View.of(laid.y, log=True) if has_logarithms(laid.y) else None
        y, n = self.plain_.see(laid.y), len(laid.y)
        self.range_ = np.array([float(y.min()), float(y.max())])
        self.floor_ = 0.0 if float(laid.y.min()) >= 0 else -np.inf

        cut = max(ROWS_MIN // 2, round(FITTED_SHARE * n))
        horizon = min(self.horizon, max(1, (n - cut) // 2))
        origins = np.unique(np.linspace(cut, n - horizon, ORIGINS).round().astype(np.int64))
        truth = sliding_window_view(y, horizon)[origins]
        paths = self._backtest(laid.y, laid.first, cut, origins, horizon)
        names = list(paths)
        misses = np.array([np.abs(path - truth).mean(axis=1) for path in paths.values()])
        for place, name in enumerate(names):
            misses[place] *= POOL[name].handicap
        self.errors_ = {
            name: self._size(float(np.abs(path - truth).mean())) for name, path in paths.items()
        }
        errors = truth - _held_out_mixture(np.array(list(paths.values())), misses)
        index = laid.first + origins
        self.widths_ = Widths().fit(errors, self.horizon, index, self.grid_.period)
        self.coverage_ = self.widths_.coverage(errors, index, self.level)
        self.error_ = self._size(float(np.abs(errors).mean()))

        weights = _weights(misses.mean(axis=1))
        kept = np.flatnonzero(weights >= LEAST * weights.max())
        total = float(weights[kept].sum())
        self.weights_ = {names[place]: float(weights[place]) / total for place in kept}
        self.usual_ = {names[place]: float(misses[place].mean()) for place in kept}
        self.members_ = {
            name: POOL[name]
            .make(self.grid_.period, MEMORY)
            .fit(self._view(name).see(laid.y), laid.first)
            for name in self.weights_
        }
        self.tail_t_, self.tail_v_ = t_ms[-MEMORY:], values[-MEMORY:]
        return self

    @property
    def chosen_(self) -> str:
        """The heaviest member."""
        return max(self.weights_, key=self.weights_.__getitem__)

    def predict(
        self, t_ms: Integers = _NO_TIMES, values: Array = _NO_VALUES, level: float | None = None
    ) -> Forecast:
        """The steps after the newest finite value of the rows (n,); without any, after training."""
        path = self._ahead(t_ms, values)
        low, high = self.widths_.sides(self.level if level is None else level, path.begin)
        lower, value, upper = (
            self._outside(path.value + away) for away in (low, np.zeros(self.horizon), high)
        )
        return Forecast(
            path.t_ms + (1 + np.arange(self.horizon, dtype=np.int64)) * self.grid_.step_ms,
            value,
            np.minimum(lower, value),
            np.maximum(upper, value),
            path.model,
            path.fell_back,
        )

    def crossing(
        self, t_ms: Integers, values: Array, threshold: float, above: bool = True
    ) -> Array:
        """Probability (horizon,) that the series lies beyond `threshold` at that step or before.

        The forecast is followed by the courses that errors took in the backtest, each as it was:
        what lies too low for one hour usually does for the next.
        """
        path = self._ahead(t_ms, values)
        courses = self._outside(path.value + self.widths_.paths(path.begin))
        beyond = courses > threshold if above else courses < threshold
        crossed = np.maximum.accumulate(beyond, axis=1).sum(axis=0)
        return np.asarray((crossed + 0.5) / (len(courses) + 1.0))

    def _ahead(self, t_ms: Integers, values: Array) -> _Path:
        before = self.tail_t_ < t_ms[0] if len(t_ms) else np.ones(len(self.tail_t_), np.bool_)
        finite = np.isfinite(values)
        t = np.concatenate((self.tail_t_[before], t_ms[finite]))
        laid = self.grid_.lay(
            t, np.concatenate((self.tail_v_[before], values[finite])) / self.scale_
        )
        y = self.plain_.see(laid.y[-MEMORY:])
        back = self._looks_back(len(y))
        rows = len(y) - int(back[-1])
        windows = np.stack([laid.y[len(laid.y) - b - rows : len(laid.y) - b] for b in back])
        index = laid.first + len(laid.y) - back
        paths, misses = {}, {}
        for name, member in self.members_.items():
            path = self._path(name, member, windows, index, self.horizon)
            if bool(self._reasonable(path[:1], y[None])[0]):
                paths[name] = path[0]
                misses[name] = [
                    float(np.abs(path[k, :b] - y[len(y) - b :][: self.horizon]).mean())
                    for k, b in enumerate(back[1:].tolist(), 1)
                ]
        start = int(t[-1])
        if not paths:
            return _Path(start, int(index[0]), np.full(self.horizon, y[-1]), "naive", True)
        kept = sum(self.weights_[name] for name in paths)
        weights = self._now(misses)
        value = np.tensordot(weights, np.array(list(paths.values())), 1)
        return _Path(start, int(index[0]), value, list(paths)[int(weights.argmax())], kept < 0.5)

    def _looks_back(self, rows: int) -> Integers:
        """Rows before the newest from which members forecast what has come: 0, then those."""
        some = {-(-self.horizon // 4), -(-self.horizon // 2), self.horizon}
        return np.array([0, *sorted(b for b in some if b <= rows // 4)], np.int64)

    def _now(self, misses: Mapping[str, Sequence[float]]) -> Array:
        """Weights of members by their errors in the backtest, and lately."""
        usual = np.array([self.usual_[name] for name in misses])
        lately = np.array([np.mean(m) if m else 0.0 for m in misses.values()])
        return _weights(usual + LATELY * lately)

    def _backtest(
        self, y: Array, first: int, cut: int, origins: Integers, horizon: int
    ) -> dict[str, Array]:
        """What each member that keeps to reason would have said: (origins, horizon)."""
        memory = min(MEMORY, cut)
        windows = sliding_window_view(y, memory)[origins - memory]
        seen = self.plain_.see(windows)
        paths: dict[str, Array] = {}
        for name in members(self.grid_.period, cut, MEMORY, self.dear):
            member = POOL[name].make(self.grid_.period, memory)
            member.fit(self._view(name).see(y[:cut]), first)
            path = self._path(name, member, windows, first + origins, horizon)
            if bool(self._reasonable(path, seen).all()):
                paths[name] = path
        return paths

    def _view(self, name: str) -> View:
        return self.log_ if self.log_ is not None and POOL[name].log else self.plain_

    def _path(
        self, name: str, member: Forecaster, windows: Array, index: Integers, horizon: int
    ) -> Array:
        """(k, horizon) values after windows (k, m) of values, in usual units."""
        view = self._view(name)
        path = member.predict(view.see(windows), index, horizon)
        return path if view is self.plain_ else self.plain_.see(view.back(path))

    def _outside(self, x: Array) -> Array:
        y = np.maximum(self.plain_.back(x), self.floor_)
        most = np.finfo(np.float64).max / max(self.scale_, 1.0)
        return np.asarray(np.clip(y, -most, most) * self.scale_)

    def _size(self, deviations: float) -> float:
        """Usual deviations, as a difference of values."""
        most = float(np.finfo(np.float64).max) / max(self.scale_, 1.0)
        return min(deviations * self.plain_.unit, most) * self.scale_

    def _reasonable(self, path: Array, windows: Array) -> Flags:
        """Which paths (k, h) stay near what was ever seen, or is now."""
        low, high = self.range_
        margin = MARGIN * max(high - low, 1.0)
        recent = windows[:, -RECENT:]
        lowest = np.minimum(low, recent.min(axis=1)) - margin
        highest = np.maximum(high, recent.max(axis=1)) + margin
        return np.asarray((path.min(axis=1) >= lowest) & (path.max(axis=1) <= highest))

    def to_arrays(self) -> Arrays:
        """Everything that `predict` needs."""
        arrays: Arrays = {
            **self.grid_.to_arrays(),
            "horizon": np.array(self.horizon),
            "level": np.array(self.level),
            "floor": np.array(self.floor_),
            "scale": np.array(self.scale_),
            "range": self.range_,
            "tail_t": self.tail_t_,
            "tail_v": self.tail_v_,
            "names": np.array(list(self.weights_)),
            "weights": np.array(list(self.weights_.values())),
            "usual": np.array(list(self.usual_.values())),
            **nested("plain", self.plain_.to_arrays()),
            **nested("widths", self.widths_.to_arrays()),
        }
        if self.log_ is not None:
            arrays |= nested("log", self.log_.to_arrays())
        for name, member in self.members_.items():
            arrays |= nested(f"member.{name}", member.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to predict. Raises KeyError if something is missing."""
        own = cls(integer(arrays, "horizon"), scalar(arrays, "level"))
        own.grid_ = Grid.from_arrays(arrays)
        own.floor_, own.range_ = scalar(arrays, "floor"), floats(arrays, "range")
        own.scale_ = scalar(arrays, "scale")
        own.tail_t_ = np.asarray(arrays["tail_t"], np.int64)
        own.tail_v_ = floats(arrays, "tail_v")
        names = [str(name) for name in arrays["names"]]
        own.weights_ = dict(zip(names, floats(arrays, "weights").tolist(), strict=True))
        own.usual_ = dict(zip(names, floats(arrays, "usual").tolist(), strict=True))
        own.plain_ = View.from_arrays(within("plain", arrays))
        log = within("log", arrays)
        own.log_ = View.from_arrays(log) if log else None
        own.widths_ = Widths.from_arrays(within("widths", arrays))
        own.members_ = {name: POOL[name].load(within(f"member.{name}", arrays)) for name in names}
        return own


def _magnitude(values: Array) -> float:
    """The power of two near what values (n,) usually are: dividing by it loses nothing."""
    sizes = np.abs(values[values != 0])
    usual = float(np.median(np.log2(sizes))) if len(sizes) else 0.0
    return float(2.0 ** np.clip(np.floor(usual), -1000, 1000))


def _divided(values: Array, scale: float) -> Array:
    with np.errstate(over="ignore"):  # a freak beyond all that counts
        return np.asarray(np.clip(values / scale, -LARGEST, LARGEST))


def _weights(errors: Array) -> Array:
    """Weights of members with errors (members, ...), summing to one over the first axis."""
    away = np.maximum(errors, 1e-9 + 1e-6 * errors.max())
    weights = (away.min(axis=0) / away) ** POWER
    return np.asarray(weights / weights.sum(axis=0))


def _held_out_mixture(paths: Array, misses: Array) -> Array:
    """Mixture (k, h) of `paths` (members, k, h), each moment's with weights from other stretches.

    `misses` (members, k) are errors at the moments, which lie in order of time.
    """
    mixture = np.empty(paths.shape[1:])
    moments = np.arange(paths.shape[1])
    for part in np.array_split(moments, min(FOLDS, len(moments))):
        others = np.delete(misses, part, axis=1) if len(part) < len(moments) else misses
        weights = _weights(others.mean(axis=1))
        mixture[part] = np.tensordot(weights, paths[:, part], 1)
    return mixture
