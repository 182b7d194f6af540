"""Aggregations that choose among the series of a group: `topk`, `limit_ratio` and their like."""

import math
from collections.abc import Callable

import numpy as np

from service.domain.errors import Unprocessable
from service.query.promql.budget import Notes
from service.query.promql.grouping import Block, blocks
from service.query.promql.label_hash import offsets
from service.query.promql.numerals import general
from service.query.promql.vectors import Array, Flags, Places, Vector

RANKINGS = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})

#: Floats from here on, of either sign, are not whole numbers of 64 bits.
_INT64_LEAST, _INT64_BEYOND = -9223372036854775808.0, 9223372036854774784.0
_MAX = np.iinfo(np.int64).max
#: Up to so many values Prometheus' sort leaves equal ones in order: it sorts by insertion.
_BY_INSERTION = 12


def ranked(op: str, vector: Vector, row: Places, param: Array, notes: Notes) -> Vector:
    """The series that are chosen at each step; row i of the vector is in group `row[i]`.

    At a single step those of `topk` descend and those of `bottomk` ascend, group by group.
    """
    if op == "limit_ratio":
        return _by_ratio(vector, param, notes)
    if float(np.max(param)) < 1:
        return Vector.empty(vector.values.shape[1])
    if np.isnan(param).any():
        raise Unprocessable("Parameter value is NaN")
    if float(np.min(param)) <= _INT64_LEAST:
        raise Unprocessable(f"Scalar value {general(float(np.min(param)))} underflows int64")
    if float(np.max(param)) >= _INT64_BEYOND:
        raise Unprocessable(f"Scalar value {general(float(np.max(param)))} overflows int64")
    k = np.minimum(param.astype(np.int64), len(vector.labels))
    if not vector.labels:
        return vector
    if op == "limitk":
        return _chosen(vector, row, lambda block: _first(block, k[block.part]))
    sign = -1.0 if op == "topk" else 1.0
    if len(k) == 1:
        return _at_one_step(vector, row, int(k[0]), sign)
    return _chosen(vector, row, lambda block: _least(block, k[block.part], sign))


def _by_ratio(vector: Vector, ratio: Array, notes: Notes) -> Vector:
    low, high = float(np.min(ratio)), float(np.max(ratio))
    if low == high == 0:
        return Vector.empty(vector.values.shape[1])
    if np.isnan(ratio).any():
        raise Unprocessable("Ratio value is NaN")
    for value, bound in ((high, 1.0), (low, -1.0)):
        if value * bound > 1:
            notes.warn(
                f"ratio value should be between -1 and 1, got {general(value)}, "
                f"capping to {general(bound)}"
            )
    ratio = np.clip(ratio, -1.0, 1.0)
    where = offsets(vector.labels)[:, None]
    chosen = np.where(ratio >= 0, where < ratio, where >= 1.0 + ratio)
    return Vector(vector.labels, vector.values, vector.present & chosen)


def _chosen(vector: Vector, row: Places, choose: Callable[[Block], Flags]) -> Vector:
    present = np.zeros_like(vector.present)
    for block in blocks(row, vector.values, vector.present):
        present[block.rows[block.real], block.part] = choose(block)[block.real]
    return Vector(vector.labels, vector.values, present)


def _first(block: Block, k: Places) -> Flags:
    return block.there & (np.cumsum(block.there, axis=0) <= k)


def _least(block: Block, k: Places, sign: float) -> Flags:
    """The k least of the values times `sign`, NaN last.

    Which of equal ones are left at the end follows from how Prometheus goes about it: it keeps them
    in a heap.
    """
    order = _orderable(block.values * sign, block.there)
    number = np.clip(k, 1, len(order)) - 1
    most = int(number.max())
    least = np.sort(np.partition(order, most, axis=0)[: most + 1], axis=0)
    last = np.take_along_axis(least, np.broadcast_to(number, (1, *order.shape[1:])), axis=0)
    kept: Flags = block.there & (order <= last) & (k >= 1)
    for group, step in np.argwhere(kept.sum(axis=0) > np.maximum(k, 0)).tolist():
        members = np.flatnonzero(block.there[:, group, step])
        values = block.values[members, group, step] * -sign
        kept[:, group, step] = False
        kept[members[_greatest(values.tolist(), int(k[step]))], group, step] = True
    return kept


def _orderable(values: Array, there: Flags) -> Places:
    """Integers in the order of the values; then come NaN, then what is not there."""
    bits = (values + 0.0).view(np.int64)
    order = np.where(np.isnan(values), _MAX - 1, bits ^ ((bits >> 63) & _MAX))
    return np.where(there, order, _MAX)


def _at_one_step(vector: Vector, row: Places, k: int, sign: float) -> Vector:
    """The k least of each group times `sign`, the least first."""
    order = np.argsort(row, kind="stable")
    order = order[vector.present[order, 0]]
    ends = np.flatnonzero(np.diff(row[order])) + 1
    places: list[int] = []
    for members in np.split(order, ends):
        values: list[float] = (vector.values[members, 0] * -sign).tolist()
        kept = _descending(_greatest(values, k), values)
        places += members[kept].tolist()
    return vector.rows(places)


def _greatest(values: list[float], k: int) -> list[int]:
    """Places of the k greatest values, as a heap whose root is the least; NaN is less than any."""
    heap: list[int] = []

    def less(i: int, j: int) -> bool:
        a = values[heap[i]]
        return a != a or a < values[heap[j]]

    for place, value in enumerate(values):
        if len(heap) < k:
            heap.append(place)
            _up(heap, less)
            root = values[heap[0]]
        elif root < value or (root != root and not math.isnan(value)):
            heap[0] = place
            _down(heap, less)
            root = values[heap[0]]
    return heap


def _up(heap: list[int], less: Callable[[int, int], bool]) -> None:
    child = len(heap) - 1
    while child and less(child, parent := (child - 1) // 2):
        heap[parent], heap[child] = heap[child], heap[parent]
        child = parent


def _down(heap: list[int], less: Callable[[int, int], bool]) -> None:
    parent = 0
    while (child := 2 * parent + 1) < len(heap):
        if child + 1 < len(heap) and less(child + 1, child):
            child += 1
        if not less(child, parent):
            break
        heap[parent], heap[child] = heap[child], heap[parent]
        parent = child


def _descending(places: list[int], values: list[float]) -> list[int]:
    """The places by their values, the greatest first, NaN last, equal ones as Prometheus sorts."""
    if len(places) > _BY_INSERTION:
        return sorted(places, key=lambda i: (values[i] != values[i], -values[i]))
    done: list[int] = []
    for place in places:
        at = len(done)
        while at and ((a := values[done[at - 1]]) != a or a < values[place]):
            at -= 1
        done.insert(at, place)
    return done
