"""Series that belong together by their labels, and their values laid out for reducing."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from service.domain.series import NAME, LabelPairs
from service.query.promql.vectors import Array, Flags, Places

#: Values that are laid out at once: so many that they stay in a processor's cache.
AT_ONCE = 100_000


def with_labels(labels: Sequence[LabelPairs], names: Sequence[str]) -> list[LabelPairs]:
    """Of each label set the pairs with these names."""
    if not names:
        return [()] * len(labels)
    keep = frozenset(names)
    return [tuple([pair for pair in pairs if pair[0] in keep]) for pairs in labels]


def without_labels(labels: Sequence[LabelPairs], names: Sequence[str]) -> list[LabelPairs]:
    """Of each label set the pairs with other names, and not the metric's name either."""
    drop = frozenset((*names, NAME))
    return [tuple([pair for pair in pairs if pair[0] not in drop]) for pairs in labels]


def numbered(keys: Sequence[LabelPairs]) -> tuple[list[LabelPairs], Places]:
    """The distinct keys in order of appearance, and for each key (n,) which of them it is."""
    seen: dict[LabelPairs, int] = {}
    number = seen.setdefault
    row = np.fromiter((number(key, len(seen)) for key in keys), np.int64, len(keys))
    return list(seen), row


def present_in(row: Places, keys: int, present: Flags) -> Places:
    """How many series of each key have a value at each step (keys, steps).

    Series i is of key `row[i]`; `present` is (n, steps).
    """
    counts = np.zeros((keys, present.shape[1]), np.int64)
    if len(row):
        order = np.argsort(row, kind="stable")
        ordered = row[order]
        begins = np.flatnonzero(np.diff(ordered, prepend=-1))
        counts[ordered[begins]] = np.add.reduceat(present[order].astype(np.int64), begins, axis=0)
    return counts


class Block(NamedTuple):
    """Groups of about the same size at some steps.

    `groups` (k,) says which; member j of each is row `rows[j]` (longest, k) of the vector where
    `real` (longest, k) says that there is one. `values` and `there` are (longest, k, steps of
    `part`), members in the vector's order; a value that is not there means nothing.
    """

    groups: Places
    rows: Places
    real: Flags
    part: slice
    values: Array
    there: Flags


def blocks(row: Places, values: Array, present: Flags, at_once: int = AT_ONCE) -> Iterator[Block]:
    """The groups of a vector (n, steps) whose row i is in group `row[i]`, so many values at once.

    Groups of similar size go together, so that at most half of what is laid out is padding and a
    few blocks hold all groups, however their sizes differ.
    """
    steps = values.shape[1]
    sizes = np.bincount(row)
    order = np.argsort(row, kind="stable")
    starts = np.cumsum(sizes) - sizes
    similar = np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    for kind in np.unique(similar[sizes > 0]).tolist():
        groups = np.flatnonzero((similar == kind) & (sizes > 0))
        member = np.arange(int(sizes[groups].max()))[:, None]
        real = member < sizes[groups]
        rows = order[np.minimum(starts[groups] + member, len(order) - 1)]
        wide = max(1, at_once // rows.size)
        for begin in range(0, steps, wide):
            part = slice(begin, begin + wide)
            there = present[:, part][rows] & real[:, :, None]
            yield Block(groups, rows, real, part, values[:, part][rows], there)
