"""Density of recent normal behaviour: how far is a point from where points are usual?

Ester, Kriegel, Sander and Xu, "A density-based algorithm for discovering clusters", KDD 1996.
DBSCAN's core points describe the dense regions; whatever lies beyond eps of all of them would be
noise to DBSCAN, and the distance in eps says by how much.

Works when normal behaviour has several modes; weak when anomalies repeat so often in the history
that they become a mode of their own.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, floats, scalar


def squared_distances(A: Array, B: Array) -> Array:
    """(n, m) squared Euclidean distances between rows (n, p) and (m, p)."""
    square = A @ B.T
    ours, theirs = (A * A).sum(axis=1), (B * B).sum(axis=1)
    for start in range(0, len(A), 64):  # in place and in the cache: memory costs more than sums
        part = square[start : start + 64]
        part *= 2.0
        np.subtract(np.add.outer(ours[start : start + 64], theirs), part, out=part)
        np.maximum(part, 0.0, out=part)
    return np.asarray(square)


def half_squares(B: Array) -> Array:
    """Half the squared length of each row (m, p)."""
    return np.asarray((B * B).sum(axis=1) / 2)


def nearest(A: Array, B: Array, half: Array) -> Array:
    """Distance of each row (n, p) of A to the nearest row of B (m, p); equal rows are 0 apart.

    `half` (m,) are the `half_squares` of B.

    The products that find the nearest cancel digits where it is near: a difference does not.
    """
    found = np.empty(len(A))
    for start in range(0, len(A), 512):  # what one part is compared with stays in the cache
        part = A[start : start + 512]
        near = part @ B.T  # the nearest has the largest a·b - b·b/2
        near -= half
        away = part - B[near.argmax(axis=1)]
        found[start : start + 512] = np.sqrt((away * away).sum(axis=1))
    return found


def single(X: Array) -> Array:
    """Values in the single precision that core points are kept in: equal rows stay equal."""
    return np.asarray(X.astype(np.float32), np.float64)


class CoreDistance:
    """Distance to the nearest core point, in eps; in single precision.

    eps is the `share` quantile of the distance to the k-th neighbour (`neighbours`), so that
    about that share of the training rows are core points. At most `rows` of them are looked at.
    """

    eps_: float
    core_: Array

    def __init__(
        self, neighbours: int = 10, share: float = 0.9, rows: int = 400, seed: int = 0
    ) -> None:
        self.neighbours, self.share, self.rows, self.seed = neighbours, share, rows, seed
        self._half: Array | None = None

    def fit(self, X: Array) -> Self:
        """Find the core points of rows (n, p)."""
        if len(X) > self.rows:
            rng = np.random.default_rng(self.seed)
            X = X[np.sort(rng.choice(len(X), self.rows, replace=False))]
        X = single(X)
        k = min(self.neighbours, len(X) - 1)
        square = squared_distances(X, X)
        np.fill_diagonal(square, 0.0)
        square.partition(k, axis=1)
        reach = np.sqrt(square[:, k])
        self.eps_ = float(np.quantile(reach, self.share)) + 1e-6
        # what makes a core point of DBSCAN: k neighbours within eps, besides itself
        self.core_, self._half = X[reach <= self.eps_], None
        return self

    def score(self, X: Array) -> Array:
        """Distance of each row (n, p) to the nearest core point, in eps."""
        if self._half is None:
            self._half = half_squares(self.core_)
        return nearest(single(X), self.core_, self._half) / self.eps_

    def to_arrays(self) -> Arrays:
        """Core points and eps."""
        return {"core": self.core_.astype(np.float32), "eps": np.array(self.eps_)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        member = cls()
        member.core_ = floats(arrays, "core")
        member.eps_ = scalar(arrays, "eps")
        return member
