"""Irregular timestamps to a regular grid, and back.

Short gaps repeat the last value, longer ones take the day before: a gap must not look like news.
"""

from dataclasses import dataclass

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, Integers

DAY_MS = 86_400_000
#: Gaps of at most so many cells repeat the last value.
SHORT_GAP = 3
#: Cells that a row may stand from its own, if that is taken.
DRIFT = 2
#: Largest finite magnitude we calculate with; its square still fits a float64.
LARGEST = 1e150


@dataclass(frozen=True, slots=True)
class Laid:
    """Rows laid on a grid.

    `y` (n,) values without gaps, `seen` (n,) whether a sample is behind the cell, `first` the
    grid index of `y[0]`, `at` the cell of each row handed in, -1 for one that left no trace.
    """

    y: Array
    seen: Flags
    first: int
    at: Integers


@dataclass(frozen=True, slots=True)
class Grid:
    """Step in milliseconds, the time of index 0, and whether samples keep to the step.

    Samples of an irregular series (events, not measurements) take one cell each in order of
    time; such a series has no time of day.
    """

    step_ms: int
    origin_ms: int
    regular: bool = True

    @classmethod
    def learn(cls, t_ms: Integers) -> "Grid":
        """The grid of ascending timestamps (n,): their median positive difference.

        The origin is the median phase, so that jitter does not move samples between cells.
        """
        if len(t_ms) < 2:
            return cls(60_000, 0, len(t_ms) == 1)
        gaps = np.diff(t_ms)
        gaps = gaps[gaps > 0]
        step = _rounded(max(1, int(np.median(gaps)))) if len(gaps) else 60_000
        offset = (t_ms - t_ms[0] + step // 2) % step - step // 2
        origin = int(t_ms[0] + np.median(offset)) % step
        grid = cls(step, origin)
        # outages are no irregularity, however long: what counts is that one step usually follows
        regular = bool((np.diff(grid.index(t_ms)) == 1).mean() >= 0.6)
        return cls(step, origin, regular)

    @property
    def period(self) -> int:
        """Cells of a day; of a week if a cell is about a day; 0 where neither makes sense."""
        if not self.regular:
            return 0
        day = round(DAY_MS / self.step_ms)
        if day >= 2:
            return day
        return 7 if self.step_ms <= 1.5 * DAY_MS else 0

    def rows_in(self, seconds: float) -> int:
        """Cells that make up `seconds`, at least one."""
        return max(1, round(seconds * 1000 / self.step_ms))

    def index(self, t_ms: Integers) -> Integers:
        """Grid index of each timestamp."""
        return np.asarray((t_ms - self.origin_ms + self.step_ms // 2) // self.step_ms, np.int64)

    def lay(self, t_ms: Integers, values: Array, longest_gap: int = 4096) -> Laid:
        """Rows (n,) of ascending time on the grid; values that are not finite count as missing.

        Gaps beyond `longest_gap` cells are shortened by whole periods, so that the time of day
        stays right and a year of silence costs nothing. A row whose cell is taken goes to the next
        one; the first of a cell stays. Where a row goes does not depend on those after it.
        """
        finite = np.isfinite(values)
        at = np.full(len(t_ms), -1, np.int64)
        if not finite.any():
            return Laid(np.zeros(0), np.zeros(0, np.bool_), 0, at)
        x = np.clip(values[finite], -LARGEST, LARGEST)
        index = np.maximum.accumulate(self.index(t_ms[finite]))
        if not self.regular:
            at[finite] = np.arange(len(x))
            return Laid(x, np.ones(len(x), np.bool_), 0, at)
        index = self._shorten(index, longest_gap)
        first = int(index[0])
        cell = _apart(_bounded(index - first, 4 * longest_gap))
        y = np.zeros(int(cell[-1]) + 1)
        seen = np.zeros(len(y), np.bool_)
        seen[cell] = True
        y[cell[::-1]] = x[::-1]  # of equal places the last assignment stays
        at[finite] = cell
        _fill(y, seen, self.period)
        return Laid(y, seen, first, at)

    def _shorten(self, index: Integers, longest: int) -> Integers:
        """End at the same index; leave whole periods out of long gaps."""
        period = max(self.period, 1)
        steps = np.diff(index)
        whole = np.maximum(steps - max(longest, period), 0) // period * period
        removed = np.append(np.cumsum(whole[::-1])[::-1], 0)
        return np.asarray(index + removed, np.int64)

    def times(self, first: int, count: int) -> Integers:
        """Milliseconds of `count` cells from index `first`."""
        return (first + np.arange(count, dtype=np.int64)) * self.step_ms + self.origin_ms

    def to_arrays(self) -> Arrays:
        """Three numbers."""
        return {"grid": np.array([self.step_ms, self.origin_ms, self.regular], np.int64)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> "Grid":
        """Back from `to_arrays`."""
        step, origin, regular = (int(v) for v in np.asarray(arrays["grid"], np.int64))
        return cls(step, origin, bool(regular))


def _rounded(step_ms: int) -> int:
    """The whole minutes or seconds that a step is meant to be, if it is nearly that."""
    for unit in (60_000, 1_000):
        whole = round(step_ms / unit) * unit
        if whole and abs(whole - step_ms) <= 0.02 * step_ms:
            return whole
    return step_ms


def _bounded(cell: Integers, margin: int) -> Integers:
    """Cells of rows (n,), one after the other from where there are far more cells than rows."""
    rows = np.arange(len(cell))
    sparse = np.flatnonzero(cell > 4 * rows + margin)
    if not len(sparse):
        return cell
    begin = int(sparse[0])
    last = int(cell[begin - 1]) if begin else -1
    return np.concatenate((cell[:begin], last + 1 + np.arange(len(cell) - begin)))


def _apart(cell: Integers) -> Integers:
    """Cells of rows (n,), each its own where that takes them at most `DRIFT` cells away."""
    rows = np.arange(len(cell))
    moved = rows + np.maximum.accumulate(cell - rows)
    far = np.flatnonzero(moved - cell > DRIFT)
    if not len(far):
        return np.asarray(moved)
    for row in range(int(far[0]), len(cell)):
        last = int(moved[row - 1])
        free = max(int(cell[row]), last + 1)
        moved[row] = free if free - cell[row] <= DRIFT else last
    return np.asarray(moved)


def _fill(y: Array, seen: Flags, period: int) -> None:
    """Fill the cells without a sample, in place; the first cell has one."""
    places = np.flatnonzero(seen)
    steps = np.diff(places)
    before = np.flatnonzero(steps > 1)
    for left, step in zip(places[before].tolist(), steps[before].tolist(), strict=True):
        gap, right = step - 1, left + step
        if gap <= SHORT_GAP or not period or left + 1 < period:
            y[left + 1 : right] = y[left]
            continue
        for start in range(left + 1, right, period):  # a day may come from a filled day
            stop = min(start + period, right)
            y[start:stop] = y[start - period : stop - period]
