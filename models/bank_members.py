"""Learned members and calibrations of many series, stacked so that one call asks all of them.

Each row of a stack is a series; `put` copies one in, `score` judges one row of features of each of
several. Scores are those of `models.density`, `models.forest` and `models.calibration`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Array, Integers
from models.calibration import BODY, KNOTS, TailCalibrator, surprise_of
from models.density import CoreDistance, single
from models.forest import Heaps, IsolationForest, Singles

#: Where there is no core point: further than any that is.
_NOWHERE = np.float32(1e30)
#: Series whose trees are descended together: what that takes stays in the processor's cache.
_AT_ONCE = 256
_FEATURE_BITS, _FEATURE = np.uint32(8), np.uint32(255)

_Nodes = NDArray[Any]


class Cores:
    """Core points of up to `size` series: at most `points` of each, `width` columns.

    A product in single precision finds the nearest, a difference says how far it is.
    """

    def __init__(self, size: int, points: int, width: int) -> None:
        # the last row is the square of each point; points lie side by side, as the product likes
        self._points = np.zeros((size, width + 1, points), np.float32)
        self._eps = np.ones(size)
        self._used = 0

    def put(self, row: int, member: CoreDistance) -> None:
        """Take the core points of one series in."""
        core = member.core_.T
        self._points[row] = 0.0
        self._points[row, :-1, : core.shape[1]] = core
        self._points[row, -1] = _NOWHERE
        self._points[row, -1, : core.shape[1]] = (core * core).sum(axis=0)
        self._eps[row] = member.eps_
        self._used = max(self._used, row + 1)

    def score(self, rows: Integers, X: Array) -> Array:
        """Distance of X (n, width), of the series in `rows` (n,), to the nearest, in eps."""
        X = single(X)
        asked = np.ones((len(X), 1, X.shape[1] + 1), np.float32)
        asked[:, 0, :-1] = -2.0 * X
        if 3 * len(rows) >= self._used:  # rather too many than a copy of all points
            every = np.zeros((self._used, *asked.shape[1:]), np.float32)
            every[rows] = asked
            squares = np.matmul(every, self._points[: self._used])[rows, 0]
        else:
            squares = np.matmul(asked, self._points[rows])[:, 0]
        nearest = self._points[rows, :-1, squares.argmin(axis=1)]
        return np.asarray(np.sqrt(((X - nearest) ** 2).sum(axis=1)) / self._eps[rows])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        return self._points.nbytes + self._eps.nbytes


class Forests:
    """Isolation forests of up to `size` series, `trees` trees each, without the gaps of heaps.

    Nodes of all trees of a series lie level by level, first the roots; the right child follows the
    left one. A leaf leads to itself: it looks at a column where nothing is, and its threshold is
    the path length. A node's way is its feature and, above those 8 bits, how far on the left child
    is: what is looked up together lies together.
    """

    def __init__(self, size: int, trees: int, depth: int, width: int) -> None:
        self._trees, self._depth, self._width = trees, depth, width
        self._way = np.zeros(0, np.uint32)
        self._threshold = np.zeros(0, np.float32)
        self._begin = np.zeros(size, np.int64)
        self._room = np.zeros(size, np.int64)
        self._end = 0
        self._expected = np.ones(size)

    def put(self, row: int, forest: IsolationForest) -> None:
        """Take the forest of one series in. Raises ValueError for one of another kind."""
        heaps = Heaps(*(array[0] for array in forest.heaps_))
        if len(heaps.feature) != self._trees or heaps.length.shape[1] > 1 << self._depth:
            raise ValueError("forest: another number of trees or rows than this stack holds")
        way, threshold = _levels(heaps, self._width)
        n = len(way)
        if n > self._room[row]:
            self._room[row] = 0
            self._reserve(n)
            self._begin[row], self._room[row] = self._end, n
            self._end += n
        own = slice(int(self._begin[row]), int(self._begin[row]) + n)
        self._way[own], self._threshold[own] = way, threshold
        self._expected[row] = max(forest.expected_, 1.0)

    def _reserve(self, more: int) -> None:
        """Have room for so many more nodes: what nobody uses goes, or all grows by half."""
        if self._end + more <= len(self._way):
            return
        live = np.flatnonzero(self._room)
        live = live[np.argsort(self._begin[live])]
        begin = np.cumsum(np.append(0, self._room[live]))
        end = self._begin[live] + self._room[live]
        old = [slice(*ends) for ends in np.stack((self._begin[live], end), axis=1).tolist()]
        total = max(int(1.5 * (begin[-1] + more)), len(self._way))
        self._way = _moved(self._way, old, total)
        self._threshold = _moved(self._threshold, old, total)
        self._begin[live], self._end = begin[:-1], int(begin[-1])

    def score(self, rows: Integers, X: Array) -> Array:
        """Score of X (n, width), of the series in `rows` (n,)."""
        lengths = np.empty(len(rows))
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            lengths[part] = self._lengths(self._begin[rows[part]], X[part])
        return np.asarray(np.exp2(-lengths / self._expected[rows]))

    def _lengths(self, begin: Integers, X: Array) -> Array:
        """Mean path length of X (n, width), of the forests that begin at nodes (n,)."""
        n = len(begin)
        asked = np.full((n, self._width + 1), -np.inf, np.float32)
        asked[:, :-1] = X
        flat = asked.ravel()
        column = np.arange(n)[:, None] * (self._width + 1)
        node = begin[:, None] + np.arange(self._trees)
        shape = node.shape
        way, place = np.empty(shape, np.uint32), np.empty(shape, np.int64)
        value, threshold = np.empty(shape, np.float32), np.empty(shape, np.float32)
        right = np.empty(shape, np.bool_)
        for _ in range(self._depth):  # every index is in range: "clip" only skips asking
            self._way.take(node, out=way, mode="clip")
            np.bitwise_and(way, _FEATURE, out=place)
            place += column
            flat.take(place, out=value, mode="clip")
            self._threshold.take(node, out=threshold, mode="clip")
            np.greater(value, threshold, out=right)
            way >>= _FEATURE_BITS
            node += way
            node += right
        return np.asarray(self._threshold.take(node).mean(axis=1, dtype=np.float64))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        stacked = (self._way, self._threshold, self._begin, self._room)
        return sum(array.nbytes for array in stacked) + self._expected.nbytes


class Calibrations:
    """Calibrations of up to `size` series, `columns` of each."""

    def __init__(self, size: int, columns: int) -> None:
        self._knots = np.zeros((size, columns, KNOTS))
        self._ranks = np.zeros((size, columns, KNOTS), np.uint16)
        self._body = np.zeros((size, columns), np.int64)
        self._tail = np.ones((size, columns, 3))
        self._known = np.zeros((size, columns), np.bool_)

    def put(self, row: int, column: int, calibrator: TailCalibrator | None) -> None:
        """Take one in, as it would be stored; None is never surprised."""
        self._known[row, column] = calibrator is not None
        self._body[row, column] = 0
        self._tail[row, column] = 1.0
        self._knots[row, column] = np.inf
        self._ranks[row, column] = 0
        if calibrator is None:
            return
        arrays = calibrator.to_arrays()
        knots, ranks = np.asarray(arrays["knots"], np.float64)
        self._knots[row, column, : len(knots)] = knots
        self._ranks[row, column, : len(knots)] = ranks
        self._body[row, column] = len(knots)
        self._tail[row, column] = arrays["tail"]

    def surprise(self, rows: Integers, scores: Array, first: int = 0) -> Array:
        """-log10 p of scores (n, k) of the series in `rows` (n,), in the columns from `first`."""
        columns = slice(first, first + scores.shape[1])
        size = self._knots.shape[1]
        base = (rows[:, None] * size + np.arange(first, columns.stop)) * KNOTS
        flat, ranks = self._knots.ravel(), self._ranks.ravel()
        body = self._body[rows, columns]
        count, threshold, index = np.moveaxis(self._tail[rows, columns], 2, 0)
        place = np.zeros(scores.shape, np.int64)  # knots that are at most as high
        step = KNOTS // 2
        while step:
            place += step * (flat.take(base + (place + (step - 1))) <= scores)
            step //= 2
        place += flat.take(base + np.minimum(place, KNOTS - 1)) <= scores
        # as np.interp does it, with what is beyond the last knot at the end of the body
        left = base + np.clip(place - 1, 0, np.maximum(body - 2, 0))
        right = np.minimum(left + 1, base + np.maximum(body - 1, 0))
        low, high = ranks.take(left), ranks.take(right)
        below = _between(scores, flat.take(left), flat.take(right), low, high)
        last = base + np.maximum(body - 1, 0)
        below = np.where(place == 0, ranks.take(base), below)
        beyond = np.where(scores > flat.take(last), count * BODY, ranks.take(last))
        below = np.where(place >= body, beyond, below)
        below = np.where(body == 0, 0.0, below)
        found = surprise_of(scores, below, count, threshold, index)
        return np.where(self._known[rows, columns], found, 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        stacked = (self._knots, self._ranks, self._body, self._tail, self._known)
        return sum(array.nbytes for array in stacked)


def _between(
    x: Array, left: Array, right: Array, low: NDArray[np.uint16], high: NDArray[np.uint16]
) -> Array:
    """Ranks at x, which grow evenly from `low` at `left` to `high` at `right`."""
    width = right - left
    apart = (width > 0) & np.isfinite(width)
    slope = (high - low.astype(np.float64)) / np.where(apart, width, 1.0)
    return np.where(apart, slope * (x - left) + low, low)


def _levels(heaps: Heaps, width: int) -> tuple[NDArray[np.uint32], Singles]:
    """Nodes of heaps (trees, slots), level by level: their ways and thresholds."""
    trees, inner = heaps.feature.shape
    depth = int(np.log2(inner + 1))
    tree, place = np.arange(trees), np.zeros(trees, np.int64)
    ways, thresholds = [], []
    for level in range(depth + 1):
        n = len(tree)
        at = (1 << level) - 1 + place
        way = np.full(n, width, np.uint32)
        threshold = heaps.length[tree, place << (depth - level)]
        if level < depth:
            split = np.flatnonzero(np.isfinite(heaps.threshold[tree, at]))
            threshold[split] = heaps.threshold[tree, at][split]
            ahead = n - split + 2 * np.arange(len(split))
            way[split] = heaps.feature[tree, at][split] + (ahead << _FEATURE_BITS)
        else:
            split = np.zeros(0, np.int64)
        ways.append(way)
        thresholds.append(threshold)
        tree = np.repeat(tree[split], 2)
        place = (2 * place[split][:, None] + np.arange(2)).ravel()
    return np.concatenate(ways), np.concatenate(thresholds)


def _moved(array: _Nodes, parts: list[slice], size: int) -> _Nodes:
    """The parts of an array, one after the other, in one of another size."""
    moved = np.zeros(size, array.dtype)
    end = 0
    for part in parts:
        moved[end : end + part.stop - part.start] = array[part]
        end += part.stop - part.start
    return moved
