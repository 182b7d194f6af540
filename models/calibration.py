"""Raw scores to tail probabilities, each on its own past.

Ranks tell how rare a score is where the past has enough examples; beyond, a Pareto tail goes on.
Its index is Hill's estimate ("A simple general approach to inference about the tail of a
distribution", Annals of Statistics 1975), shrunk towards a prior because tails are short of data.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, floats

#: Tail index that the data must argue against, and with how many observations' weight.
PRIOR_INDEX, PRIOR_WEIGHT = 0.25, 8.0
#: -log10 p never exceeds this.
LARGEST_SURPRISE = 12.0
KNOTS = 256


class TailCalibrator:
    """Maps scores ≥ 0 to a surprise: -log10 of the probability of a score at least as high.

    On data like the past the probability is uniform; where the tail is lighter than a Pareto tail
    the smallest probabilities come out too large, so that it errs on the quiet side. Many
    equal scores share the highest probability they could have: a series that never changes is
    never surprising.
    """

    knots_: Array
    surprises_: Array
    threshold_: float
    tail_: float
    index_: float

    def fit(self, scores: Array) -> Self:
        """Learn from past scores (n,), at least one."""
        s = np.sort(np.maximum(scores, 0.0))
        n = len(s)
        beyond = max(1, min(round(0.1 * n), max(30, round(0.03 * n))))
        self.threshold_ = max(float(s[n - beyond - 1] if n > beyond else s[-1]), 1e-12)
        above = s[s > self.threshold_]
        excess = np.log(above / self.threshold_)
        if len(excess):  # one freak must not decide how heavy the tail is
            excess = np.minimum(excess, 10.0 * (float(np.median(excess)) + 1e-3))
        self.index_ = float(
            (excess.sum() + PRIOR_WEIGHT * PRIOR_INDEX) / (len(excess) + PRIOR_WEIGHT)
        )
        values, below = np.unique(s, return_index=True)
        at_least = (n - below + 0.5) / (n + 1.0)
        body = values <= self.threshold_
        self.tail_ = float((len(above) + 0.5) / (n + 1.0))
        values, at_least = values[body], at_least[body]
        if len(values) > KNOTS:
            keep = np.unique(np.linspace(0, len(values) - 1, KNOTS).round().astype(int))
            values, at_least = values[keep], at_least[keep]
        self.knots_ = values if len(values) else np.array([0.0])
        self.surprises_ = -np.log10(np.minimum(at_least, 1.0)) if len(values) else np.zeros(1)
        return self

    def surprise(self, scores: Array) -> Array:
        """-log10 p of each score (n,), between 0 and `LARGEST_SURPRISE`."""
        s = np.maximum(scores, 0.0)
        start = -np.log10(self.tail_)
        inside = np.minimum(np.interp(s, self.knots_, self.surprises_, left=0.0), start)
        excess = np.log10(np.maximum(s, self.threshold_) / self.threshold_) / self.index_
        surprise = np.where(s > self.threshold_, start + excess, inside)
        return np.asarray(np.clip(surprise, 0.0, LARGEST_SURPRISE))

    def to_arrays(self) -> Arrays:
        """Knots of the body and three numbers of the tail."""
        return {
            "knots": self.knots_,
            "surprises": self.surprises_,
            "tail": np.array([self.threshold_, self.tail_, self.index_]),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        calibrator = cls()
        calibrator.knots_ = floats(arrays, "knots")
        calibrator.surprises_ = floats(arrays, "surprises")
        threshold, tail, index = (float(v) for v in floats(arrays, "tail"))
        calibrator.threshold_, calibrator.tail_, calibrator.index_ = threshold, tail, index
        return calibrator


def probability(surprise: Array) -> Array:
    """The tail probability behind a surprise."""
    return np.asarray(np.power(10.0, -surprise))
