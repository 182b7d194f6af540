"""Compensated sums: a float and what rounding took from it, as Prometheus 3 adds.

The algorithm is Neumaier's variant of Kahan's (A. Neumaier, 1974); the order of the terms matters.
"""

import numpy as np

from service.query.promql.vectors import Array


def add(total: Array, lost: Array, x: Array) -> tuple[Array, Array]:
    """`total + x` with what is lost by it, each of any shapes that go together.

    Begin with zeros; in the end the sum is `complete(total, lost)`. A total that is infinite has
    lost nothing.
    """
    after = total + x
    return after, np.where(np.isinf(after), 0.0, lost + _lost(total, x, after))


def complete(total: Array, lost: Array) -> Array:
    """The sum, with what was lost on its way; the same shape."""
    return np.where(np.isinf(total), total, total + lost)


def along(rows: Array) -> tuple[Array, Array]:
    """The sum of each row (k, n), n at least 1, and what it lost: two arrays (k,).

    The same bits as `add` one term after the other; zeros at the end of a row change nothing.
    """
    after = np.add.accumulate(rows, axis=1)
    lost = _lost(after[:, :-1], rows[:, 1:], after[:, 1:])
    if not lost.shape[1]:
        return after[:, 0], np.zeros(len(rows))
    # A sum that was infinite once stays so, or is not a number: what it lost is of no use then.
    return after[:, -1], np.add.accumulate(lost, axis=1, out=lost)[:, -1]


def _lost(total: Array, x: Array, after: Array) -> Array:
    with np.errstate(invalid="ignore"):
        larger = np.abs(total) >= np.abs(x)
        return (np.where(larger, total, x) - after) + np.where(larger, x, total)
