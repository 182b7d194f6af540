"""Aggregations: `sum by (…)`, `topk`, `quantile` and the like, over the series of a vector."""

import math
from collections.abc import Callable
from typing import cast

import numpy as np

from service.query.promql.budget import Notes
from service.query.promql.count_values import count_values
from service.query.promql.expressions import Aggregate
from service.query.promql.grouping import AT_ONCE, blocks, numbered, with_labels, without_labels
from service.query.promql.numerals import general
from service.query.promql.ranking import RANKINGS, ranked
from service.query.promql.sums import add, complete
from service.query.promql.vectors import Array, Flags, Vector

#: Aggregations that look at one member after the other, and values that they lay out at once.
_IN_TURN, _AT_ONCE_IN_TURN = frozenset({"stddev", "stdvar"}), 1_000_000
#: Columns up to which a recurrence over many members is quicker in plain floats.
_FEW_COLUMNS = 8


def aggregate(expr: Aggregate, vector: Vector, param: Array | str | None, notes: Notes) -> Vector:
    """The vector aggregated at each step.

    `param` (steps,) is the k of `topk` and its like, the ratio of `limit_ratio` or the quantile;
    for `count_values` it is a label's name. Groups come in the order of their first
    series. Raises `Unprocessable` where the parameter is no number or no label's name.
    """
    vector = vector.seen()
    if expr.op == "count_values":
        return count_values(expr, vector, cast(str, param))
    keyed = without_labels if expr.without else with_labels
    groups, row = numbered(keyed(vector.labels, expr.labels))
    if expr.op in RANKINGS:
        return ranked(expr.op, vector, row, cast(Array, param), notes)
    if expr.op == "quantile":
        _check_quantile(cast(Array, param), notes)
    shape = (len(groups), vector.values.shape[1])
    values, present = np.zeros(shape), np.zeros(shape, np.bool_)
    if groups:
        reduce = _REDUCTIONS[expr.op]
        at_steps = np.zeros(shape[1]) if param is None else cast(Array, param)
        at_once = _AT_ONCE_IN_TURN if expr.op in _IN_TURN else AT_ONCE
        for block in blocks(row, vector.values, vector.present, at_once):
            there, part = block.there, block.part
            values[block.groups, part] = reduce(block.values, there, at_steps[part])
            present[block.groups, part] = there.any(axis=0)
    return Vector(groups, values, present)


def _check_quantile(q: Array, notes: Notes) -> None:
    low, high = float(np.min(q)), float(np.max(q))
    wrong = [high] if math.isnan(high) else [x for x in (high, low) if not 0 <= x <= 1]
    for value in dict.fromkeys(wrong):
        notes.warn(f"quantile value should be between 0 and 1, got {general(value)}")


# Reductions: values and whether they are there (longest, k, steps), and the parameter (steps,), to
# (k, steps). Sums are those of Prometheus to the last bit, so terms are added in order.


def _summed(values: Array, there: Flags, _: Array) -> Array:
    total, lost = _compensated(np.where(there, values, -0.0))
    return complete(total[-1], lost)


def _compensated(terms: Array) -> tuple[Array, Array]:
    """The running totals (n, …) of compensated addition, and what they lost (…) in the end.

    What `sums.add` gives term by term. Adding -0.0 changes nothing. What an infinite total lost
    means nothing.
    """
    totals = np.add.accumulate(terms, axis=0)
    before, term, after = totals[:-1], terms[1:], totals[1:]
    if not len(term):
        return totals, np.zeros(terms.shape[1:])
    lost = np.where(
        np.abs(before) >= np.abs(term), (before - after) + term, (term - after) + before
    )
    return totals, np.add.accumulate(lost, axis=0)[-1]


def _averaged(values: Array, there: Flags, _: Array) -> Array:
    """The sum over the count; where the sum overflows, means of growing groups instead."""
    terms = np.where(there, values, -0.0)
    totals, lost = _compensated(terms)
    count = there.sum(axis=0)
    mean: Array = totals[-1] / count + lost / count
    if not np.isfinite(totals[-1]).all():
        endless = np.isinf(terms).any(axis=0)
        # No mean is finite then; as in a sum, infinities of both signs give NaN.
        mean = np.where(endless, np.where(np.isfinite(terms), 0.0, terms).sum(axis=0), mean)
        over = np.isinf(totals).any(axis=0) & ~endless
        mean[over] = _incremental_mean(values[:, over], there[:, over])
    return mean


def _incremental_mean(values: Array, there: Flags) -> Array:
    """The means (k,) of values (n, k) whose sum overflows: from that term on of the mean so far."""
    shape = values.shape[1:]
    mean, lost, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    incremental = np.zeros(shape, np.bool_)
    for x, here in zip(values, there, strict=True):
        before = count
        count = count + here
        total, rest = add(mean, lost, x)
        turns = here & ~incremental & np.isinf(total)
        mean, lost = (np.where(turns, each / before, each) for each in (mean, lost))
        incremental |= turns
        share = before / count
        small, small_rest = add(share * mean, share * lost, x / count)
        mean = np.where(here, np.where(incremental, small, total), mean)
        lost = np.where(here, np.where(incremental, small_rest, rest), lost)
    return np.where(incremental, mean + lost, mean / count + lost / count)


def _least(values: Array, there: Flags, _: Array) -> Array:
    """The least number; NaN only if there is no number."""
    return _first_of_zeros(np.where(there, values, np.nan), np.fmin)


def _greatest(values: Array, there: Flags, _: Array) -> Array:
    return _first_of_zeros(np.where(there, values, np.nan), np.fmax)


def _first_of_zeros(values: Array, choose: np.ufunc) -> Array:
    """The extreme; of 0.0 and -0.0, which are equal, the one that comes first."""
    extreme: Array = choose.reduce(values, axis=0)
    zero = values == 0
    if (zero & np.signbit(values)).any():
        first = np.take_along_axis(values, zero.argmax(axis=0)[None], axis=0)[0]
        extreme = np.where(extreme == 0, first, extreme)
    return extreme


def _counted(_: Array, there: Flags, __: Array) -> Array:
    return np.asarray(there.sum(axis=0), np.float64)


def _one(_: Array, there: Flags, __: Array) -> Array:
    return np.ones(there.shape[1:])


def _variance(values: Array, there: Flags, _: Array) -> Array:
    """The population's variance by Welford's recurrence (1962); NaN with an infinity."""
    shape = there.shape[1:]
    if there[0].size <= _FEW_COLUMNS:
        flat, here = values.reshape(len(values), -1), there.reshape(len(values), -1)
        columns = (flat[here[:, i], i].tolist() for i in range(flat.shape[1]))
        return np.array([_variance_of(column) for column in columns]).reshape(shape)
    count, mean, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for x, here in zip(values, there, strict=True):
        count += here
        delta = x - mean
        mean = np.where(here, mean + delta / count, mean)
        squares = np.where(here, squares + delta * (x - mean), squares)
    return squares / count


def _variance_of(values: list[float]) -> float:
    mean = squares = 0.0
    for count, x in enumerate(values, 1):
        delta = x - mean
        mean += delta / count
        squares += delta * (x - mean)
    return squares / len(values) if values else math.nan


def _deviation(values: Array, there: Flags, param: Array) -> Array:
    return np.sqrt(_variance(values, there, param))


def _quantile(values: Array, there: Flags, q: Array) -> Array:
    """The q-quantile by linear interpolation; NaN counts as less than any number."""
    ascending = np.sort(np.where(there, values, np.nan), axis=0)
    count = there.sum(axis=0)
    strange = (there & np.isnan(values)).sum(axis=0)
    rank = np.where((q >= 0) & (q <= 1), q, 0.0) * (count - 1.0)
    lower = np.maximum(0.0, np.floor(rank))
    upper = np.minimum(count - 1.0, lower + 1.0)
    weight = rank - np.floor(rank)

    def at(place: Array) -> Array:
        shifted = np.clip(place.astype(np.int64) - strange, 0, len(ascending) - 1)
        found = np.take_along_axis(ascending, shifted[None], axis=0)[0]
        return np.where(place < strange, np.nan, found)

    inside = at(lower) * (1.0 - weight) + at(upper) * weight
    return np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.where(q > 1, np.inf, inside)))


_REDUCTIONS: dict[str, Callable[[Array, Flags, Array], Array]] = {
    "sum": _summed,
    "avg": _averaged,
    "min": _least,
    "max": _greatest,
    "count": _counted,
    "group": _one,
    "stddev": _deviation,
    "stdvar": _variance,
    "quantile": _quantile,
}
