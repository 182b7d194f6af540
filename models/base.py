"""The two kinds of model and their conventions, stated once.

A member looks at rows of features, a forecaster at a regular series. Both keep scikit-learn's
habits: `__init__` stores, `fit` learns and returns self, learned attributes end in `_`.
High scores are anomalous. Nothing here warns or returns a number that is not finite, whatever
finite input it gets. Models become plain arrays (`to_arrays`) and come back from them.
"""

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
#: What `to_arrays` gives: any dtype but object.
Arrays = dict[str, NDArray[np.generic]]
ArrayMap = Mapping[str, NDArray[np.generic]]


class Member(Protocol):
    """One opinion on rows of features; several make a `models.ensemble.Detector`."""

    def fit(self, X: Array) -> Self:
        """Learn from rows (n, p) that are mostly normal; n ≥ 2."""
        ...

    def score(self, X: Array) -> Array:
        """How unusual each row of (n, p) is: (n,), ≥ 0, high is anomalous."""
        ...

    def to_arrays(self) -> Arrays:
        """Everything learned."""
        ...

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """The model that `to_arrays` wrote down."""
        ...


class Forecaster(Protocol):
    """Looks ahead on a regular grid."""

    def fit(self, y: Array, first: int) -> Self:
        """Learn from (n,) values; `first` is the grid index of `y[0]`."""
        ...

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """The next `horizon` values after each of several windows.

        `windows` (k, m) holds the newest m values before k origins, `index` (k,) the grid index
        of the first value to predict. Returns (k, horizon).
        """
        ...

    def to_arrays(self) -> Arrays:
        """Everything learned."""
        ...

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """The model that `to_arrays` wrote down."""
        ...


def floats(arrays: ArrayMap, name: str) -> Array:
    """One of `arrays` as float64."""
    return np.asarray(arrays[name], np.float64)


def scalar(arrays: ArrayMap, name: str) -> float:
    """One of `arrays` that holds a single number."""
    return float(floats(arrays, name))


def integer(arrays: ArrayMap, name: str) -> int:
    """One of `arrays` that holds a single whole number."""
    return int(np.asarray(arrays[name], np.int64))


def nested(prefix: str, arrays: ArrayMap) -> Arrays:
    """The same arrays under `prefix/`."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def within(prefix: str, arrays: ArrayMap) -> Arrays:
    """The arrays under `prefix/`, the prefix taken off."""
    start = prefix + "/"
    return {name[len(start) :]: a for name, a in arrays.items() if name.startswith(start)}
