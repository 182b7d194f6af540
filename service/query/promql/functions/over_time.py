"""What there is to say of the samples in a window: sums, extremes, ends, quantiles."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from service.query.promql.budget import Budget, Notes
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.numerals import general
from service.query.promql.sums import add, along, complete
from service.query.promql.vectors import Array, Places, without_names
from service.query.promql.windows import Rows, Windows

Compute = Callable[[Windows, Budget], Array]

#: Sums of whole numbers below this are exact in any order.
_EXACT = float(1 << 53)
#: From so many samples on, a window is looked through by itself instead of beside others.
_LONG = 256


def _enter(name: str, compute: Compute) -> None:
    """A function of a range vector alone that gives a value where there is a sample."""

    @function(name)
    def call(asked: Asked, args: Sequence[Value]) -> Value:
        windows = cast(Windows, args[0])
        return without_names(windows.vector(compute(windows, asked.budget)))


def _running(windows: Windows) -> Array | None:
    """Sums up to each sample (all + 1,), where all values are whole and small enough."""
    v = windows.v
    if not len(v) or not (np.abs(v).sum() < _EXACT and np.array_equal(v, np.trunc(v))):
        return None
    # From 0 on, so that a sum of -0 alone is 0, as it is where terms are added one by one.
    return np.cumsum(np.concatenate([[0.0], v]))


def _sum(windows: Windows, budget: Budget) -> Array:
    if (running := _running(windows)) is not None:
        return running[windows.last] - running[windows.first]
    return windows.each(budget, lambda rows: complete(*along(rows.values())))


def _average(windows: Windows, budget: Budget) -> Array:
    if (running := _running(windows)) is not None:
        return (running[windows.last] - running[windows.first]) / windows.counts
    return windows.each(budget, _mean)


def _mean(rows: Rows) -> Array:
    values = rows.values()
    total, lost = along(values)
    found: Array = total / rows.counts + lost / rows.counts
    # The sum may be too large for a number where the mean is not.
    over = np.flatnonzero(~np.isfinite(total) & ~np.isnan(values).any(axis=1))
    if len(over):
        found[over] = _mean_by_steps(values[over], rows.counts[over])
    return found


def _mean_by_steps(values: Array, counts: Places) -> Array:
    """Means (k,) of rows: by their sum while that is finite, then each from the one before."""
    total, lost = values[:, 0], np.zeros(len(values))
    mean, finite = np.zeros(len(values)), np.ones(len(values), np.bool_)
    for j in range(1, values.shape[1]):
        x, there, count = values[:, j], j < counts, float(j + 1)
        after, lost_after = add(total, lost, x)
        still = finite & ~np.isinf(after)
        turns = there & finite & ~still
        mean = np.where(turns, total / j, mean)
        lost = np.where(turns, lost / j, lost)
        finite = np.where(there, still, finite)
        share = (count - 1) / count
        next_mean, next_lost = add(share * mean, share * lost, x / count)
        total = np.where(there & still, after, total)
        mean = np.where(there & ~still, next_mean, mean)
        lost = np.where(there, np.where(still, lost_after, next_lost), lost)
    return np.where(finite, total / counts + lost / counts, mean + lost)


def _reduced(ufunc: np.ufunc) -> Compute:
    """Each window by a function of two numbers, the order of which does not matter."""

    def compute(windows: Windows, budget: Budget) -> Array:
        if windows.still:
            return np.broadcast_to(compute(windows.at_step(0), budget), windows.first.shape)
        found = np.zeros(windows.first.size)
        which = np.flatnonzero(windows.counts.ravel())
        if len(which):
            # Reduced from each place to the next: windows, and between them what is let go.
            places = np.empty(2 * len(which), np.int64)
            places[::2], places[1::2] = windows.first.ravel()[which], windows.last.ravel()[which]
            found[which] = ufunc.reduceat(windows.padded_values(), places)[::2]
        return found.reshape(windows.first.shape)

    return compute


_highest, _lowest = _reduced(np.fmax), _reduced(np.fmin)


def _time_of(extreme: Compute) -> Compute:
    """When the last of the samples was that are as extreme, in seconds."""

    def compute(windows: Windows, budget: Budget) -> Array:
        most = extreme(windows, budget).ravel()

        def last(rows: Rows) -> Array:
            wanted = most[rows.which][:, None]
            same = rows.there & ((rows.values() == wanted) | np.isnan(wanted))
            place = rows.longest - 1 - np.argmax(same[:, ::-1], axis=1)
            times: Array = windows.t[rows.first + place] / 1000
            return times

        return windows.each(budget, last)

    return compute


def _at(windows: Windows, samples: Array, *, newest: bool) -> Array:
    """The first or the newest of what samples have, of each window that has one."""
    if not len(samples):
        return np.zeros(windows.first.shape)
    place = np.maximum(windows.last - 1, 0) if newest else windows.first
    found: Array = samples[np.minimum(place, len(samples) - 1)]
    return found


@function("last_over_time")
def _last(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    return windows.vector(_at(windows, windows.v, newest=True))


@function("first_over_time")
def _first(asked: Asked, args: Sequence[Value]) -> Value:
    windows = cast(Windows, args[0])
    return windows.vector(_at(windows, windows.v, newest=False))


def warn_of_quantile(q: Array, notes: Notes) -> None:
    """Say which of the quantiles asked for (n,) are none."""
    for value in np.unique(q[~((q >= 0) & (q <= 1))]).tolist():
        text = general(value)
        notes.warn(f"quantile value should be between 0 and 1, got {text}")


def between(ordered: Array, q: Array, numbers_of: Places) -> Array:
    """The quantiles q (k,) of rows (k, n) that are in order, NaN last; of so many values (k,).

    Interpolated linearly between neighbours; NaN counts as the smallest. Infinite for a q that is
    none.
    """
    rank = q * (numbers_of - 1)
    whole = np.floor(rank)
    low = np.clip(np.nan_to_num(whole), 0, numbers_of - 1)
    high = np.minimum(low + 1, numbers_of - 1)
    weight = rank - whole
    row = np.arange(len(ordered))
    nans = np.isnan(ordered).sum(axis=1) - (ordered.shape[1] - numbers_of)

    def pick(place: Array) -> Array:
        at = (place - nans).astype(np.int64)
        return np.where(at < 0, np.nan, ordered[row, np.maximum(at, 0)])

    found = pick(low) * (1 - weight) + pick(high) * weight
    return np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.where(np.isnan(q), np.nan, found)))


def _quantiles(windows: Windows, q: Array, budget: Budget) -> Array:
    """The quantile of each step (steps,) of the windows (n, steps)."""
    if windows.still and (q == q[0]).all():
        return np.broadcast_to(_quantiles(windows.at_step(0), q[:1], budget), windows.first.shape)
    found = np.zeros(windows.first.size)
    for rows in windows.rows(budget):
        found[rows.which] = _quantile(rows.values(np.nan), q[rows.steps], rows.counts)
    return found.reshape(windows.first.shape)


def _quantile(values: Array, q: Array, counts: Places) -> Array:
    """The quantiles q (k,) of rows (k, n) with NaN behind the last, which are put in order."""
    if values.shape[1] < _LONG:
        values.sort(axis=1)
        return between(values, q, counts)
    for row, share, count in zip(values, q.tolist(), counts.tolist(), strict=True):
        mine = row[:count]
        if not 0 <= share <= 1 or np.isnan(mine).any():
            mine.sort()
        else:
            # Of a long row only the two neighbours need to be in their places.
            low = int(share * (count - 1))
            mine.partition([low, min(low + 1, count - 1)])
    return between(values, q, counts)


@function("quantile_over_time")
def _quantile_over_time(asked: Asked, args: Sequence[Value]) -> Value:
    q, windows = cast(Array, args[0]), cast(Windows, args[1])
    warn_of_quantile(q[windows.counts.any(axis=0)], asked.notes)
    return without_names(windows.vector(_quantiles(windows, q, asked.budget)))


def _deviation(rows: Rows) -> Array:
    """The median of the distances from the median."""
    half = np.full(len(rows.which), 0.5)
    values = rows.values(np.nan)
    middle = _quantile(values.copy(), half, rows.counts)
    return _quantile(np.abs(values - middle[:, None]), half, rows.counts)


def _enter_all() -> None:
    _enter("sum_over_time", _sum)
    _enter("avg_over_time", _average)
    _enter("max_over_time", _highest)
    _enter("min_over_time", _lowest)
    _enter("ts_of_max_over_time", _time_of(_highest))
    _enter("ts_of_min_over_time", _time_of(_lowest))
    _enter("ts_of_first_over_time", lambda w, budget: _at(w, w.t / 1000, newest=False))
    _enter("ts_of_last_over_time", lambda w, budget: _at(w, w.t / 1000, newest=True))
    _enter("count_over_time", lambda w, budget: w.counts.astype(np.float64))
    _enter("present_over_time", lambda w, budget: np.ones(w.first.shape))
    _enter("mad_over_time", lambda w, budget: w.each(budget, _deviation))


_enter_all()
