"""What expressions evaluate to, at many steps at once.

A scalar is an array (steps,). An instant vector is a `Vector`: whether a series has a value at a
step stands apart from the value, for NaN is a value like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import Unprocessable
from service.domain.series import NAME, LabelPairs, label_value
from service.storage.columns import Columns, Times

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

#: The NaN with which a sender ends a series, as bits.
STALE_BITS = 0x7FF0000000000002


@dataclass(frozen=True, slots=True)
class Steps:
    """The times at which a query is evaluated: `start_ms`, then every `step_ms`, to `end_ms`."""

    start_ms: int
    end_ms: int
    step_ms: int = 1

    @property
    def count(self) -> int:
        """How many there are, at least one."""
        return (self.end_ms - self.start_ms) // self.step_ms + 1

    @property
    def times(self) -> Times:
        """Milliseconds (count,)."""
        return self.start_ms + self.step_ms * np.arange(self.count, dtype=np.int64)


@dataclass(slots=True)
class Vector:
    """Series with a value at some of the steps.

    `labels` has n canonical label sets, no two of them equal; `values` and `present` are
    (n, steps). A value that is not present means nothing.
    """

    labels: list[LabelPairs]
    values: Array
    present: Flags

    @classmethod
    def empty(cls, steps: int) -> "Vector":
        """No series."""
        return cls([], np.empty((0, steps)), np.empty((0, steps), np.bool_))

    def rows(self, which: Sequence[int] | Places | Flags) -> "Vector":
        """Some of the series, by place or by flag."""
        chosen = np.asarray(which)
        places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        labels = [self.labels[i] for i in places.tolist()]
        return Vector(labels, self.values[places], self.present[places])

    def seen(self) -> "Vector":
        """Without the series that have no value at any step."""
        some = self.present.any(axis=1)
        return self if some.all() else self.rows(np.flatnonzero(some))


#: What an expression may evaluate to, but for range vectors: see `windows.Windows`.
Scalar = Array


class Samples(NamedTuple):
    """Samples of several series: those of series i from `bounds[i]` to `bounds[i + 1]`.

    `t` (all,) milliseconds, ascending within a series, `v` (all,); stale markers are among them.
    """

    labels: list[LabelPairs]
    bounds: Places
    t: Times
    v: Array

    @classmethod
    def of(cls, found: Sequence[tuple[LabelPairs, Columns]]) -> "Samples":
        """One after the other."""
        if not found:
            return cls([], np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0))
        lengths = [len(columns.t) for _, columns in found]
        return cls(
            [labels for labels, _ in found],
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([columns.t for _, columns in found]),
            np.concatenate([columns.v for _, columns in found]),
        )


class Newest(NamedTuple):
    """The newest sample of each series that has one: `t` (n,) and `v` (n,)."""

    labels: list[LabelPairs]
    t: Times
    v: Array


def is_stale(values: Array) -> Flags:
    """Which of the values are stale markers; same shape."""
    bits: Flags = np.ascontiguousarray(values).view(np.int64) == STALE_BITS
    return bits


def nameless(labels: LabelPairs) -> LabelPairs:
    """The labels without the metric's name, which most operations make wrong."""
    return tuple(pair for pair in labels if pair[0] != NAME)


def with_label(labels: LabelPairs, name: str, value: str) -> LabelPairs:
    """The labels with one of them set; an empty value takes it away."""
    others = [pair for pair in labels if pair[0] != name]
    return tuple(sorted([*others, (name, value)])) if value else tuple(others)


def without_names(vector: Vector) -> Vector:
    """The same without names; `Unprocessable` if two series are the same then, at one step."""
    return merged(Vector(list(map(nameless, vector.labels)), vector.values, vector.present))


def merged(vector: Vector) -> Vector:
    """Series with equal labels as one; `Unprocessable` if two of them have a value at one step."""
    places: dict[LabelPairs, int] = {}
    for labels in vector.labels:
        places.setdefault(labels, len(places))
    if len(places) == len(vector.labels):
        return vector
    row = np.fromiter((places[labels] for labels in vector.labels), np.int64, len(vector.labels))
    number = np.zeros((len(places), vector.values.shape[1]), np.int64)
    np.add.at(number, row, vector.present)
    if (number > 1).any():
        twice = list(places)[int(np.flatnonzero((number > 1).any(axis=1))[0])]
        raise Unprocessable(
            f"vector cannot contain metrics with the same labelset: {written(twice)}"
        )
    values = np.zeros(number.shape)
    at = np.nonzero(vector.present)
    values[row[at[0]], at[1]] = vector.values[at]
    return Vector(list(places), values, number > 0)


def written(labels: LabelPairs) -> str:
    """Labels as Prometheus writes them: `name{a="b"}`."""
    name = label_value(labels, NAME)
    pairs = ", ".join(f'{key}="{_escaped(value)}"' for key, value in labels if key != NAME)
    return f"{name}{{{pairs}}}" if pairs or not name else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
