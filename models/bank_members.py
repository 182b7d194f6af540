"""Learned members and calibrations of many series, stacked so that one call asks all of them.

Each row of a stack is a series; `put` copies one in, `score` judges one row of features of each of
several. Scores are those of `models.density`, `models.forest` and `models.calibration`.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from models.bank_rows import run
from models.base import Array, Flags, Integers, floats
from models.calibration import BODY, KNOTS, TailCalibrator, surprise_of
from models.density import CoreDistance, single
from models.forest import Heaps, IsolationForest, Singles

#: Where there is no core point: further than any that is.
_NOWHERE = np.float32(1e30)
#: Series that are asked together: what that takes stays in the processor's cache.
_TREES_AT_ONCE, _CORES_AT_ONCE, _CALIBRATED_AT_ONCE = 128, 64, 128
#: Groups that the knots of a calibration are looked up in, and how many are in each.
_GROUPED = 16
_GROUPS = KNOTS // _GROUPED
#: Bits of a node: place of its value, how far on the left child is, and above them the threshold.
_PLACE_BITS, _THRESHOLD = 15, 32
_PLACE, _AHEAD = (1 << _PLACE_BITS) - 1, (1 << _THRESHOLD - _PLACE_BITS) - 1


class Cores:
    """Core points of up to `size` series: at most `points` of each, `width` columns.

    A product in single precision finds the nearest, a difference says how far it is.
    """

    def __init__(self, size: int, points: int, width: int) -> None:
        # the last row is the square of each point; points lie side by side, as the product likes
        self._points = np.zeros((size, width + 1, points), np.float32)
        self._eps = np.ones(size)
        self._most = 1

    def put(self, row: int, member: CoreDistance) -> None:
        """Take the core points of one series in."""
        core = member.core_.T
        self._points[row] = 0.0
        self._points[row, :-1, : core.shape[1]] = core
        self._points[row, -1] = _NOWHERE
        self._points[row, -1, : core.shape[1]] = (core * core).sum(axis=0)
        self._eps[row] = member.eps_
        self._most = max(self._most, core.shape[1])

    def score(self, rows: Integers, X: Array) -> Array:
        """Distance of X (n, width), of the series in `rows` (n,), to the nearest, in eps."""
        X = single(X)
        asked = np.ones((len(X), 1, X.shape[1] + 1), np.float32)
        asked[:, 0, :-1] = -2.0 * X
        nearest = np.empty(X.shape, np.float32)
        for start in range(0, len(rows), _CORES_AT_ONCE):
            part = slice(start, start + _CORES_AT_ONCE)
            points = self._points[run(rows[part]), :, : self._most]
            squares = np.matmul(asked[part], points)[:, 0]
            nearest[part] = points[np.arange(len(points)), :-1, squares.argmin(axis=1)]
        return np.asarray(np.sqrt(((X - nearest) ** 2).sum(axis=1)) / self._eps[rows])

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        return self._points.nbytes + self._eps.nbytes


class Forests:
    """Isolation forests of up to `size` series, `trees` trees each, without the gaps of heaps.

    The roots of a series come first, then its pairs of children, each tree in the order that goes
    on with the larger subtree: what most values pass on their way lies side by side. A node is one
    number that orders as its threshold does (`_ordered`), above how far on its left child is and,
    in the lowest bits, where the value of its feature stands. A leaf leads to itself: it looks at
    a column where nothing is, and its threshold is the path length.
    """

    def __init__(self, size: int, trees: int, depth: int, width: int) -> None:
        if size * (width + 1) > _PLACE or (trees << depth + 1) > _AHEAD:
            raise ValueError("forests: more series, columns or trees than a node can tell apart")
        self._trees, self._depth, self._width = trees, depth, width
        self._nodes = np.zeros(0, np.int64)
        self._begin = np.zeros(size, np.int64)
        self._room = np.zeros(size, np.int64)
        self._end = 0
        self._expected = np.ones(size)

    def put(self, row: int, forest: IsolationForest) -> None:
        """Take the forest of one series in. Raises ValueError for one of another kind."""
        heaps = Heaps(*(array[0] for array in forest.heaps_))
        if len(heaps.feature) != self._trees or heaps.length.shape[1] > 1 << self._depth:
            raise ValueError("forest: another number of trees or rows than this stack holds")
        nodes = _packed(heaps, self._width)
        nodes += row * (self._width + 1)
        n = len(nodes)
        if n > self._room[row]:
            self._room[row] = 0
            self._reserve(n)
            self._begin[row], self._room[row] = self._end, n
            self._end += n
        begin = int(self._begin[row])
        self._nodes[begin : begin + n] = nodes
        self._expected[row] = max(forest.expected_, 1.0)

    def _reserve(self, more: int) -> None:
        """Have room for so many more nodes: what nobody uses goes, or all grows by a quarter."""
        if self._end + more <= len(self._nodes):
            return
        live = np.flatnonzero(self._room)
        live = live[np.argsort(self._begin[live])]
        begin = np.cumsum(np.append(0, self._room[live]))
        moved = np.zeros(max(int(1.25 * (begin[-1] + more)), len(self._nodes)), np.int64)
        for row, place in zip(live.tolist(), begin[:-1].tolist(), strict=True):
            own = self._nodes[self._begin[row] : self._begin[row] + self._room[row]]
            moved[place : place + len(own)] = own
        self._nodes = moved
        self._begin[live], self._end = begin[:-1], int(begin[-1])

    def score(self, rows: Integers, X: Array) -> Array:
        """Score of X (n, width), of the series in `rows` (n,)."""
        asked = np.full((len(self._begin), self._width + 1), -np.inf, np.float32)
        asked[rows, :-1] = X
        flat = _ordered(asked).ravel()
        lengths = np.empty(len(rows))
        for start in range(0, len(rows), _TREES_AT_ONCE):
            part = slice(start, start + _TREES_AT_ONCE)
            lengths[part] = self._lengths(self._begin[rows[part]], flat)
        return np.asarray(np.exp2(-lengths / self._expected[rows]))

    def _lengths(self, begin: Integers, flat: Integers) -> Array:
        """Mean path length of values `flat`, of the forests that begin at nodes (n,)."""
        node = begin[:, None] + np.arange(self._trees)
        found, place, value = np.empty_like(node), np.empty_like(node), np.empty_like(node)
        right = np.empty(node.shape, np.bool_)
        for _ in range(self._depth):  # every index is in range: "clip" only skips asking
            self._nodes.take(node, out=found, mode="clip")
            np.bitwise_and(found, _PLACE, out=place)
            flat.take(place, out=value, mode="clip")
            np.greater(value, found, out=right)
            found >>= _PLACE_BITS
            found &= _AHEAD
            node += found
            node += right
        lengths = (self._nodes.take(node) >> _THRESHOLD).astype(np.int32).view(np.float32)
        return np.asarray(lengths.mean(axis=1, dtype=np.float64))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        stacked = (self._nodes, self._begin, self._room, self._expected)
        return sum(array.nbytes for array in stacked)


class Calibrations:
    """Calibrations of up to `size` series, `columns` of each."""

    def __init__(self, size: int, columns: int) -> None:
        self._columns = columns
        # knots by sixteen, and the last of each sixteen: two looks find a place among all
        self._knots = np.zeros((size * columns * _GROUPS, _GROUPED))
        self._lasts = np.zeros((_GROUPS, size, columns))
        self._ranks = np.zeros(size * columns * KNOTS, np.uint16)
        self._body = np.zeros((size, columns), np.int64)
        self._tail = np.ones((3, size, columns))
        self._known = np.zeros((size, columns), np.bool_)

    def put(self, row: int, column: int, calibrator: TailCalibrator | None) -> None:
        """Take one in, as it would be stored; None is never surprised."""
        body, tail = 0, np.ones(3)
        knots, ranks = np.full(KNOTS, np.inf), np.zeros(KNOTS)
        body, tail = 0, np.ones(3)
        if calibrator is not None:
            arrays = calibrator.to_arrays()
            known = floats(arrays, "knots")
            body, tail = known.shape[1], floats(arrays, "tail")
            knots[:body], ranks[:body] = known
        place = row * self._columns + column
        self._knots[place * _GROUPS : (place + 1) * _GROUPS] = knots.reshape(_GROUPS, _GROUPED)
        self._lasts[:, row, column] = knots[_GROUPED - 1 :: _GROUPED]
        self._ranks[place * KNOTS : (place + 1) * KNOTS] = ranks
        self._body[row, column], self._tail[:, row, column] = body, tail
        self._known[row, column] = calibrator is not None

    def surprise(self, rows: Integers, scores: Array, first: int = 0) -> Array:
        """-log10 p of scores (n, k) of the series in `rows` (n,), in the columns from `first`."""
        found = np.empty(scores.shape)
        for start in range(0, len(rows), _CALIBRATED_AT_ONCE):
            part = slice(start, start + _CALIBRATED_AT_ONCE)
            found[part] = self._surprise(rows[part], scores[part], first)
        return found

    def _surprise(self, rows: Integers, scores: Array, first: int) -> Array:
        columns = slice(first, first + scores.shape[1])
        base = rows[:, None] * self._columns + np.arange(first, columns.stop)
        own = run(rows)
        over = (self._lasts[:-1, own, columns] <= scores).view(np.uint8)
        group = over.sum(axis=0, dtype=np.uint8).astype(np.int64)
        knots = self._knots.take(base * _GROUPS + group, axis=0)
        place = group * _GROUPED + _trues(knots <= scores[..., None])  # knots at most as high
        # as np.interp does it, with what is beyond the last knot at the end of the body
        body = self._body[own, columns]
        left = np.minimum(np.maximum(place - 1, 0), np.maximum(body - 2, 0))
        right = np.minimum(left + 1, np.maximum(body - 1, 0))
        base *= KNOTS
        left += base
        right += base
        flat = self._knots.ravel()
        highest, low, high = flat.take(right), self._ranks.take(left), self._ranks.take(right)
        below = _between(scores, flat.take(left), highest, low, high)
        count, threshold, index = self._tail[:, own, columns]
        beyond = np.where(scores > highest, count * BODY, high)
        below = np.where(place == 0, low, np.where(place >= body, beyond, below))
        below[body == 0] = 0.0
        found = surprise_of(scores, below, count, threshold, index)
        return np.where(self._known[own, columns], found, 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        stacked = (self._knots, self._lasts, self._ranks, self._body, self._tail, self._known)
        return sum(array.nbytes for array in stacked)


def _between(
    x: Array, left: Array, right: Array, low: NDArray[np.uint16], high: NDArray[np.uint16]
) -> Array:
    """Ranks at x, which grow evenly from `low` at `left` to `high` at `right`."""
    width = right - left
    apart = (width > 0) & np.isfinite(width)
    slope = (high - low.astype(np.float64)) / np.where(apart, width, 1.0)
    return np.where(apart, slope * (x - left) + low, low)


def _trues(flags: Flags) -> Integers:
    """How many of each sixteen flags (..., 16) are set."""
    words = flags.view(np.uint64)
    return (np.bitwise_count(words[..., 0]) + np.bitwise_count(words[..., 1])).astype(np.int64)


def _ordered(x: Singles) -> Integers:
    """Numbers ordered as singles are, in the upper 32 bits; there positive ones keep theirs."""
    bits = (x + np.float32(0.0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) << _THRESHOLD


def _packed(heaps: Heaps, width: int) -> Integers:
    """Nodes of heaps (trees, slots), as `Forests` has them."""
    trees, inner = heaps.feature.shape
    depth = int(np.log2(inner + 1))
    levels = [slice((1 << level) - 1, (2 << level) - 1) for level in range(depth + 1)]
    split, leaf = np.zeros((2, trees, 2 * inner + 1), np.bool_)
    split[:, :inner] = np.isfinite(heaps.threshold)
    leaf[:, 0] = True
    pairs = split.astype(np.int64)  # of children, in the subtree of each node
    for own, below in reversed(list(itertools.pairwise(levels))):
        leaf[:, below] = split[:, own].repeat(2, axis=1)
        pairs[:, own] += pairs[:, below][:, ::2] + pairs[:, below][:, 1::2]
    leaf &= ~split
    at, pair = np.empty_like(pairs), np.empty_like(pairs)  # places of a node and of its children
    at[:, 0] = np.arange(trees)
    pair[:, 0] = trees + 2 * (np.cumsum(pairs[:, 0]) - pairs[:, 0])
    for own, below in itertools.pairwise(levels):
        left, right = pairs[:, below][:, ::2], pairs[:, below][:, 1::2]
        at[:, below][:, ::2], at[:, below][:, 1::2] = pair[:, own], pair[:, own] + 1
        following, larger = pair[:, own] + 2, left >= right
        pair[:, below][:, ::2] = following + 2 * np.where(larger, 0, right)
        pair[:, below][:, 1::2] = following + 2 * np.where(larger, left, 0)
    nodes = np.empty(trees + 2 * int(pairs[:, 0].sum()), np.int64)
    threshold, feature = heaps.threshold[split[:, :inner]], heaps.feature[split[:, :inner]]
    own_place = at[split]
    ahead = pair[split] - own_place
    nodes[own_place] = _ordered(threshold) | (ahead << _PLACE_BITS) | feature
    # the length of a leaf stands where the bottom slots of its subtree begin
    steps = (1 << level for level in reversed(range(depth + 1)))
    lengths = np.concatenate([heaps.length[:, ::step] for step in steps], axis=1)
    nodes[at[leaf]] = _ordered(lengths[leaf]) | width
    return nodes
