"""Rows that nothing is to be learned from: to what is learned, an incident is a gap.

Looking back, features see what was before it in its place: a day of outage must not be what the
next day is compared with.
"""

import numpy as np

from models.base import Array, Flags, Integers
from models.grid import SHORT_GAP

#: Rows that are repeated where there is no day to repeat.
AGAIN = 300


def without(y: Array, kept: Flags, period: int) -> Array:
    """Values (n,) with what was before them in the place of those that are not `kept` (n,).

    A few repeat the last value, more take the values a `period` before, or, without a period or
    a whole one, up to `AGAIN` values just before. Rows before the first that is kept stay
    as they are. What stands in a place depends on nothing after it.
    """
    clean = y.copy()
    gaps = np.diff(np.concatenate(([0], (~kept).astype(np.int8), [0])))
    for start, stop in zip(np.flatnonzero(gaps == 1), np.flatnonzero(gaps == -1), strict=True):
        if not start:
            continue
        if stop - start <= SHORT_GAP:
            clean[start:stop] = clean[start - 1]
            continue
        # from its own beginning, not its length: a gap that goes on is filled no other way
        lag = period if 0 < period <= start else min(int(start), AGAIN)
        for begin in range(int(start), int(stop), lag):
            end = min(begin + lag, int(stop))
            clean[begin:end] = clean[begin - lag : end - lag]
    return clean


def spans(t_ms: Integers, chosen: Flags) -> Integers:
    """First and last time of each run of `chosen` (n,) rows: (k, 2)."""
    edges = np.diff(np.concatenate(([0], chosen.astype(np.int8), [0])))
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return np.stack([t_ms[first], t_ms[last]], axis=1)


def inside(t_ms: Integers, found: Integers) -> Flags:
    """Which times (n,) lie within spans (k, 2) in order of time, ends included."""
    if not len(found):
        return np.zeros(len(t_ms), np.bool_)
    place = np.searchsorted(found[:, 0], t_ms, side="right") - 1
    return np.asarray((place >= 0) & (t_ms <= found[np.maximum(place, 0), 1]))
