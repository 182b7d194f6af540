"""Weeks ahead: a straight trend that bends and jumps at change points, and the days of the week.

For slow metrics: revenue, listeners, genres. Piecewise-linear trend after Taylor and Letham,
"Forecasting at scale", The American Statistician 2018, with few changes instead of many small
ones: they are added one by one (Pati, Rezaiifar and Krishnaprasad, "Orthogonal matching pursuit",
1993), and as many stay as the Bayesian information criterion allows where errors follow each other
(Schwarz 1978). The last slope fades (Gardner and McKenzie 1985) as fast as did well before.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, Flags, Integers
from models.forecast.intervals import Widths
from models.forecast.views import View, has_logarithms
from models.grid import DAY_MS, Grid
from models.robust import median, winsorised_mean

#: Days (or weeks) needed, and those that are looked at.
ROWS_MIN, ROWS_MOST = 21, 1100
#: Share of the usual samples that a day needs to count as a whole one.
WHOLE = 0.8
#: Rows between change points, and from the last one to the end; a change may lie in every
#: so-maniest, and at so many places at most.
APART, EVERY, PLACES = 14, 2, 150
#: Change points at most, one for so many rows; what one costs: a number for where, one for what.
CHANGES, ROWS_EACH, COST = 12, 30, 2.5
#: So many may be of no use before the next one makes all of them worth while.
PATIENCE = 3
#: Rows of the median that tells freaks, and from how many usual deviations they are cut.
AROUND, CLIP = 15, 4.0
#: Errors beyond so many usual ones count less; rounds of weighting them.
HUBER, ROUNDS = 2.5, 5
#: Moments of the past from which a forecast is tried, and the first in rows.
ORIGINS = 12
#: What stays a day later of the slope, and of how far the newest rows lie from the trend.
SLOPE_KEPT, MISS_KEPT = (0.0, 0.93, 0.97, 0.985, 0.995, 1.0), (0.0, 0.8, 0.95, 1.0)
NEWEST = 7
#: Each of these ways counts by its error to this power, inverted.
POWER = 4.0


class Bend(StrEnum):
    """What changed at a change point."""

    SLOPE = "slope"
    LEVEL = "level"


@dataclass(frozen=True, slots=True)
class TrendChange:
    """A change that the trend assumes from `t_ms` on.

    Of the slope: what it was and became a week. Of the level: where the trend stood and then stood.
    """

    t_ms: int
    kind: Bend
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The next days or weeks: all (horizon,), `lower <= value <= upper`.

    `slope` is the trend's change a week at the end of the history, `growth` the same as a share of
    its level (0 where that is 0), `since_ms` when it last bent or jumped, or the history's begin;
    `changes` are all those assumed. `past_t_ms` and `trend` (n,) are the trend behind the history,
    without the days of the week. `error` is the mean absolute error in the backtest.
    """

    t_ms: Integers
    value: Array
    lower: Array
    upper: Array
    slope: float
    growth: float
    since_ms: int
    changes: list[TrendChange]
    past_t_ms: Integers
    trend: Array
    error: float


class _Knot(NamedTuple):
    """From row `at` on the trend has another slope, or another level."""

    at: int
    kind: Bend


class _Line(NamedTuple):
    """A fitted trend (n,), its last slope a row, weekday effects (7,), and its knots."""

    trend: Array
    slope: float
    week: Array
    knots: list[_Knot]


def outlook(
    t_ms: Integers, values: Array, horizon: int = 28, level: float = 0.9, total: bool = False
) -> Outlook:
    """The trend of timestamps (n,), ascending milliseconds, and values (n,), `horizon` days ahead.

    Finer series are seen by day, as means or, with `total`, sums, and only by whole days; a series
    of weeks by week. Raises ValueError with fewer than `ROWS_MIN` of them.
    """
    t, x, step = _by_day(t_ms, values, total)
    if len(x) < ROWS_MIN:
        raise ValueError(f"values: {len(x)} whole days (or weeks), a trend needs {ROWS_MIN}")
    per_week = max(1, round(7 * DAY_MS / step))
    first = int(t[0] // step)
    views = [View.of(x, log) for log in sorted({False, has_logarithms(x)})]
    tried = [_backtest(view.see(x), first, per_week, horizon) for view in views]
    sizes = [one.error(view) for one, view in zip(tried, views, strict=True)]
    error = min(sizes)
    test, view = tried[sizes.index(error)], views[sizes.index(error)]
    low, high = Widths().fit(test.errors, horizon).sides(level)
    y = view.see(x)
    line = _fit(y, first, per_week)
    path = _ahead(y, line, first, test.slope_kept, test.miss_kept)
    floor = 0.0 if float(x.min()) >= 0 else -np.inf
    value, lower, upper = (np.maximum(view.back(path + away), floor) for away in (0.0, low, high))
    trend = view.back(line.trend)
    slope = float(view.back(line.trend[-1:] + per_week * line.slope)[0] - trend[-1])
    knots = sorted(line.knots)
    return Outlook(
        t[-1] + step * np.arange(1, horizon + 1, dtype=np.int64),
        value,
        np.minimum(lower, value),
        np.maximum(upper, value),
        slope,
        slope / abs(float(trend[-1])) if trend[-1] else 0.0,
        int(t[knots[-1].at]) if knots else int(t[0]),
        [_told(knot, t, trend, per_week) for knot in knots],
        t,
        trend,
        error,
    )


def _by_day(t_ms: Integers, values: Array, total: bool) -> tuple[Integers, Array, int]:
    """Times, values, and their step, of whole days or weeks without gaps; the newest of them."""
    finite = np.isfinite(values)
    t, x = t_ms[finite], values[finite]
    if len(t) < 2:
        return t, x, DAY_MS
    grid = Grid.learn(t)
    if grid.step_ms >= DAY_MS:
        laid = grid.lay(t, x)
        times = grid.times(laid.first, len(laid.y))
        return times[-ROWS_MOST:], laid.y[-ROWS_MOST:], grid.step_ms
    day = t // DAY_MS
    starts = np.flatnonzero(np.diff(day, prepend=day[0] - 1))
    counts = np.diff(starts, append=len(t))
    sums = np.add.reduceat(x, starts)
    whole = counts >= WHOLE * median(counts.astype(np.float64))
    if not whole.any():
        return t[:0], x[:0], DAY_MS
    summed = sums if total else sums / counts
    laid = Grid(DAY_MS, 0).lay(day[starts][whole] * DAY_MS, summed[whole])
    times = (laid.first + np.arange(len(laid.y), dtype=np.int64)) * DAY_MS
    return times[-ROWS_MOST:], laid.y[-ROWS_MOST:], DAY_MS


def _fit(y: Array, first: int, per_week: int) -> _Line:
    """The trend of values (n,) whose first has row index `first`."""
    n = len(y)
    plain = _design(n, [], first, per_week)
    clean = _without_freaks(y)
    places = range(APART, n - APART + 1, max(EVERY, n // PLACES))
    candidates = [_Knot(at, kind) for at in places for kind in Bend]
    at = np.array([knot.at for knot in candidates], np.int64)
    columns = np.array([_column(knot, n) for knot in candidates]).T.reshape(n, -1)
    every = np.column_stack((plain, columns, clean))
    products = every.T @ every
    kept: list[int] = []
    best, picks = _criterion(clean - _fitted(plain, clean), 0), list[int]()
    for _ in range(min(CHANGES, n // ROWS_EACH)):
        # the last one is the new one; those before may find a better place beside it
        for other in [-1, *picks]:
            rest = [pick for pick in picks if pick != other]
            free = np.all(np.abs(at[:, None] - at[rest]) >= APART, axis=1)
            if not free.any():
                break
            picks = [*rest, _best_column(products, plain.shape[1], rest, free)]
        design = np.column_stack((plain, columns[:, picks]))
        score = _criterion(clean - _fitted(design, clean), len(picks))
        if score < best:
            best, kept = score, picks
        elif len(picks) > len(kept) + PATIENCE:
            break
    knots = [candidates[pick] for pick in kept]
    design = _design(n, knots, first, per_week)
    weights = _robust(design, y)
    # the columns: level, slope, one of each knot, weekdays
    bent = 2 + len(knots)
    trend = design[:, :bent] @ weights[:bent]
    slope = weights[1] + sum(
        w for w, knot in zip(weights[2:bent], knots, strict=True) if knot.kind is Bend.SLOPE
    )
    week = np.zeros(7)
    if design.shape[1] > bent:
        week[:6] = weights[bent:]
        week[6] = -weights[bent:].sum()
    return _Line(trend, float(slope) / n, week, knots)


def _column(knot: _Knot, n: int) -> Array:
    away = np.arange(n) - knot.at
    if knot.kind is Bend.SLOPE:
        return np.asarray(np.maximum(away + 1.0, 0.0) / n)
    return np.asarray((away >= 0) * 1.0)


def _design(n: int, knots: list[_Knot], first: int, per_week: int) -> Array:
    """Columns (n, p): level, slope, knots, and six weekdays against the seventh."""
    rows = np.arange(n)
    columns = [np.ones(n), rows / n, *(_column(knot, n) for knot in knots)]
    if per_week == 7 and n >= 3 * per_week:
        place = (first + rows) % 7
        columns += [(place == day) * 1.0 - (place == 6) for day in range(6)]
    return np.array(columns).T


def _fitted(design: Array, y: Array) -> Array:
    return np.asarray(design @ np.linalg.lstsq(design, y, rcond=None)[0])


def _best_column(products: Array, plain: int, picks: list[int], free: Flags) -> int:
    """The free candidate that explains most of what others leave over.

    `products` (p, p) are those of all columns with each other: `plain` ones, the candidates, y.
    """
    known = np.array([*range(plain), *(plain + pick for pick in picks)])
    block = products[np.ix_(known, known)]
    block.flat[:: len(known) + 1] *= 1.0 + 1e-9
    weights = np.linalg.solve(block, products[known])
    candidates = slice(plain, -1)
    left = products[candidates, -1] - products[candidates, known] @ weights[:, -1]
    whole = np.diagonal(products)[candidates]
    size = whole - (products[candidates, known] * weights[:, candidates].T).sum(axis=1)
    gain = left**2 / np.maximum(size, 1e-12)
    return int(np.where(free & (size > 1e-5 * whole), gain, -1.0).argmax())


def _criterion(errors: Array, knots: int) -> float:
    """Schwarz's criterion of errors (n,) that follow each other, without the freaks among them."""
    n = len(errors)
    weight = float(errors[:-1] @ errors[1:]) / max(float(errors @ errors), 1e-12)
    new = errors[1:] - min(max(weight, 0.0), 0.98) * errors[:-1]
    squares = winsorised_mean(new**2, 0.95) + 1e-9
    return n * float(np.log(squares)) + COST * knots * float(np.log(n))


def _without_freaks(y: Array) -> Array:
    """Values (n,), those far from the rows around them brought near."""
    around = sliding_window_view(np.pad(y, AROUND // 2, mode="edge"), AROUND)
    middle: Array = np.asarray(np.median(around, axis=1), np.float64)
    away = y - middle
    limit = CLIP * (1.25 * winsorised_mean(np.abs(away), 0.9) + 1e-9)
    return np.asarray(middle + np.clip(away, -limit, limit), np.float64)


def _robust(design: Array, y: Array) -> Array:
    """Weights of columns (n, p) for which large errors count less."""
    root = np.ones(len(y))
    weights: Array = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        weights = np.asarray(np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0])
        error = np.abs(y - design @ weights)
        limit = HUBER * winsorised_mean(error, 0.9) + 1e-9
        root = np.sqrt(limit / np.maximum(error, limit))
    return np.asarray(weights)


class _Tried(NamedTuple):
    """Forecasts of the past: truth and errors (moments, steps).

    `slope_kept` and `miss_kept` (horizon,): how often the last slope, and how much of how far the
    newest rows lie from the trend, are in the forecast of a step.
    """

    slope_kept: Array
    miss_kept: Array
    truth: Array
    errors: Array

    def error(self, view: View) -> float:
        """Mean absolute error in values."""
        away = view.back(self.truth) - view.back(self.truth - self.errors)
        return float(np.abs(away).mean())


def _ahead(y: Array, line: _Line, first: int, slope_kept: Array, miss_kept: Array) -> Array:
    """Values (horizon,) after those that a line was fitted to."""
    n, horizon = len(y), len(slope_kept)
    season = line.week[(first + np.arange(n + horizon)) % 7]
    miss = median((y - line.trend - season[:n])[-NEWEST:])
    return np.asarray(line.trend[-1] + line.slope * slope_kept + miss * miss_kept + season[n:])


def _backtest(y: Array, first: int, per_week: int, horizon: int) -> _Tried:
    """What should stay of slope and miss: each way counts by how it would have done."""
    n = len(y)
    steps = max(1, min(horizon, n // 3))
    begin = max(ROWS_MIN - 7, n // 3)
    ends = np.unique(np.linspace(begin, n - steps, ORIGINS).round().astype(np.int64)).tolist()
    lines = [_fit(y[:end], first, per_week) for end in ends]
    truth = np.array([y[end : end + steps] for end in ends])

    def errors(slope: Array, miss: Array) -> Array:
        ways = slope[:steps], miss[:steps]
        paths = [_ahead(y[:e], line, first, *ways) for e, line in zip(ends, lines, strict=True)]
        return truth - np.array(paths)

    far = np.arange(1, horizon + 1)
    slopes = np.array([np.cumsum(kept**far) for kept in SLOPE_KEPT for _ in MISS_KEPT])
    misses = np.array([kept**far for _ in SLOPE_KEPT for kept in MISS_KEPT])
    sizes = np.array([np.abs(errors(*way)).mean() for way in zip(slopes, misses, strict=True)])
    weights = (sizes.min() / np.maximum(sizes, 1e-9)) ** POWER if sizes.min() > 0 else sizes == 0
    weights = weights / weights.sum()
    slope, miss = weights @ slopes, weights @ misses
    return _Tried(slope, miss, truth, errors(slope, miss))


def _told(knot: _Knot, t: Integers, trend: Array, per_week: int) -> TrendChange:
    """A knot in terms of values."""
    at = knot.at
    if knot.kind is Bend.LEVEL:
        before, after = float(trend[at - 1]), float(trend[at])
    else:
        reach = min(per_week, APART // 2)
        scale = per_week / reach
        before = float(trend[at - 1] - trend[at - 1 - reach]) * scale
        after = float(trend[at - 1 + reach] - trend[at - 1]) * scale
    return TrendChange(int(t[at]), knot.kind, before, after)
