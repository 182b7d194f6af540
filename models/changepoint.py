"""Change points: when did a series settle at another level, or begin to vary more or less?

Moving sums at several scales (Eichinger and Kirch, "A MOSUM procedure for the estimation of
multiple random change points", Bernoulli 2018; Cho and Kirch, "Two-stage data segmentation
permitting multiscale change points, heavy tails and dependence", Annals of the Institute of
Statistical Mathematics 2022), with two changes for metrics. Means are medians and interquartile
means, which must agree, so that spikes and short bursts move nothing. And a step is not compared
with what independent noise would do, but with all the steps that the series itself makes at the
same scale: memory, drift, rhythm and heavy tails make those large, and then a change has to be
larger still.

Works for levels that hold for twelve rows or more, found once so many have passed. Blind to slow
drift, to what changes more often than it stays, and to a step that comes at the same hour each
day or week, which is rhythm.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, Integers
from models.grid import DAY_MS, LARGEST
from models.pattern import day_of, without_pattern
from models.robust import winsorised_mean

#: Rows on either side of a step, and so many positions of a window within its length.
SCALES = (12, 24, 48, 96, 192, 384)
STEPS = 6
#: Rows that are looked at; of longer series each is the median of some.
ROWS_MOST = 12_288
#: A scale needs so many windows, as many before the first step that can be told as after.
WINDOWS_LEAST = 8
#: Deviations of the series' usual steps that a change has, and of its residuals.
STRENGTH, EFFECT = 5.0, 1.0
#: Steps as large as others at their scale are the series' habit, if there are more than so many.
RARE, HABIT = 4, 4.0
#: Spread: shortest scale, strength, and by which factor it changes at least.
SPREAD_ROWS, SPREAD_STRENGTH, SPREAD_FACTOR = 48, 6.0, 2.0
#: What returns within so many rows, or within three days, was an episode (or a weekend).
EPISODE_ROWS, EPISODE_MS = 24, 3 * DAY_MS
#: Rows on either side that tell the levels.
REACH = 400


class Kind(StrEnum):
    """What changed."""

    LEVEL = "level"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """From `t_ms`, the first row of the new, on: `before` and `after` are medians of the values
    without their daily pattern, or deviations where the spread changed. `strength` is the size of
    the step in deviations of the steps that the series makes otherwise."""

    t_ms: int
    kind: Kind
    before: float
    after: float
    strength: float


class _Step(NamedTuple):
    """A step of the reduced series: new from row `at` on, seen by windows of `width` rows.

    `rhythm`: the like came at the same time on another day or in another week.
    """

    at: int
    width: int
    size: float
    strength: float
    rhythm: bool


def change_points(t_ms: Integers, values: Array) -> list[ChangePoint]:
    """Change points of timestamps (n,), ascending milliseconds, and values (n,), oldest first.

    Values that are not finite are left out. What is told of a prefix of a series uses nothing
    beyond it: asked again as rows come, this is the online detector (`latest`).
    """
    finite = np.isfinite(values)
    t, x = t_ms[finite], np.clip(values[finite], -LARGEST, LARGEST)
    if len(x) < WINDOWS_LEAST * SCALES[0]:
        return []
    unit = float(np.abs(x).max())
    if unit == 0.0 or float(x.min()) == float(x.max()):
        return []
    day = day_of(t)
    x = without_pattern(x / unit, t, day)
    block = -(-len(x) // ROWS_MOST)
    begin = len(x) % block
    reduced = np.median(x[begin:].reshape(-1, block), axis=1) if block > 1 else x
    scan = _Scan(reduced, max(1, day // block) if day else 0)
    shifts = _levels(scan.levels(), x, begin, block)
    levels = _lasting(shifts, t, x, EFFECT * scan.unit)
    bounds = [0, *(step.at for step in levels), len(x)]
    found = []
    for number, step in enumerate(levels):
        before, after = _around(x, step.at, bounds[number], bounds[number + 2])
        found.append(_named(t, step, Kind.LEVEL, unit * before, unit * after))
    for step in _settled(scan.spreads(), reduced, t[begin::block]):
        at, width = begin + step.at * block, step.width * block
        if all(abs(at - shift.at) > 2 * max(width, shift.width) for shift in shifts):
            before, after = _deviation(x[at - width : at]), _deviation(x[at : at + width])
            found.append(_named(t, step._replace(at=at), Kind.SPREAD, unit * before, unit * after))
    return sorted(found, key=lambda point: point.t_ms)


def latest(t_ms: Integers, values: Array, since_ms: int, rows: int = 2048) -> ChangePoint | None:
    """The newest change of level at or after `since_ms`, by the newest `rows` of (n,).

    Causal: call it as rows come. A shift of three deviations of independent noise is known after
    at most two dozen rows.
    """
    found = change_points(t_ms[-rows:], values[-rows:])
    levels = [p for p in found if p.kind is Kind.LEVEL and p.t_ms >= since_ms]
    return levels[-1] if levels else None


class _Scan:
    """Steps of values (n,) of size one at most; `day` in rows, 0 if there is none."""

    def __init__(self, x: Array, day: int) -> None:
        self._x, self._day = x, day
        self._sorted: dict[int, tuple[Integers, Array]] = {}
        parts = x[: len(x) // 12 * 12].reshape(-1, 12)
        away = np.abs(parts - np.median(parts, axis=1)[:, None]).ravel()
        #: Usual deviation about the local level.
        self.unit = max(1.25 * winsorised_mean(away), 1e-9)

    def levels(self) -> list[_Step]:
        """Steps of the level, in order of time."""
        found: list[_Step] = []
        for width in self._widths():
            starts, windows = self._windows(width)
            quarter, twelfth = width // 4, width // 12
            local = windows[:, width - quarter - 1] - windows[:, quarter]
            local = np.maximum(local[STEPS:], local[:-STEPS])
            uneven = np.maximum(local / max(_median(local), 1e-12), 1.0)
            floor = self.unit * np.sqrt(2.0 / width)
            # of three estimates of the level the most doubtful counts; most need but one
            moves = _moves((windows[:, (width - 1) // 2] + windows[:, width // 2]) / 2)
            strength = _strength(moves / uneven, floor, STRENGTH)
            for cut in (quarter, twelfth):
                if strength is None:
                    break
                moves = _moves(windows[:, cut : width - cut].mean(axis=1))
                other = _strength(moves / uneven, floor, STRENGTH)
                strength = None if other is None else _lesser(strength, other)
            if strength is not None:
                steps = self._peaks(starts, strength, moves, width, STRENGTH, EFFECT * self.unit)
                found += [step for step in steps if self._abrupt(step)]
        return _distinct(found)

    def spreads(self) -> list[_Step]:
        """Steps of the logarithm of the mean deviation, in order of time."""
        found: list[_Step] = []
        for width in self._widths():
            if width >= SPREAD_ROWS:
                starts, windows = self._windows(width)
                middle = windows[:, width // 2, None]
                inner = np.abs(windows - middle)[:, width // 12 : width - width // 12]
                moves = _moves(np.log(inner.mean(axis=1) + 0.05 * self.unit))
                strength = _strength(moves, 1.5 / np.sqrt(width), SPREAD_STRENGTH)
                if strength is None:
                    continue
                least = float(np.log(SPREAD_FACTOR))
                found += self._peaks(starts, strength, moves, width, SPREAD_STRENGTH, least)
        return [step for step in _distinct(found) if not step.rhythm]

    def _widths(self) -> list[int]:
        return [width for width in SCALES if len(self._x) >= WINDOWS_LEAST * width]

    def _windows(self, width: int) -> tuple[Integers, Array]:
        """First rows of windows, the last of which ends with the series, and their sorted rows."""
        if width not in self._sorted:
            stride = width // STEPS
            starts = np.arange((len(self._x) - width) % stride, len(self._x) - width + 1, stride)
            windows = np.sort(sliding_window_view(self._x, width)[starts], axis=1)
            self._sorted[width] = starts, windows
        return self._sorted[width]

    def _peaks(
        self,
        starts: Integers,
        strength: Array,
        moves: Array,
        width: int,
        strong: float,
        least: float,
    ) -> list[_Step]:
        """Steps at one scale that are `strong` and whose moves have `least` size."""
        return [
            _Step(
                int(starts[peak]) + width,
                width,
                float(moves[peak]),
                float(abs(strength[peak])),
                self._rhythm(strength, peak, width),
            )
            for peak in _tops(np.abs(strength)).tolist()
            if abs(strength[peak]) >= strong and abs(moves[peak]) >= least
        ]

    def _rhythm(self, strength: Array, peak: int, width: int) -> bool:
        stride, sign, half = width // STEPS, np.sign(strength[peak]), abs(strength[peak]) / 2
        for lag in (self._day, 7 * self._day):
            away = round(lag / stride)
            if away <= 2 * STEPS:
                continue
            for place in (peak - away, peak + away):
                near = strength[max(0, place - 1) : max(0, place + 2)]
                if len(near) and float((sign * near).max()) >= half:
                    return True
        return False

    def _abrupt(self, step: _Step) -> bool:
        """Whether a step explains the rows around it better than a straight line."""
        x = self._x[step.at - step.width : step.at + step.width]
        middle = float(np.median(x))
        reach = abs(step.size) + 3 * self.unit
        x = np.clip(x - middle, -reach, reach)
        left, right = x[: step.width], x[step.width :]
        stepped = float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())
        ramp = np.arange(len(x)) - (len(x) - 1) / 2
        x = x - x.mean()
        sloped = float((x**2).sum() - (ramp @ x) ** 2 / (ramp @ ramp))
        return stepped < sloped


def _median(values: Array) -> float:
    """The upper median of values (n,): np.median takes longer than all else."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def _moves(levels: Array) -> Array:
    """Each window against the one before it, less what is usual, such as a steady trend."""
    moves = levels[STEPS:] - levels[:-STEPS]
    return np.asarray(moves - _median(moves))


def _strength(moves: Array, floor: float, strong: float) -> Array | None:
    """Moves (n,) in units of those that the series makes all the time, or again and again.

    None if none of them is `strong`.
    """
    size = np.abs(moves)
    scale, largest = max(1.4826 * _median(size), floor), float(size.max())
    if largest < strong * scale:
        return None
    ordered = np.sort(size[_tops(size)])
    if len(ordered) > RARE:
        scale = max(scale, float(ordered[-1 - RARE]) / HABIT)
    return None if largest < strong * scale else moves / scale


def _lesser(one: Array, other: Array) -> Array:
    """The smaller of two strengths (n,), 0 where their signs differ."""
    smaller = np.sign(one) * np.minimum(np.abs(one), np.abs(other))
    return np.where(one * other > 0, smaller, 0.0)


def _tops(size: Array) -> Integers:
    """Places of the largest of (n,) within a window's length, the first of equal ones."""
    padded = np.concatenate((np.zeros(STEPS), size, np.zeros(STEPS)))
    highest = sliding_window_view(padded, 2 * STEPS + 1).max(axis=1)
    tops = np.flatnonzero((size >= highest) & (size > 0))
    return np.asarray(tops[np.diff(tops, prepend=-STEPS) >= STEPS], np.int64)


def _distinct(steps: list[_Step]) -> list[_Step]:
    """The strongest of those that mean the same, in order of time."""
    kept: list[_Step] = []
    for step in sorted(steps, key=lambda s: (-s.strength, s.width)):
        for other in kept:
            apart = abs(step.at - other.at)
            same = step.size * other.size > 0
            if apart < (max if same else min)(step.width, other.width):
                break
        else:
            kept.append(step)
    return sorted(kept)


def _levels(steps: list[_Step], x: Array, begin: int, block: int) -> list[_Step]:
    """The steps at the row of `x` from which on the new level explains the values better."""
    found: list[_Step] = []
    for step in steps:
        at, width = begin + step.at * block, step.width * block
        first = max(at - width, found[-1].at + 1 if found else 1)
        window = x[first : at + width]
        old = np.median(x[max(0, at - 2 * width) : max(1, at - width // 2)][-width:])
        new = np.median(x[at + width // 2 : at + 2 * width][:width])
        gain = np.cumsum(np.abs(window - old) - np.abs(window - new))
        at = first + int(np.argmin(gain[:-1])) + 1
        if gain[0] > 0 and gain.min() > 0:
            at = first
        found.append(step._replace(at=at, width=width))
    return found


def _lasting(steps: list[_Step], t: Integers, x: Array, least: float) -> list[_Step]:
    """Without pairs that lead away and soon back, rhythm, and steps that the levels do not show."""
    steps = [step for step in _without_pairs(steps, t, x) if not step.rhythm]
    while steps:
        bounds = [0, *(step.at for step in steps), len(x)]
        sizes = []
        for number, step in enumerate(steps):
            before, after = _around(x, step.at, bounds[number], bounds[number + 2])
            moved = (after - before) * np.sign(step.size)
            sizes.append(moved / max(least, abs(step.size) / 2))
        weakest = int(np.argmin(sizes))
        if sizes[weakest] >= 1.0:
            break
        del steps[weakest]
    return steps


def _without_pairs(steps: list[_Step], t: Integers, x: Array) -> list[_Step]:
    kept: list[_Step] = []
    bounds = [*(step.at for step in steps), len(x)]
    for number, step in enumerate(steps):
        if kept:
            last = kept[-1]
            soon = t[step.at] - t[last.at] <= EPISODE_MS or step.at - last.at <= EPISODE_ROWS
            start = kept[-2].at if len(kept) > 1 else 0
            old, between = _around(x, last.at, start, step.at)
            new = float(np.median(x[step.at : bounds[number + 1]][:REACH]))
            known = step.rhythm and not last.rhythm  # that goes with another
            if soon and not known and abs(new - old) < abs(between - old) / 2:
                kept.pop()
                continue
        kept.append(step)
    return kept


def _around(x: Array, at: int, start: int, stop: int) -> tuple[float, float]:
    """Levels on both sides of a row, within bounds."""
    before, after = x[max(start, at - REACH) : at], x[at : min(stop, at + REACH)]
    return float(np.median(before)), float(np.median(after))


def _named(t: Integers, step: _Step, kind: Kind, before: float, after: float) -> ChangePoint:
    return ChangePoint(int(t[step.at]), kind, before, after, step.strength)


def _settled(steps: list[_Step], x: Array, t: Integers) -> list[_Step]:
    """Steps of the spread that hold, and that the rows between them show."""
    bounds = [0, *(step.at for step in steps), len(x)]
    found: list[_Step] = []
    for number, step in enumerate(steps):
        start, stop = bounds[number], bounds[number + 2]
        before = _deviation(x[max(start, step.at - REACH) : step.at])
        after = _deviation(x[step.at : min(stop, step.at + REACH)])
        if max(before, after) < SPREAD_FACTOR * min(before, after) or min(before, after) <= 0:
            continue
        if found and found[-1].size * step.size < 0 and t[step.at] - t[found[-1].at] <= EPISODE_MS:
            found.pop()
        else:
            found.append(step)
    return found


def _deviation(x: Array) -> float:
    low, high = np.quantile(x, [0.25, 0.75])
    return float(high - low) / 1.349
