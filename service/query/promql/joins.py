"""Arithmetic and comparisons of two vectors: series that match put together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.domain.errors import Unprocessable
from service.domain.series import NAME, LabelPairs
from service.query.promql.budget import QueryTooDear
from service.query.promql.expressions import COMPARISONS, Binary, Cardinality
from service.query.promql.grouping import numbered, present_in, with_labels, without_labels
from service.query.promql.operators import ARITHMETIC, COMPARING
from service.query.promql.vectors import Array, Flags, Places, Vector, merged

#: Values that a join may hold.
_POINTS_MAX = 20_000_000


@dataclass(slots=True)
class _Side:
    """The series of one side: the match group `row` (n,) of each, and the series of each group."""

    vector: Vector
    row: Places
    keys: int
    _number: Places | None = None

    @property
    def number(self) -> Places:
        """How many series of each group have a value at each step (keys, steps)."""
        if self._number is None:
            self._number = present_in(self.row, self.keys, self.vector.present)
        return self._number

    @property
    def unique(self) -> bool:
        """Whether no group has several series, at whatever steps."""
        return not len(self.row) or int(np.bincount(self.row).max()) < 2

    @property
    def some(self) -> Flags:
        """Whether any series has a value at each step (steps,)."""
        return np.asarray(self.vector.present.any(axis=0), np.bool_)


def joined(expr: Binary, left: Vector, right: Vector) -> Vector:
    """Series of two vectors put together by what they match on.

    One side is the one of which a group may have several series; with `group_right` the right.
    As in Prometheus `fill_left` stands for a missing series of that side and `fill_right` for one
    of the other, so with `group_right` for the sides of other names.
    """
    matching = expr.matching
    swapped = matching.cardinality is Cardinality.ONE_TO_MANY
    first, second = (right.seen(), left.seen()) if swapped else (left.seen(), right.seen())
    keyed = with_labels if matching.on else without_labels
    keys, row = numbered(keyed([*first.labels, *second.labels], matching.labels))
    many = _Side(first, row[: len(first.labels)], len(keys))
    one = _Side(second, row[len(first.labels) :], len(keys))
    _check(expr, keys, many, one)
    pairs = _pairs(expr, keys, many, one)
    sides = (pairs.one, pairs.many) if swapped else (pairs.many, pairs.one)
    if expr.op not in COMPARISONS:
        return merged(Vector(pairs.labels, ARITHMETIC[expr.op](*sides), pairs.there))
    holds = COMPARING[expr.op](*sides)
    if expr.returns_bool:
        return merged(Vector(pairs.labels, holds.astype(np.float64), pairs.there))
    return merged(Vector(pairs.labels, sides[0], pairs.there & holds))


def _check(expr: Binary, keys: Sequence[LabelPairs], many: _Side, one: _Side) -> None:
    """Refuse what matches ambiguously at the first step that does."""
    matching = expr.matching
    filled = matching.fill_left is not None or matching.fill_right is not None
    steps = many.vector.values.shape[1]
    on_one = on_many = steps
    if not one.unique:
        twice = (one.number > 1).any(axis=0) & (filled | (many.some & one.some))
        on_one = int(np.argmax(np.append(twice, True)))
    if matching.cardinality is Cardinality.ONE_TO_ONE and not many.unique:
        twice = (many.number > 1) & ((one.number > 0) | (matching.fill_right is not None))
        on_many = int(np.argmax(np.append(twice.any(axis=0), True)))
    if on_one < steps and on_one <= on_many:
        side = "left" if matching.cardinality is Cardinality.ONE_TO_MANY else "right"
        seen: dict[int, int] = {}
        for i in np.flatnonzero(one.vector.present[:, on_one]).tolist():
            before = seen.setdefault(int(one.row[i]), i)
            if before != i:
                group, labels = _braced(keys[int(one.row[i])]), one.vector.labels
                raise Unprocessable(
                    f"found duplicate series for the match group {group} on the {side} hand-side "
                    f"of the operation: [{_braced(labels[i])}, {_braced(labels[before])}]"
                    ";many-to-many matching not allowed: matching labels must be unique on one side"
                )
    if on_many < steps:
        raise Unprocessable(
            "multiple matches for labels: many-to-one matching must be explicit "
            "(group_left/group_right)"
        )


@dataclass(slots=True)
class _Pairs:
    """Series side by side: labels of the answer, values of both (n, steps), where they are."""

    labels: list[LabelPairs]
    many: Array
    one: Array
    there: Flags


def _pairs(expr: Binary, keys: Sequence[LabelPairs], many: _Side, one: _Side) -> _Pairs:
    matching = expr.matching
    grouped = matching.cardinality is not Cardinality.ONE_TO_ONE
    named = _Named(expr)
    included = named.included(one.vector.labels)
    single, single_row, included = _variants(one, included)
    order = np.argsort(single_row, kind="stable")
    number = np.bincount(single_row, minlength=len(keys))
    starts = np.cumsum(number) - number
    matches = number[many.row]
    _bound(int(matches.sum()) + len(many.row), many.vector.values.shape[1])
    left = np.repeat(np.arange(len(many.row)), matches)
    rank = np.arange(len(left)) - np.repeat(np.cumsum(matches) - matches, matches)
    right = order[np.repeat(starts[many.row], matches) + rank]
    base = named.base(many.vector.labels)
    labels = [
        _with(base[i], included[j]) for i, j in zip(left.tolist(), right.tolist(), strict=True)
    ]
    parts = [
        _Pairs(
            labels,
            many.vector.values[left],
            single.values[right],
            many.vector.present[left] & single.present[right],
        )
    ]
    rows = [many.row[left]]
    if matching.fill_right is not None:
        alone = many.vector.present & ~(one.number > 0)[many.row]
        extra = named.included(keys)
        labels = [_with(base[i], extra[key]) for i, key in enumerate(many.row.tolist())]
        fill = np.full(alone.shape, matching.fill_right)
        parts.append(_Pairs(labels, many.vector.values, fill, alone))
        rows.append(many.row)
    if matching.fill_left is not None:
        alone = single.present & ~(many.number > 0)[single_row]
        bare = named.base(keys)
        labels = [_with(bare[key], included[j]) for j, key in enumerate(single_row.tolist())]
        fill = np.full(alone.shape, matching.fill_left)
        parts.append(_Pairs(labels, fill, single.values, alone))
        rows.append(single_row)
    pairs = (
        parts[0]
        if len(parts) == 1
        else _Pairs(
            [labels for part in parts for labels in part.labels],
            np.concatenate([part.many for part in parts]),
            np.concatenate([part.one for part in parts]),
            np.concatenate([part.there for part in parts]),
        )
    )
    if grouped:
        _check_labels(pairs, np.concatenate(rows))
    return pairs


def _check_labels(pairs: _Pairs, row: Places) -> None:
    """Refuse answers of one match group that have the same labels at a step."""
    places: dict[tuple[int, LabelPairs], int] = {}
    place = [
        places.setdefault(key, len(places)) for key in zip(row.tolist(), pairs.labels, strict=True)
    ]
    if len(places) < len(place):
        number = present_in(np.array(place, np.int64), len(places), pairs.there)
        if (number > 1).any():
            raise Unprocessable(
                "multiple matches for labels: grouping labels must ensure unique matches"
            )


def _variants(one: _Side, included: list[LabelPairs]) -> tuple[Vector, Places, list[LabelPairs]]:
    """Series of one match group that add the same labels as one: at each step only one is there."""
    if one.unique:
        return one.vector, one.row, included
    places: dict[tuple[int, LabelPairs], int] = {}
    keyed = list(zip(one.row.tolist(), included, strict=True))
    place = np.array([places.setdefault(key, len(places)) for key in keyed], np.int64)
    values = np.zeros((len(places), one.vector.values.shape[1]))
    present = np.zeros(values.shape, np.bool_)
    series, step = np.nonzero(one.vector.present)
    values[place[series], step] = one.vector.values[series, step]
    present[place[series], step] = True
    labels = [extra for _, extra in places]
    return Vector(labels, values, present), np.array([key for key, _ in places], np.int64), labels


class _Named:
    """The labels of answers: what series of the side of many keep, and what they are given."""

    def __init__(self, expr: Binary) -> None:
        matching = expr.matching
        self._grouped = matching.cardinality is not Cardinality.ONE_TO_ONE
        self._on, self._labels, self._include = matching.on, matching.labels, matching.include
        self._arithmetic = expr.op not in COMPARISONS
        self._bool = expr.returns_bool

    def base(self, labels: Sequence[LabelPairs]) -> list[LabelPairs]:
        """What stays of the labels of each series of the side of many."""
        nameless = self._arithmetic or self._bool
        if not self._grouped and self._on:
            names = [name for name in self._labels if not (nameless and name == NAME)]
            return with_labels(labels, names)
        drop = self._include if self._grouped else self._labels
        if nameless:
            return without_labels(labels, drop)
        gone = frozenset(drop)
        return [tuple([p for p in pairs if p[0] not in gone]) for pairs in labels]

    def included(self, labels: Sequence[LabelPairs]) -> list[LabelPairs]:
        """The labels that series of the side of one give."""
        names = [name for name in self._include if not (self._bool and name == NAME)]
        return with_labels(labels, names)


def _with(labels: LabelPairs, more: LabelPairs) -> LabelPairs:
    return tuple(sorted(labels + more)) if more else labels


def _bound(series: int, steps: int) -> None:
    if series * steps > _POINTS_MAX:
        raise QueryTooDear(
            f"an operator would join {series:,} series at {steps:,} steps; {_POINTS_MAX:,} values "
            "are possible, so take larger steps or less time"
        )


def _braced(labels: LabelPairs) -> str:
    """Labels as Prometheus' errors have them, the name among the others."""
    pairs = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in labels)
    return f"{{{', '.join(pairs)}}}"
