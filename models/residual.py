"""What should the value be? Ridge autoregression on recent and seasonal lags, and its band.

Hoerl and Kennard, "Ridge regression", Technometrics 1970; robust weights after Huber, "Robust
estimation of a location parameter", Annals of Mathematical Statistics 1964. A prediction made h
steps ahead uses nothing newer than h steps: with h of about an hour the expectation shows the
pattern of the series instead of following the last value into every anomaly.

Works for rhythm and momentum; blind to what the recent past predicts, however unwelcome.
"""

from typing import NamedTuple, Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, Integers, floats
from models.calibration import Window
from models.past import Past
from models.robust import mean
from models.running import MOST, Size

RIDGE = 50.0
#: Inputs are limited to so many typical deviations: an anomaly among the lags must not throw
#: the prediction about a day later.
CLIP = 5.0
LEVEL_ROWS = 60
#: The first rows stand to no past at all.
SKIPPED = 5


class Prediction(NamedTuple):
    """Of some rows: what was expected (n,), and what `learn` needs to know of it."""

    expected: Array
    inputs: Array
    deviation: Array
    scale: Array


def lags(horizon: int, day: int, memory: int) -> tuple[Integers, Integers]:
    """Nearest and farthest lag of each input, none beyond `memory`."""
    h = horizon
    pairs = [(h + k, h + k) for k in (0, 1, 2, 3, 4, 5, 7, 9)]
    pairs += [(h, h + k) for k in (24, 59, 119)]
    around, wide = max(1, day // 288), max(2, day // 24)
    for days in (1, 2, 3, 7, 14):
        lag = days * day
        if lag <= h:
            continue
        pairs += [(lag - around // 2, lag + around // 2), (max(h, lag - wide), lag + wide)]
        if days not in (3, 14) and lag - 2 * around >= h:
            pairs += [(lag - 2 * around, lag - around), (lag + around, lag + 2 * around)]
    chosen = np.array([pair for pair in pairs if pair[1] <= memory], np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


class Autoregression:
    """Predicts x[t] from what lies at least `horizon` rows before it.

    Inputs are means of recent lags and of the same time on earlier days, relative to the local
    level. It forgets with a half-life of about two weeks.
    """

    def __init__(self, horizon: int, day: int, memory: int) -> None:
        self.horizon, self.day, self.memory = horizon, day, memory
        self.near_, self.far_ = lags(horizon, day, memory)
        p = len(self.near_)
        self._reach = int(self.far_.max()) if p else 0
        self.weights_: Array = np.zeros(p)
        self._gram, self._moment = np.zeros((p, p)), np.zeros(p)
        self._penalty = RIDGE * np.eye(p)
        self._error = 1.0
        self._rows = 0
        self.unit = Size(max(2000.0, 3.0 * day))
        self.low_, self.high_ = np.inf, -np.inf

    def predict(self, past: Past, rows: Integers, means: Array | None = None) -> Prediction:
        """What is expected at `rows` (n,) of `past`, ascending, each from its own past.

        `means` (n, lags) are those of the lags, where they are known.
        """
        level = past.level(rows, self.horizon, LEVEL_ROWS)
        if means is None:
            means = past.means(rows, self.near_, self.far_)
        inputs = means - level[:, None]
        if len(rows) and rows[0] < self._reach:
            inputs = np.nan_to_num(inputs)
        deviation = past.x[rows] - level
        # at first the rows' own size has to do
        unit = self.unit.mean if self.unit.rows else float(np.abs(deviation).mean())
        scale = np.maximum(unit, 1e-9 + 1e-6 * np.abs(level))
        inputs /= scale[:, None]
        Z = np.minimum(np.maximum(inputs, -CLIP, out=inputs), CLIP, out=inputs)
        low, high = (self.low_, self.high_) if self.low_ <= self.high_ else (past.x[0], past.x[0])
        margin = (high - low) / 2
        expected = level + scale * (Z @ self.weights_)
        expected = np.minimum(np.maximum(expected, low - margin), high + margin)
        return Prediction(expected, Z, deviation, scale)

    def learn(self, made: Prediction, x: Array, trusted: Flags) -> None:
        """Learn from values x (n,) and their predictions; rows not `trusted` (n,) do not count."""
        n = len(x)
        y = made.deviation / made.scale
        error = np.abs(y - made.inputs @ self.weights_)
        weight = np.minimum(1.0, 3.0 * self._error / np.maximum(error, 1e-9))
        weight[~trusted | (np.abs(y) > 1e6)] = 0.0
        weight[: max(0, SKIPPED - self._rows)] = 0.0
        kept = 0.5 ** (n / (14.0 * self.day + 2000.0))
        weighted = (made.inputs * weight[:, None]).T
        self._gram *= kept
        self._gram += weighted @ made.inputs
        self._moment *= kept
        self._moment += weighted @ np.clip(y, -2 * CLIP, 2 * CLIP)
        if self._rows:
            usual = mean(np.minimum(error, MOST * self._error))
            self._error = max(1e-3, 0.9 * self._error + 0.1 * usual)
        self.weights_ = np.asarray(np.linalg.solve(self._gram + self._penalty, self._moment))
        self.unit.learn(np.abs(made.deviation))
        self.low_, self.high_ = min(self.low_, float(x.min())), max(self.high_, float(x.max()))
        self._rows += n

    def to_arrays(self) -> Arrays:
        """Weights and limits."""
        return {
            "settings": np.array([self.horizon, self.day, self.memory], np.int64),
            "weights": self.weights_,
            "limits": np.array([self.unit.mean, self.low_, self.high_]),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to predict, not to go on learning."""
        model = cls(*(int(v) for v in np.asarray(arrays["settings"], np.int64)))
        model.weights_ = floats(arrays, "weights")
        model.unit.mean, model.low_, model.high_ = (float(v) for v in floats(arrays, "limits"))
        model.unit.rows = 1
        return model


class Band:
    """Around an expectation, where about 99 % of values fell out of sample.

    The two sides have their own width, limited by what it takes to hold less: twice the 97.5 %
    quantile of a side, three times its 90 % quantile. A past outage of half a day then does not
    make the band useless; where tails are heavier than a Laplace distribution's, it holds less.
    """

    def __init__(self, rows: int = 5000) -> None:
        self._past = Window(rows)
        self.low_, self.high_ = 3.0, 3.0

    def learn(self, residual: Array) -> None:
        """Take out-of-sample residuals in units of their scale (n,) in."""
        self._past.add(residual)
        ordered = self._past.ordered
        self.low_, self.high_ = _width(-ordered[::-1]), _width(ordered)

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


def _width(side: Array) -> float:
    """Of one side, from residuals in ascending order; those of the other side are negative."""
    n = len(side)
    if not n:
        return 3.0

    def quantile(level: float) -> float:
        return max(float(side[min(n - 1, int(level * n))]), 0.0)

    # the plain and the cautious quantile; a finite sample needs the (n+1)/n of conformal bands
    plain = quantile(min(1.0, 0.995 * (1.0 + 1.0 / n)))
    usual = min(2.0 * quantile(0.975), 3.0 * quantile(0.9)) + 0.25
    # few residuals rarely show how far the tail goes
    return (1.0 + 8.0 / max(n, 8)) * min(plain, usual) + 1e-9
