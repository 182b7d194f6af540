"""Functions that put series in order, of an instant query: its order is seen."""

import re
from collections.abc import Sequence
from functools import cmp_to_key
from typing import cast

import numpy as np

from service.domain.series import LabelPairs
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.vectors import Vector

_CHUNKS = re.compile(r"[0-9]+|[^0-9]+")
#: Larger numbers are compared as text: they are none of Go's integers.
_LARGEST = (1 << 63) - 1


@function("sort")
def _sort(asked: Asked, args: Sequence[Value]) -> Value:
    return _by_value(asked, args, descending=False)


@function("sort_desc")
def _sort_desc(asked: Asked, args: Sequence[Value]) -> Value:
    return _by_value(asked, args, descending=True)


def _ordered(asked: Asked) -> bool:
    """Whether the order will be seen, which it is at a single time; else it is warned of."""
    if asked.steps.start_ms == asked.steps.end_ms:
        return True
    asked.notes.warn(
        "sort is ineffective for range queries since results are always ordered by labels"
    )
    return False


def _by_value(asked: Asked, args: Sequence[Value], *, descending: bool) -> Vector:
    """By value, NaN last either way; of several steps, as they are."""
    vector = cast(Vector, args[0])
    if not _ordered(asked):
        return vector
    vector = vector.seen()
    values = vector.values[:, 0]
    # NaN is sorted to the end of what ascends.
    return vector.rows(np.argsort(-values if descending else values, kind="stable"))


@function("sort_by_label")
def _sort_by_label(asked: Asked, args: Sequence[Value]) -> Value:
    return _by_label(asked, args, descending=False)


@function("sort_by_label_desc")
def _sort_by_label_desc(asked: Asked, args: Sequence[Value]) -> Value:
    return _by_label(asked, args, descending=True)


def _by_label(asked: Asked, args: Sequence[Value], *, descending: bool) -> Vector:
    """By the labels named, numbers within them as numbers; then by all labels."""
    vector, names = cast(Vector, args[0]), [cast(str, arg) for arg in args[1:]]
    if not _ordered(asked):
        return vector

    def compare(a: int, b: int) -> int:
        return _compared(vector.labels[a], vector.labels[b], names)

    vector = vector.seen()
    order = sorted(range(len(vector.labels)), key=cmp_to_key(compare), reverse=descending)
    return vector.rows(order)


def _compared(left: LabelPairs, right: LabelPairs, names: list[str]) -> int:
    mine, others = dict(left), dict(right)
    for name in names:
        a, b = mine.get(name, ""), others.get(name, "")
        if a != b:
            return -1 if _precedes(a, b) else 1
    return (left > right) - (left < right)


def _precedes(left: str, right: str) -> bool:
    """Whether a text comes before another one, runs of digits being numbers; an empty one does."""
    mine, others = _CHUNKS.findall(left), _CHUNKS.findall(right)
    for i, a in enumerate(mine):
        if i >= len(others):
            return False
        b = others[i]
        number, other = _number(a), _number(b)
        if number is not None and other is not None:
            if number != other:
                return number < other
        elif a != b:
            return bool(a < b)
        # The same so far: the one that ends here is the first.
        if i == len(mine) - 1:
            return True
        if i == len(others) - 1:
            return False
    return True


def _number(text: str) -> int | None:
    """The number that a run of digits writes; None for other text, and beyond Go's integers."""
    digits = text.lstrip("0") or "0"
    if not (text.isascii() and text.isdigit()) or len(digits) > len(str(_LARGEST)):
        return None
    return number if (number := int(digits)) <= _LARGEST else None
