"""Isolation forest as arrays: no node objects, many series in one call.

Liu, Ting and Zhou, "Isolation Forest", ICDM 2008. A tree of depth D is a heap: the children of
node k are 2k+1 and 2k+2, so a forest is three arrays and needs no pointers. Trees of many series
grow together, one level at a time, and are scored together.

Works when anomalies are few and differ in single features or simple combinations; cannot see
what lies inside the range of normal values in every feature.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.base import Array, ArrayMap, Arrays, integer, scalar

Singles = NDArray[np.float32]
#: Other features that a node tries when the rows in it agree on the first one.
RETRIES = 4


class Heaps(NamedTuple):
    """Forests of S series with T trees of depth D each.

    `feature` (S, T, 2^D - 1) and `threshold` of the inner nodes: greater goes right; a branch that
    ended early has infinite thresholds, which send everything left. `length` (S, T, 2^D) is the
    expected path length at each bottom slot.
    """

    feature: NDArray[np.int16]
    threshold: Singles
    length: Singles


def expected_length(rows: NDArray[np.generic]) -> Array:
    """Mean path length of an unsuccessful search among `rows` points (equation 1 of the paper)."""
    n = np.asarray(rows, np.float64)
    many = np.maximum(n, 3.0)
    long = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(n > 2, long, np.where(n == 2, 1.0, 0.0))


def grow(X: Singles, trees: int, sample: int, rng: np.random.Generator) -> Heaps:
    """Forests for (S, n, p) rows of S series, each tree on `sample` rows without replacement."""
    series, n, p = X.shape
    sample = min(sample, n)
    depth = max(1, int(np.ceil(np.log2(max(sample, 2)))))
    grown = series * trees
    picked = rng.random((grown, n), dtype=np.float32).argpartition(sample - 1, axis=1)[:, :sample]
    owner = np.repeat(np.arange(series), trees)
    row = ((owner[:, None] * n + picked) * p).ravel()  # where each picked row starts in X
    flat = X.ravel()
    heaps = Heaps(
        np.zeros((grown, 2**depth - 1), np.int16),
        np.full((grown, 2**depth - 1), np.inf, np.float32),
        np.zeros((grown, 2**depth), np.float32),
    )
    node = np.repeat(np.arange(grown), sample)  # tree * 2^level + place in the level
    for level in range(depth):
        width = 1 << level
        nodes = grown * width
        count = np.bincount(node, minlength=nodes)
        feature, low, high = _choose(flat, row, node, count, p, rng)
        split = (count > 1) & (high > low)
        middle = low + rng.random(nodes, dtype=np.float32) * (high - low)
        below = np.nextafter(high, np.float32(-np.inf))  # rounding must not empty the right side
        threshold = np.where(split, np.minimum(middle, below), np.float32(np.inf))
        inner = slice(width - 1, 2 * width - 1)
        heaps.feature[:, inner] = feature.reshape(grown, width)
        heaps.threshold[:, inner] = threshold.reshape(grown, width)
        ended = np.flatnonzero(~split & (count > 0))
        slot = (ended % width) << (depth - level)
        heaps.length[ended // width, slot] = level + expected_length(count[ended])
        going = split[node]
        node, row = node[going], row[going]
        right = flat[row + feature[node]] > threshold[node]
        node = (node << 1) | right
    count = np.bincount(node, minlength=grown << depth)
    ended = np.flatnonzero(count)
    heaps.length[ended >> depth, ended & (2**depth - 1)] = depth + expected_length(count[ended])
    return Heaps(
        heaps.feature.reshape(series, trees, -1),
        heaps.threshold.reshape(series, trees, -1),
        heaps.length.reshape(series, trees, -1),
    )


def _choose(
    flat: Singles,
    row: NDArray[np.int64],
    node: NDArray[np.int64],
    count: NDArray[np.int64],
    p: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], Singles, Singles]:
    """A feature for each node, on which its rows differ if a few tries find one, and its range."""
    nodes = len(count)
    feature = rng.integers(0, p, nodes).astype(np.int16)
    low = np.full(nodes, np.inf, np.float32)
    high = np.full(nodes, -np.inf, np.float32)
    todo = np.arange(len(node))
    for _ in range(RETRIES):
        here = node[todo]
        values = flat[row[todo] + feature[here]]
        np.minimum.at(low, here, values)
        np.maximum.at(high, here, values)
        stuck = (count > 1) & ~(high > low)
        if p == 1 or not stuck.any():
            break
        feature[stuck] = (feature[stuck] + rng.integers(1, p, int(stuck.sum()))) % p
        low[stuck], high[stuck] = np.inf, -np.inf
        todo = np.flatnonzero(stuck[node])
    empty = ~(high >= low)
    low[empty] = high[empty] = 0.0
    return feature, low, high


def path_lengths(heaps: Heaps, X: Singles) -> Array:
    """Mean path length over the trees for (S, n, p) rows: (S, n)."""
    series, trees, inner = heaps.feature.shape
    n, p = X.shape[1:]
    depth = int(np.log2(inner + 1))
    feature, threshold = heaps.feature.ravel(), heaps.threshold.ravel()
    flat = np.ascontiguousarray(X).ravel()
    tree = np.arange(series * trees).reshape(series, 1, trees)
    row = (np.arange(series * n) * p).reshape(series, n, 1)
    node = np.zeros((series, n, trees), np.int64)
    for _ in range(depth):
        here = tree * inner + node
        node = 2 * node + 1 + (flat[row + feature[here]] > threshold[here])
    lengths = heaps.length.ravel()[tree * (inner + 1) + (node - inner)]
    return np.asarray(lengths.mean(axis=2, dtype=np.float64))


class IsolationForest:
    """Scores in (0, 1): 2^(-path length / expected), as in the paper; 0.5 is unremarkable.

    Parameters: `trees`, rows a tree sees (`sample`), and the `seed` that makes it reproducible.
    """

    heaps_: Heaps
    expected_: float

    def __init__(self, trees: int = 50, sample: int = 256, seed: int = 0) -> None:
        self.trees, self.sample, self.seed = trees, sample, seed

    def fit(self, X: Array) -> Self:
        """Grow the trees on rows (n, p)."""
        rng = np.random.default_rng(self.seed)
        self.heaps_ = grow(np.asarray(X, np.float32)[None], self.trees, self.sample, rng)
        self.expected_ = float(expected_length(np.array(min(self.sample, len(X)))))
        return self

    def score(self, X: Array) -> Array:
        """Score of each row (n, p)."""
        lengths = path_lengths(self.heaps_, np.asarray(X, np.float32)[None])[0]
        return np.asarray(np.exp2(-lengths / max(self.expected_, 1.0)))

    def to_arrays(self) -> Arrays:
        """The heaps and what lengths are compared with."""
        return {
            **self.heaps_._asdict(),
            "expected": np.array(self.expected_),
            "seed": np.array(self.seed),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        heaps = Heaps(
            np.asarray(arrays["feature"], np.int16),
            np.asarray(arrays["threshold"], np.float32),
            np.asarray(arrays["length"], np.float32),
        )
        forest = cls(heaps.feature.shape[1], heaps.length.shape[2], integer(arrays, "seed"))
        forest.heaps_ = heaps
        forest.expected_ = scalar(arrays, "expected")
        return forest


def from_sklearn(fitted: Any) -> IsolationForest:
    """A fitted `sklearn.ensemble.IsolationForest` as heaps, with the same scores to 1e-6.

    Only for forests that see every feature (`max_features=1.0`, the default).
    """
    sample = int(fitted.max_samples_)
    depth = max(1, int(np.ceil(np.log2(max(sample, 2)))))
    trees = len(fitted.estimators_)
    heaps = Heaps(
        np.zeros((1, trees, 2**depth - 1), np.int16),
        np.full((1, trees, 2**depth - 1), np.inf, np.float32),
        np.zeros((1, trees, 2**depth), np.float32),
    )
    for number, estimator in enumerate(fitted.estimators_):
        _copy_tree(estimator.tree_, heaps, number, depth)
    forest = IsolationForest(trees, sample)
    forest.heaps_ = heaps
    forest.expected_ = float(expected_length(np.array(sample)))
    return forest


def _copy_tree(tree: Any, heaps: Heaps, number: int, depth: int) -> None:
    waiting = [(0, 0, 0)]  # scikit-learn's node, level, place in the level
    while waiting:
        node, level, place = waiting.pop()
        left = int(tree.children_left[node])
        if left < 0:
            length = level + expected_length(tree.n_node_samples[node])
            heaps.length[0, number, place << (depth - level)] = length
            continue
        inner = (1 << level) - 1 + place
        heaps.feature[0, number, inner] = tree.feature[node]
        # scikit-learn compares float32 values with float64 thresholds: round down, never up
        exact = float(tree.threshold[node])
        single = np.float32(exact)
        if float(single) > exact:
            single = np.nextafter(single, np.float32(-np.inf))
        heaps.threshold[0, number, inner] = single
        waiting.append((left, level + 1, 2 * place))
        waiting.append((int(tree.children_right[node]), level + 1, 2 * place + 1))
