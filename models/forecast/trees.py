"""A regression forest as arrays: scikit-learn grows it, numpy asks it.

Breiman, "Random forests", Machine Learning 2001. Nothing is pickled: a stored model is read
without running what somebody else wrote.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer


@dataclass(frozen=True, slots=True)
class Trees:
    """Nodes of all trees (nodes,): a leaf is its own child; `roots` (trees,) are their first.

    Rows whose `feature` is at most `threshold` go left. Inputs count as float32, as they do where
    the trees are grown.
    """

    roots: Integers
    left: Integers
    right: Integers
    feature: Integers
    threshold: Array
    value: Array
    depth: int

    @classmethod
    def grow(cls, X: Array, y: Array, trees: int, leaf: int, share: float, seed: int) -> Self:
        """A forest of `trees` on rows (n, p) and values (n,); `leaf` rows at least in a leaf.

        Each split sees a `share` of the columns.
        """
        # forecasting does without; it takes a second to import
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            trees, min_samples_leaf=leaf, max_features=share, random_state=seed, n_jobs=1
        ).fit(X, y)
        grown = [one.tree_ for one in forest.estimators_]
        sizes = np.array([tree.node_count for tree in grown], np.int64)
        roots = np.cumsum(sizes) - sizes
        left, right = (
            np.concatenate([_children(getattr(tree, side)) for tree in grown])
            for side in ("children_left", "children_right")
        )
        shift = np.repeat(roots, sizes)
        return cls(
            roots,
            left + shift,
            right + shift,
            np.concatenate([np.maximum(tree.feature, 0) for tree in grown]).astype(np.int64),
            np.concatenate([tree.threshold for tree in grown]),
            np.concatenate([tree.value[:, 0, 0] for tree in grown]),
            max(tree.max_depth for tree in grown),
        )

    def predict(self, X: Array) -> Array:
        """Mean (n,) of what the trees say of rows (n, p)."""
        X = X.astype(np.float32)
        rows = np.arange(len(X))[:, None]
        at = np.tile(self.roots, (len(X), 1))
        for _ in range(self.depth):
            smaller = X[rows, self.feature[at]] <= self.threshold[at]
            at = np.where(smaller, self.left[at], self.right[at])
        return np.asarray(self.value[at].mean(axis=1))

    def to_arrays(self) -> Arrays:
        """The nodes."""
        return {
            "roots": self.roots.astype(np.int32),
            "left": self.left.astype(np.int32),
            "right": self.right.astype(np.int32),
            "feature": self.feature.astype(np.int16),
            "threshold": self.threshold,
            "value": self.value,
            "depth": np.array(self.depth),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        names = ("roots", "left", "right", "feature")
        roots, left, right, feature = (np.asarray(arrays[name], np.int64) for name in names)
        threshold, value = floats(arrays, "threshold"), floats(arrays, "value")
        return cls(roots, left, right, feature, threshold, value, integer(arrays, "depth"))


def _children(of: Integers) -> Integers:
    """Where rows go from each node of a tree (nodes,); from a leaf nowhere."""
    return np.where(of < 0, np.arange(len(of)), of).astype(np.int64)
