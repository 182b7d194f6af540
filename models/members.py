"""The members of the ensemble: opinions on rows of features, learned from recent ones."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models.base import Array, ArrayMap, Member
from models.density import CoreDistance
from models.forest import IsolationForest


def soft(Z: Array) -> Array:
    """Keeps small z values, dampens large ones: distances stay about the usual rows."""
    return np.asarray(np.sign(Z) * 4.0 * np.log1p(np.abs(Z) / 4.0))


def hard(Z: Array) -> Array:
    """Dampens from the start, for members that are after the extremes."""
    return np.asarray(np.arcsinh(Z))


def _beside(Z: Array, shape: Array) -> Array:
    """(n, p + 1) of (n, p) and (n,)."""
    both = np.empty((len(Z), Z.shape[1] + 1))
    both[:, :-1], both[:, -1] = Z, shape
    return both


def _density_view(Z: Array, shape: Array) -> Array:
    return _beside(soft(Z), shape)


def _neighbours_view(Z: Array, shape: Array) -> Array:
    return _beside(hard(Z), shape / 2.0)


def _forest_view(Z: Array, shape: Array) -> Array:
    return np.abs(_neighbours_view(Z, shape))


class Part(NamedTuple):
    """How a member is made, read back, and what it sees of the features (n, p) and shape (n,)."""

    make: Callable[[int], Member]
    load: Callable[[ArrayMap], Member]
    view: Callable[[Array, Array], Array]
    label: str


#: Members that learn from rows. The others look at features directly.
LEARNING: dict[str, Part] = {
    "density": Part(
        lambda seed: CoreDistance(10, 0.9, 400, seed),
        CoreDistance.from_arrays,
        _density_view,
        "density (DBSCAN)",
    ),
    "neighbours": Part(
        lambda seed: CoreDistance(2, 0.95, 500, seed),
        CoreDistance.from_arrays,
        _neighbours_view,
        "nearest normal rows (DBSCAN)",
    ),
    "forest": Part(
        lambda seed: IsolationForest(50, 256, seed),
        IsolationForest.from_arrays,
        _forest_view,
        "isolation forest",
    ),
}
#: Features that are calibrated as they are, and the members that are means of their surprises.
DIRECT = ("level", "next", "hour", "day", "same_time")
COMPOSED = {
    "residual": ("next", "hour", "day"),
    "season": ("day", "same_time"),
    "level": ("level", "same_time"),
}
#: Every member and what a person calls it. The shape counts for alerts only: the others that learn
#: see it among their features.
LABELS = {
    **{name: part.label for name, part in LEARNING.items()},
    "residual": "forecast residual",
    "season": "time of day",
    "level": "level",
    "shape": "shape novelty",
}
