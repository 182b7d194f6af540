"""Raw scores to tail probabilities, each on its own past.

Ranks tell how rare a score is where the past has enough examples; beyond, a Pareto tail goes on.
Its index is Hill's estimate ("A simple general approach to inference about the tail of a
distribution", Annals of Statistics 1975), shrunk towards a prior because tails are short of data.
"""

from collections import deque
from collections.abc import Sequence
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats

#: -log10 p never exceeds this.
LARGEST_SURPRISE = 12.0
#: Where ranks end and the tail begins: this share of the past lies below.
BODY = 0.9
_START = -float(np.log10(1.0 - BODY))
#: Points of the body that a stored calibration keeps.
KNOTS = 256


class Window:
    """The newest `size` values of each of `width` kinds that arrive together, sorted."""

    def __init__(self, size: int, width: int = 1) -> None:
        self._size = size
        self._arrived: deque[Array] = deque()
        #: Each kind (width, n) in ascending order.
        self.kinds: Array = np.zeros((width, 0))

    @property
    def ordered(self) -> Array:
        """The first kind, (n,) in ascending order."""
        return np.asarray(self.kinds[0])

    def add(self, values: Array, size: int | None = None) -> None:
        """Take values (k,) or (width, k) in; the oldest leave, until `size` are left."""
        size = min(self._size, self._size if size is None else size)
        values = values.reshape(len(self.kinds), -1)[:, -size:]
        over = self.kinds.shape[1] + values.shape[1] - size
        if over > 0:
            self.kinds = _less(self.kinds, self._leave(over))
        if values.shape[1]:
            self.kinds = _merged(self.kinds, values)
            self._arrived.append(values)

    def _leave(self, count: int) -> Array:
        """Take the oldest values off, at most `count`."""
        leaving = [self.kinds[:, :0]]
        while count > 0 and self._arrived:
            oldest = self._arrived.popleft()
            if oldest.shape[1] > count:
                self._arrived.appendleft(oldest[:, count:])
                oldest = oldest[:, :count]
            leaving.append(oldest)
            count -= oldest.shape[1]
        return np.concatenate(leaving, axis=1)


def _less(ordered: Array, leaving: Array) -> Array:
    """Ascending rows (k, n) without `leaving` (k, m), all of which are among them."""
    kept = np.ones(ordered.shape, np.bool_)
    turn = np.arange(leaving.shape[1])
    for values, flags, gone in zip(ordered, kept, np.sort(leaving, axis=1), strict=True):
        # equal ones follow each other
        flags[values.searchsorted(gone) + (turn - gone.searchsorted(gone))] = False
    return ordered[kept].reshape(len(ordered), -1)


def _merged(ordered: Array, new: Array) -> Array:
    """Ascending rows (k, n) with `new` (k, m) among them."""
    merged = np.empty((len(ordered), ordered.shape[1] + new.shape[1]))
    old = np.ones(merged.shape, np.bool_)
    turn = np.arange(new.shape[1])
    for row, came in enumerate(np.sort(new, axis=1)):
        place = ordered[row].searchsorted(came) + turn
        old[row, place] = False
        merged[row, place] = came
    merged[old] = ordered.ravel()
    return merged


class TailCalibrator:
    """Maps scores ≥ 0 to a surprise: -log10 of the probability of a score at least as high.

    `prior` is the tail index that the data must argue against, `weight` with how many
    observations. Many equal scores share the highest probability they could have: a series that
    never changes is never surprising.
    """

    body_: Array
    ranks_: Array | None
    count_: int
    threshold_: float
    index_: float

    def __init__(self, prior: float = 0.3, weight: float = 10.0) -> None:
        self.prior, self.weight = prior, weight

    def fit(self, ordered: Array) -> Self:
        """Learn from past scores (n,) in ascending order, at least one."""
        n = len(ordered)
        self.count_ = n
        cut = min(n - 1, int(BODY * n))
        threshold = float(ordered[cut])
        if threshold <= 0.0:
            threshold = max(float(ordered.mean()), 1e-12)
        self.threshold_ = threshold
        above = ordered[ordered.searchsorted(threshold, side="right") :]
        excess = np.log(above / threshold)
        if len(excess):  # one freak must not decide how heavy the tail is
            middle = (excess[(len(excess) - 1) // 2] + excess[len(excess) // 2]) / 2  # in order
            limit = 10.0 * (float(middle) + 1e-3)
            if excess[-1] > limit:
                excess = np.minimum(excess, limit)
        known = float(np.add.reduce(excess)) + self.weight * self.prior
        self.index_ = known / (len(above) + self.weight)
        self.body_, self.ranks_ = ordered[: n - len(above)], None
        return self

    def surprise(self, scores: Array) -> Array:
        """-log10 p of each score (n,), between 0 and `LARGEST_SURPRISE`."""
        return surprise_of(scores, self.below(scores), self.count_, self.threshold_, self.index_)

    def below(self, scores: Array) -> Array | Integers:
        """How many of the body's past scores are lower than each of (n,)."""
        if self.ranks_ is not None and len(self.body_):
            return np.interp(scores, self.body_, self.ranks_, right=self.count_ * BODY)
        return np.asarray(self.body_.searchsorted(scores))

    def to_arrays(self) -> Arrays:
        """Ranks at up to `KNOTS` points of the body, and the tail."""
        places = np.linspace(0, len(self.body_) - 1, min(KNOTS, len(self.body_))).round()
        knots, first = np.unique(self.body_[places.astype(np.int64)], return_index=True)
        ranks = np.searchsorted(self.body_, knots) if self.ranks_ is None else self.ranks_[first]
        return {
            "knots": np.stack([knots, ranks]),
            "tail": np.array([self.count_, self.threshold_, self.index_]),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`: between the points ranks grow evenly."""
        calibrator = cls()
        count, threshold, index = (float(v) for v in floats(arrays, "tail"))
        calibrator.count_, calibrator.threshold_ = round(count), threshold
        calibrator.index_ = index
        calibrator.body_, calibrator.ranks_ = floats(arrays, "knots")
        return calibrator


def surprises(calibrators: Sequence[TailCalibrator], scores: Array) -> Array:
    """What each of k calibrators says about its scores, a row of (k, n): all in one go."""
    below = np.empty(scores.shape)
    tails = np.empty((3, len(calibrators), 1))
    for row, one in enumerate(calibrators):
        below[row] = one.below(scores[row])
        tails[:, row, 0] = one.count_, one.threshold_, one.index_
    return surprise_of(scores, below, *tails)


def surprise_of(
    scores: Array,
    below: Array | Integers,
    count: Array | float,
    threshold: Array | float,
    index: Array | float,
) -> Array:
    """-log10 p of scores, of which `below` of `count` past ones are lower; a tail beyond."""
    share = (count - below + 0.5) / (count + 1.0)
    inside = np.minimum(np.maximum(-np.log10(share), 0.0), _START)
    excess = np.log10(np.maximum(scores, threshold) / threshold) / index
    surprise = np.where(scores > threshold, _START + excess, inside)
    return np.asarray(np.minimum(surprise, LARGEST_SURPRISE))


def probability(surprise: Array) -> Array:
    """The tail probability behind a surprise."""
    return np.asarray(np.power(10.0, -surprise))
