"""The detector: several opinions on a series, one probability.

Each member's raw score is calibrated on its own past (`models.calibration`); the mean of the
surprises, with a memory of the last rows, is calibrated once more. The result is 1 - p: on data
like the past, a score of 0.999 is reached once in a thousand rows.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, Integers, Member, floats, nested, within
from models.calibration import TailCalibrator, probability
from models.density import CoreDistance
from models.explanation import Explanation
from models.features import FEATURES, LEAD, MEMORY, Features
from models.forest import IsolationForest
from models.grid import Grid
from models.residual import Band

#: Fewer rows teach nothing.
ROWS_MIN = 64
#: A detector is fitted up to each of these shares of its history and judged on what follows.
FOLDS = (0.3, 0.4, 0.55, 0.75, 1.0)
#: Rows over which a surprise is remembered, and how much it counts.
ECHO_ROWS, ECHO = 12, 0.25
#: Rows that a member looks at; older ones are another time's normal.
RECENT = 5000
LARGEST_SCORE = 1.0 - 1e-12


class Columns:
    """Member that looks at some features directly: the mean of their (soft) sizes."""

    def __init__(self, columns: tuple[int, ...]) -> None:
        self.columns = columns

    def fit(self, X: Array) -> Self:
        """Nothing to learn: features are in units of what is usual."""
        return self

    def score(self, X: Array) -> Array:
        """Mean size of the chosen columns of each row (n, p)."""
        return np.asarray(np.abs(X[:, list(self.columns)]).mean(axis=1))

    def to_arrays(self) -> Arrays:
        """The columns."""
        return {"columns": np.array(self.columns, np.int64)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        return cls(tuple(int(c) for c in np.asarray(arrays["columns"], np.int64)))


def soft(Z: Array) -> Array:
    """Keeps small z values, dampens large ones: distances stay about the usual rows."""
    return np.asarray(np.sign(Z) * 4.0 * np.log1p(np.abs(Z) / 4.0))


def hard(Z: Array) -> Array:
    """Dampens from the start, for members that are after the extremes."""
    return np.asarray(np.arcsinh(Z))


def sizes(Z: Array) -> Array:
    """Unsigned: high and low are alike."""
    return np.abs(np.arcsinh(Z))


class Part(NamedTuple):
    """How a member is made, read back, and what it sees of the features."""

    make: Callable[[int], Member]
    load: Callable[[ArrayMap], Member]
    view: Callable[[Array], Array]
    label: str


_PLACE = {name: place for place, name in enumerate(FEATURES)}
PARTS: dict[str, Part] = {
    "forest": Part(
        lambda seed: IsolationForest(50, 256, seed),
        IsolationForest.from_arrays,
        sizes,
        "isolation forest",
    ),
    "density": Part(
        lambda seed: CoreDistance(10, 0.9, 400, seed),
        CoreDistance.from_arrays,
        soft,
        "density (DBSCAN)",
    ),
    "neighbours": Part(
        lambda seed: CoreDistance(2, 0.95, 500, seed),
        CoreDistance.from_arrays,
        hard,
        "nearest normal rows (DBSCAN)",
    ),
    "residual": Part(
        lambda seed: Columns((_PLACE["next"], _PLACE["hour"], _PLACE["day"])),
        Columns.from_arrays,
        sizes,
        "forecast residual",
    ),
    "level": Part(lambda seed: Columns((_PLACE["level"],)), Columns.from_arrays, sizes, "level"),
}


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector says about rows: all (n,), times in milliseconds, `score` in [0, 1)."""

    t_ms: Integers
    score: Array
    expected: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Features and members, fitted on the same rows."""

    features: Features
    members: dict[str, Member]

    @classmethod
    def on(cls, y: Array, seen: Flags, first: int, grid: Grid, seed: int) -> "_Fitted":
        features = Features().fit(y, seen, first, grid)
        begin = max(0, len(y) - RECENT, min(2 * LEAD, len(y) // 4))
        Z = features.transform(y, first, begin)[seen[begin:]]
        members = {name: part.make(seed).fit(part.view(Z)) for name, part in PARTS.items()}
        return cls(features, members)

    def raw(self, Z: Array) -> Array:
        """Raw scores of rows of features: (n, members)."""
        columns = [self.members[name].score(part.view(Z)) for name, part in PARTS.items()]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class _Calibration:
    """From raw scores to one surprise."""

    members: list[TailCalibrator]
    joint: TailCalibrator

    @classmethod
    def on(cls, raw: Array) -> "_Calibration":
        members = [TailCalibrator().fit(column) for column in raw.T]
        return cls(members, TailCalibrator().fit(cls._join(members, raw)[0]))

    @staticmethod
    def _join(members: list[TailCalibrator], raw: Array) -> tuple[Array, Array]:
        each = np.stack([m.surprise(s) for m, s in zip(members, raw.T, strict=True)], axis=1)
        mean = each.mean(axis=1)
        total = np.concatenate(([0.0], np.cumsum(mean)))
        rows = np.arange(1, len(mean) + 1)
        begin = np.maximum(rows - ECHO_ROWS, 0)
        return mean + ECHO * (total[rows] - total[begin]) / (rows - begin), each

    def judge(self, raw: Array, start: int) -> tuple[Array, Array]:
        """Scores of raw[start:] and each member's surprise; the rows before are the echo's."""
        joined, each = self._join(self.members, raw)
        score = 1.0 - probability(self.joint.surprise(joined[start:]))
        return np.clip(score, 0.0, LARGEST_SCORE), each[start:]


class Detector:
    """Learns one series and scores new values of it.

    After `fit`, `holdout_` has the scores and expectations of the later part of the history, each
    row judged by a model and a calibration that had seen only rows before it.

    Works best with a few weeks of data that are mostly normal. A pattern that the history holds
    several times is normal, whatever it means.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, t_ms: Integers, values: Array) -> Self:
        """Learn from timestamps (n,), ascending milliseconds, and values (n,), NaN where missing.

        Raises ValueError with fewer than `ROWS_MIN` finite values.
        """
        usable = int(np.isfinite(values).sum())
        if usable < ROWS_MIN:
            raise ValueError(f"values: {usable} finite rows, a detector needs {ROWS_MIN}")
        self.grid_ = Grid.learn(t_ms)
        laid = self.grid_.lay(t_ms, values)
        y, seen, first, n = laid.y, laid.seen, laid.first, len(laid.y)
        measured = np.append(np.flatnonzero(seen), n)
        edges = [int(measured[round(share * (len(measured) - 1))]) for share in FOLDS]
        self.low_floor_ = 0.0 if float(y.min()) >= 0 else -np.inf

        raw = np.zeros((n, len(PARTS)))
        score, expected, scale = np.zeros(n), np.zeros(n), np.ones(n)
        lower, upper = np.zeros(n), np.zeros(n)
        for a, b in itertools.pairwise(edges):
            fitted = _Fitted.on(y[:a], seen[:a], first, self.grid_, self.seed)
            raw[a:b] = fitted.raw(fitted.features.transform(y[:b], first, a))
            expected[a:b], scale[a:b] = fitted.features.expect(y[:b], first, a)
            if a > edges[0]:
                past = edges[0] + np.flatnonzero(seen[edges[0] : a])
                joint = _Calibration.on(raw[past])
                begin = a - min(ECHO_ROWS, a - edges[0])
                score[a:b] = joint.judge(raw[begin:b], a - begin)[0]
                band = Band().fit((y[past] - expected[past]) / scale[past])
                lower[a:b], upper[a:b] = self._limits(band, expected[a:b], scale[a:b])

        # the first fold's model knew least: it counts only where rows are scarce
        begin = edges[1] if n - edges[1] >= 200 else edges[0]
        judged = begin + np.flatnonzero(seen[begin:])
        self.calibration_ = _Calibration.on(raw[judged])
        self.band_ = Band().fit((y[judged] - expected[judged]) / scale[judged])
        self.fitted_ = _Fitted.on(y, seen, first, self.grid_, self.seed)

        shown = np.flatnonzero(laid.at >= edges[1])
        at = laid.at[shown]
        self.holdout_ = Scores(t_ms[shown], score[at], expected[at], lower[at], upper[at])
        inside = (y[judged] >= lower[judged]) & (y[judged] <= upper[judged])
        error = np.abs(y[judged] - expected[judged])
        self.quality_: dict[str, float | int] = {
            "rows": usable,
            "step_seconds": self.grid_.step_ms / 1000,
            "period_rows": self.grid_.period,
            "holdout_rows": len(shown),
            "coverage": float(inside[judged >= edges[1]].mean()),
            "median_error": float(np.median(error)),
        }
        keep = np.flatnonzero(np.isfinite(values))[-MEMORY - LEAD :]
        self.tail_t_, self.tail_v_ = t_ms[keep], values[keep]
        return self

    def score(self, t_ms: Integers, values: Array, n_new: int) -> Scores:
        """Scores of the newest `n_new` of the rows (n,) handed in; the others are context.

        Where the context is shorter than what features look back on, the end of the training data
        stands in front of it. Missing values (NaN) score 0.
        """
        return self._judge(t_ms, values, n_new)[0]

    def explain(self, t_ms: Integers, values: Array) -> Explanation:
        """Why the newest of the rows (n,) has its score."""
        scores, each, Z = self._judge(t_ms, values, 1)
        surprises = {name: float(s) for name, s in zip(PARTS, each[-1], strict=True)}
        features = {name: float(z) for name, z in zip(FEATURES, Z[-1], strict=True)}
        return Explanation(
            t_ms=int(t_ms[-1]),
            score=float(scores.score[-1]),
            seen=float(values[-1]),
            expected=float(scores.expected[-1]),
            lower=float(scores.lower[-1]),
            upper=float(scores.upper[-1]),
            member=PARTS[max(surprises, key=surprises.__getitem__)].label,
            feature=max(features, key=lambda name: abs(features[name])),
            surprises=surprises,
            features=features,
        )

    def _judge(self, t_ms: Integers, values: Array, n_new: int) -> tuple[Scores, Array, Array]:
        n_new = min(n_new, len(t_ms))
        new = slice(len(t_ms) - n_new, len(t_ms))
        before = self.tail_t_ < t_ms[0] if len(t_ms) else np.zeros(0, np.bool_)
        skip = max(0, len(t_ms) - n_new - MEMORY - 2 * LEAD) if before.sum() == 0 else 0
        t = np.concatenate((self.tail_t_[before], t_ms[skip:]))
        v = np.concatenate((self.tail_v_[before], values[skip:]))
        laid = self.grid_.lay(t, v)
        at = laid.at[len(t) - n_new :]
        known = at >= 0
        empty = np.zeros(n_new)
        if not known.any():
            middle = np.full(n_new, float(np.median(self.tail_v_)))
            result = Scores(t_ms[new], empty, middle, middle, middle)
            return result, np.zeros((1, len(PARTS))), np.zeros((1, len(FEATURES)))
        start = int(at[known].min())
        begin = max(0, start - ECHO_ROWS)
        Z = self.fitted_.features.transform(laid.y, laid.first, begin)
        score, each = self.calibration_.judge(self.fitted_.raw(Z), start - begin)
        expected, scale = self.fitted_.features.expect(laid.y, laid.first, start)
        lower, upper = self._limits(self.band_, expected, scale)
        place = np.where(known, at - start, 0)
        place = np.maximum.accumulate(place)
        result = Scores(
            t_ms[new],
            np.where(known, score[place], 0.0),
            expected[place],
            lower[place],
            upper[place],
        )
        return result, each[place], Z[start - begin :][place]

    def _limits(self, band: Band, expected: Array, scale: Array) -> tuple[Array, Array]:
        """The band, which does not go below 0 for series that never did."""
        lower, upper = band.around(expected, scale)
        lower = np.minimum(np.maximum(lower, self.low_floor_), expected)
        return lower, np.maximum(upper, expected)

    def to_arrays(self) -> Arrays:
        """Everything that scoring needs; the hold-out scores are not kept."""
        arrays: Arrays = {
            **self.grid_.to_arrays(),
            "tail_t": self.tail_t_,
            "tail_v": self.tail_v_,
            "low_floor": np.array(self.low_floor_),
            **nested("features", self.fitted_.features.to_arrays()),
            **nested("band", self.band_.to_arrays()),
            **nested("joint", self.calibration_.joint.to_arrays()),
        }
        for (name, member), own in zip(
            self.fitted_.members.items(), self.calibration_.members, strict=True
        ):
            arrays |= nested(f"member/{name}", member.to_arrays())
            arrays |= nested(f"calibrator/{name}", own.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`. Raises KeyError if something is missing."""
        detector = cls()
        detector.grid_ = Grid.from_arrays(arrays)
        detector.tail_t_ = np.asarray(arrays["tail_t"], np.int64)
        detector.tail_v_ = floats(arrays, "tail_v")
        detector.low_floor_ = float(floats(arrays, "low_floor"))
        detector.band_ = Band.from_arrays(within("band", arrays))
        detector.fitted_ = _Fitted(
            Features.from_arrays(within("features", arrays)),
            {name: part.load(within(f"member/{name}", arrays)) for name, part in PARTS.items()},
        )
        detector.calibration_ = _Calibration(
            [TailCalibrator.from_arrays(within(f"calibrator/{name}", arrays)) for name in PARTS],
            TailCalibrator.from_arrays(within("joint", arrays)),
        )
        return detector
