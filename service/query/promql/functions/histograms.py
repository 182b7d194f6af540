"""Histograms: quantiles and fractions of classic ones, whose buckets are series with an `le`.

There are no native histograms here, so what is only of those has nothing to say.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np

from service.domain.series import NAME, LabelPairs, label_value
from service.query.promql.budget import Notes
from service.query.promql.functions.over_time import warn_of_quantile
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.numerals import in_open_metrics, read
from service.query.promql.vectors import (
    Array,
    Flags,
    Places,
    Vector,
    merged,
    nameless,
    with_label,
)

_BOUND = "le"
#: Counts that differ by less, relatively, differ by rounding.
_TOLERANCE = 1e-12
_SMALLEST_NORMAL = 2.2250738585072014e-308


class Buckets(NamedTuple):
    """Histograms with the same bounds, at every step.

    `labels` (g,) of the histograms without bounds; `bounds` (b,) ascending; `counts` (b, g, steps)
    cumulative, and `present` (b, g, steps) which buckets there are.
    """

    labels: list[LabelPairs]
    bounds: Array
    counts: Array
    present: Flags


def _histograms(vector: Vector, notes: Notes) -> Iterator[Buckets]:
    """The histograms of a vector; series without a bound are left out and warned of."""
    histograms: dict[LabelPairs, list[tuple[float, int]]] = {}
    for row, labels in enumerate(vector.labels):
        text = label_value(labels, _BOUND)
        bound = read(text)
        if bound is not None:
            rest = tuple(pair for pair in labels if pair[0] != _BOUND)
            histograms.setdefault(rest, []).append((bound, row))
        elif vector.present[row].any():
            _warn_of_bound(labels, text, notes)
    alike: dict[tuple[float, ...], list[tuple[LabelPairs, list[int]]]] = {}
    for labels, buckets in histograms.items():
        buckets.sort(key=lambda bucket: bucket[0])
        bounds = tuple(bound for bound, _ in buckets)
        alike.setdefault(bounds, []).append((labels, [row for _, row in buckets]))
    for bounds, members in alike.items():
        rows = np.array([rows for _, rows in members], np.int64).T
        found = Buckets(
            [nameless(labels) for labels, _ in members],
            np.array(bounds),
            vector.values[rows],
            vector.present[rows],
        )
        yield _coalesced(found)


def _warn_of_bound(labels: LabelPairs, text: str, notes: Notes) -> None:
    name = label_value(labels, NAME)
    notes.warn(
        f'bucket label "{_BOUND}" is missing or has a malformed value of "{text}"'
        + (f' for metric name "{name}"' if name else "")
    )


def _coalesced(buckets: Buckets) -> Buckets:
    """Buckets with the same bound, differently written, as one."""
    labels, bounds, counts, present = buckets
    distinct, first = np.unique(bounds, return_index=True)
    if len(distinct) == len(bounds):
        return buckets
    ends = np.append(first[1:], len(bounds))
    total = np.zeros((len(distinct), *counts.shape[1:]))
    for i, (begin, end) in enumerate(zip(first.tolist(), ends.tolist(), strict=True)):
        for j in range(begin, end):
            total[i] = np.where(present[j], total[i] + counts[j], total[i])
    return Buckets(labels, distinct, total, np.logical_or.reduceat(present, first, axis=0))


def _monotonic(buckets: Buckets) -> tuple[Array, Flags]:
    """Counts (b, g, steps) that never fall, and where that had to be forced (g, steps).

    Differences that are due to rounding are silently taken away.
    """
    counts = np.array(buckets.counts)
    forced = np.zeros(counts.shape[1:], np.bool_)
    begun = np.zeros(counts.shape[1:], np.bool_)
    before = np.zeros(counts.shape[1:])
    for now, there in zip(counts, buckets.present, strict=True):
        same = begun & _almost_equal(before, now)
        falls = begun & ~same & (now < before)
        forced |= there & falls
        now[...] = np.where(same | falls, before, now)
        before = np.where(there, now, before)
        begun |= there
    return counts, forced


def _almost_equal(a: Array, b: Array) -> Flags:
    total, apart = np.abs(a) + np.abs(b), np.abs(a - b)
    tiny = (a == 0) | (b == 0) | (total < _SMALLEST_NORMAL)
    near = np.where(
        tiny,
        apart < _TOLERANCE * _SMALLEST_NORMAL,
        apart / np.minimum(total, np.finfo(np.float64).max) < _TOLERANCE,
    )
    equal: Flags = near | (a == b) | (np.isnan(a) & np.isnan(b))
    return equal


def _quantiles(buckets: Buckets, q: Array) -> tuple[Array, Flags]:
    """The quantile of each histogram at each step (g, steps), and where counts were forced.

    `q` is (steps,). Interpolated linearly within a bucket, of which the first begins at zero if
    its bound is above; in the bucket up to infinity it is that bucket's lower bound.
    """
    counts, forced = _monotonic(buckets)
    finite = buckets.present[:-1]
    number = finite.sum(axis=0)
    # Only if there are a bucket up to infinity, another one, and something in them.
    whole = buckets.present[-1] & np.isposinf(buckets.bounds[-1]) & (number > 0)
    some = counts[-1] != 0
    found = np.full(number.shape, np.nan)
    if len(finite):
        ranked = counts[:-1]
        bounds = np.broadcast_to(buckets.bounds[:-1, None, None], ranked.shape)
        if not finite.all():
            # Those that are there come first, in their order.
            order = np.argsort(~finite, axis=0, kind="stable")
            ranked = np.take_along_axis(ranked, order, axis=0)
            bounds = buckets.bounds[order]
        within = _interpolated(bounds, ranked, number, q * counts[-1])
        found = np.where(whole & some, within, found)
    valid = (q >= 0) & (q <= 1)
    beyond = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.nan))
    found = np.where(valid, found, beyond)
    return found, forced & whole & some & valid


def _interpolated(bounds: Array, counts: Array, number: Places, rank: Array) -> Array:
    """Where a rank lies (g, steps) in so many first buckets of each histogram, (b, g, steps).

    The bucket is looked for by halves, as Prometheus does, which shows where counts are NaN.
    """
    low, high = np.zeros_like(number), number
    while (apart := low < high).any():
        middle = (low + high) // 2
        enough = _at(counts, middle) >= rank
        low, high = (
            np.where(apart & ~enough, middle + 1, low),
            np.where(apart & enough, middle, high),
        )
    upper = _at(bounds, low)
    # The bucket before, or zero; at or below zero the first bucket's own bound.
    begun = low > 0
    lower = np.where(begun, _at(bounds, low - 1), 0.0)
    below = np.where(begun, _at(counts, low - 1), 0.0)
    within = lower + (upper - lower) * ((rank - below) / (_at(counts, low) - below))
    found = np.where(~begun & (upper <= 0), upper, within)
    return np.where(low == number, lower, found)


def _at(rows: Array, place: Places) -> Array:
    """One of the rows (b, g, steps) of each column, by its place (g, steps)."""
    place = np.clip(place, 0, len(rows) - 1)
    found: Array = np.take_along_axis(rows, place[None], axis=0)[0]
    return found


@function("histogram_quantile")
def _histogram_quantile(asked: Asked, args: Sequence[Value]) -> Value:
    q, vector = cast(Array, args[0]), cast(Vector, args[1])
    warn_of_quantile(q, asked.notes)

    def compute(buckets: Buckets) -> Array:
        found, forced = _quantiles(buckets, q)
        _inform_of(forced, asked.notes)
        return found

    return merged(_each(vector, asked.notes, compute))


@function("histogram_quantiles")
def _histogram_quantiles(asked: Asked, args: Sequence[Value]) -> Value:
    vector, label = cast(Vector, args[0]), cast(str, args[1])
    quantiles = [cast(Array, q) for q in args[2:]]
    for q in quantiles:
        warn_of_quantile(q, asked.notes)
    found: list[tuple[list[LabelPairs], Array, Flags]] = []
    for buckets in _histograms(vector, asked.notes):
        there = np.logical_or.reduce(buckets.present, axis=0)
        for q in quantiles:
            values, forced = _quantiles(buckets, q)
            _inform_of(forced, asked.notes)
            for each in np.unique(q).tolist():
                text = in_open_metrics(each)
                labels = [with_label(pairs, label, text) for pairs in buckets.labels]
                at = np.isnan(q) if np.isnan(each) else q == each
                found.append((labels, values, there & at))
    return merged(_together(found, asked.steps.count))


def _inform_of(forced: Flags, notes: Notes) -> None:
    if forced.any():
        notes.inform(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus"
            ".io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
        )


def _each(vector: Vector, notes: Notes, compute: Callable[[Buckets], Array]) -> Vector:
    """What is computed (g, steps) of all histograms of a vector."""
    found = [
        (buckets.labels, compute(buckets), np.logical_or.reduce(buckets.present, axis=0))
        for buckets in _histograms(vector, notes)
    ]
    return _together(found, vector.values.shape[1])


def _together(found: list[tuple[list[LabelPairs], Array, Flags]], steps: int) -> Vector:
    if not found:
        return Vector.empty(steps)
    return Vector(
        [pairs for labels, _, _ in found for pairs in labels],
        np.concatenate([values for _, values, _ in found]),
        np.concatenate([present for _, _, present in found]),
    )


def _fractions(buckets: Buckets, low: Array, high: Array) -> Array:
    """The share of what was observed between two bounds (steps,), of each histogram (g, steps)."""
    counts, total = buckets.counts, buckets.counts[-1]
    whole = buckets.present[-1] & np.isposinf(buckets.bounds[-1]) & (total != 0)
    ranks = [np.minimum(_rank(buckets, edge), total) for edge in (low, high)]
    found = np.where(low >= high, 0.0, (ranks[1] - ranks[0]) / total)
    known = whole & ~np.isnan(low) & ~np.isnan(high) & np.ones(counts.shape[1:], np.bool_)
    return np.where(known, found, np.nan)


def _rank(buckets: Buckets, edge: Array) -> Array:
    """How much was observed up to an edge (steps,), of each histogram (g, steps)."""
    shape = buckets.counts.shape[1:]
    rank, done = np.zeros(shape), np.zeros(shape, np.bool_)
    lower, below, begun = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.bool_)
    for upper, now, there in zip(
        buckets.bounds.tolist(), buckets.counts, buckets.present, strict=True
    ):
        # The first bucket begins at zero, or nowhere if its bound is not above.
        lower = np.where(begun, lower, 0.0 if upper > 0 else -np.inf)
        outside = there & ~done & (lower >= edge)
        inside = there & ~done & (lower < edge) & (edge < upper)
        part = below + (now - below) * (edge - lower) / (upper - lower)
        part = np.where(np.isneginf(lower), now, part)
        rank = np.where(outside, below, np.where(inside, part, rank))
        done |= outside | inside
        lower, below = np.where(there, upper, lower), np.where(there, now, below)
        begun |= there
    return np.where(done, rank, np.inf)


@function("histogram_fraction")
def _histogram_fraction(asked: Asked, args: Sequence[Value]) -> Value:
    low, high, vector = cast(Array, args[0]), cast(Array, args[1]), cast(Vector, args[2])
    return merged(_each(vector, asked.notes, lambda buckets: _fractions(buckets, low, high)))


def _enter_native(name: str) -> None:
    """A function of native histograms, of which there are none."""

    @function(name)
    def call(asked: Asked, args: Sequence[Value]) -> Value:
        return Vector.empty(asked.steps.count)


for _name in ("avg", "count", "sum", "stddev", "stdvar"):
    _enter_native(f"histogram_{_name}")
