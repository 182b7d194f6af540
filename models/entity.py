"""Several metrics of one thing judged together: one probability from those of each.

Metrics of one host or service depend on each other, and how much differs, so no formula for
independent tests holds. What is combined are surprises, -log10(1 - score), in several ways: the
loudest alone, the mean of the loudest few, the mean of all. Each becomes a probability on the
entity's own past (`models.calibration`), the rarest of them speaks, and that is calibrated on its
past again, for of several looks the rarest is rare more often than one.

So several metrics that are a little odd at once are found though none is by itself, unless they
always are together; and one odd metric is not drowned by many normal ones. Needs some hundred rows
to know how the metrics depend on each other; what begins in all the history it has seen as normal.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, integer, nested, within
from models.calibration import LARGEST_SURPRISE, TailCalibrator, Window, probability

#: Fewer metrics are not judged together.
METRICS_MIN = 2
#: Rows that are compared with, and the fewest that allow it.
HISTORY, COMPARABLE = 20_000, 30
#: Rows that are judged together: an eighth of those before, within these bounds.
BLOCK_MIN, BLOCK_MAX = 16, 256
#: The mean surprise of a normal metric: what one that is missing counts as.
USUAL = float(np.log10(np.e))
LARGEST_SCORE = 1.0 - 1e-12


class Entity:
    """Learns how the scores of some metrics go together, and judges rows of them.

    `fit` walks over the history once; `scores_` has what was said about each row by what had been
    learned from the rows before it.
    """

    scores_: Array

    def fit(self, scores: Array) -> Self:
        """Learn from anomaly scores (n, m) of m metrics at n moments, ascending, NaN for none.

        Raises ValueError for fewer than two metrics.
        """
        n, metrics = scores.shape
        if metrics < METRICS_MIN:
            raise ValueError(f"scores: {metrics} metrics; together are {METRICS_MIN} or more")
        self.metrics_ = metrics
        self._views = [Window(HISTORY) for _ in _numbers(metrics)]
        self._rarest = Window(HISTORY)
        self.views_: list[TailCalibrator] = []
        self.joint_: TailCalibrator | None = None
        said = np.zeros(n)
        start = 0
        while start < n:
            stop = min(n, start + min(max(start // 8, BLOCK_MIN), BLOCK_MAX))
            block = scores[start:stop]
            surprise, rarest = self._judge(block)
            said[start:stop] = surprise
            self._learn(block, rarest)
            start = stop
        self.scores_ = _score(said)
        return self

    def score(self, scores: Array) -> Array:
        """1 - p of each row of anomaly scores (k, m), by what was learned: (k,).

        Rows with fewer than two metrics score 0. Raises ValueError for another number of metrics.
        """
        if scores.shape[1] != self.metrics_:
            raise ValueError(f"scores: {scores.shape[1]} metrics; {self.metrics_} were learned")
        return _score(self._judge(scores)[0])

    def _judge(self, scores: Array) -> tuple[Array, Array]:
        """Joint surprise of rows, and that of the view that finds them rarest."""
        if not self.views_:
            return np.zeros(len(scores)), np.zeros(len(scores))
        views = _view(scores)
        each = [c.surprise(np.exp(view)) for c, view in zip(self.views_, views.T, strict=True)]
        rarest = np.where(_judged(scores), np.max(each, axis=0), 0.0)
        if self.joint_ is None:  # of several looks the rarest: as if they were independent
            return np.maximum(rarest - np.log10(len(each)), 0.0), rarest
        joint = self.joint_.surprise(np.exp(rarest))
        return np.where(_judged(scores), joint, 0.0), rarest

    def _learn(self, scores: Array, rarest: Array) -> None:
        """Take rows in, just judged."""
        judged = _judged(scores)
        if self.views_:
            self._rarest.add(rarest[judged])
            if len(self._rarest.ordered) >= COMPARABLE:
                self.joint_ = _calibrated(self._rarest.ordered)
        for window, view in zip(self._views, _view(scores[judged]).T, strict=True):
            window.add(view)
        if len(self._views[0].ordered) >= COMPARABLE:
            self.views_ = [_calibrated(window.ordered) for window in self._views]

    def to_arrays(self) -> Arrays:
        """Everything that judging needs."""
        arrays: Arrays = {"metrics": np.array(self.metrics_)}
        for place, calibrator in enumerate(self.views_):
            arrays |= nested(f"view/{place}", calibrator.to_arrays())
        if self.joint_ is not None:
            arrays |= nested("joint", self.joint_.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to judge, not to go on learning."""
        entity = cls()
        entity.metrics_ = integer(arrays, "metrics")
        views = [within(f"view/{place}", arrays) for place in range(len(_numbers(entity.metrics_)))]
        entity.views_ = [TailCalibrator.from_arrays(view) for view in views if view]
        joint = within("joint", arrays)
        entity.joint_ = TailCalibrator.from_arrays(joint) if joint else None
        return entity


def _numbers(metrics: int) -> list[int]:
    """Of how many of the loudest metrics the mean is taken."""
    return sorted({1, int(np.ceil(np.sqrt(metrics))), metrics})


def _calibrated(ordered: Array) -> TailCalibrator:
    """Probabilities of surprises by ascending ones (n,).

    Their tail falls off like an exponential, which is that of a Pareto of e to their power.
    """
    return TailCalibrator(prior=USUAL).fit(np.exp(ordered))


def _judged(scores: Array) -> Flags:
    """Rows in which enough metrics have a score."""
    return np.asarray(np.isfinite(scores).sum(axis=1) >= METRICS_MIN)


def surprises(scores: Array) -> Array:
    """-log10(1 - score) of anomaly scores, NaN where there is none."""
    return np.asarray(-np.log10(np.clip(1.0 - scores, 10.0**-LARGEST_SURPRISE, 1.0)))


def _view(scores: Array) -> Array:
    """Mean surprise of the loudest one, few and all (n, views) of rows (n, m)."""
    each = surprises(scores)
    loudest = -np.sort(-np.where(np.isfinite(each), each, USUAL), axis=1)
    total = np.cumsum(loudest, axis=1)
    return np.stack([total[:, k - 1] / k for k in _numbers(scores.shape[1])], axis=1)


def _score(surprise: Array) -> Array:
    return np.asarray(np.clip(1.0 - probability(surprise), 0.0, LARGEST_SCORE))
