"""Shape novelty: has this course of values been seen before?

The newest few down-sampled values are compared with every earlier stretch of the same length; the
distance to the nearest is high for a shape that is new. It is what a matrix profile looks for
(Yeh et al., "Matrix Profile I", ICDM 2016), only backwards and without normalising.

Works where patterns repeat; blind to what was seen before, useless where nothing ever repeats.
"""

from functools import reduce
from typing import NamedTuple, Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, floats, nested, within
from models.calibration import TailCalibrator, Window
from models.past import Past
from models.robust import median, windows

#: Rows to a cell, cells to a stretch (at most 8), and whether a cell is its most extreme value.
STRETCHES = ((6, 8, True), (6, 8, False), (12, 4, True))
#: Rows that are remembered, are needed before anything is said, and that do not count at first.
HISTORY, WARM, SKIPPED = 20_000, 120, 10
#: Of distances: their tails are lighter than those of other scores.
PRIOR, WEIGHT = 0.15, 5.0


class Cells(NamedTuple):
    """New cells of a series: their value, distance to the nearest stretch like theirs, surprise.

    `until` is the number of the last, `mean` the running mean of cells there.
    """

    values: Array
    distances: Array
    surprises: Array
    until: int
    mean: float


class Stretch:
    """Distance of the last `width` cells of `step` rows each to the nearest earlier ones."""

    def __init__(self, step: int, width: int, extreme: bool) -> None:
        self.step, self.width, self.extreme = step, width, extreme
        self.most = HISTORY // step
        self.values_ = np.zeros(0)
        self.until_: int | None = None
        self.mean_ = 0.0
        self.last_ = 0.0
        self.calibrator_: TailCalibrator | None = None
        self._distances = Window(self.most)
        self._cells = 0

    def surprise(self, past: Past, start: int, stop: int) -> tuple[Array, Cells]:
        """Surprise of past.x[start:stop], each of the last cell that is complete, and new cells."""
        first = -(-past.first // self.step)  # the first cell that is wholly there
        if self.until_ is not None:
            first = max(first, self.until_ + 1)
        begin = first * self.step - past.first
        count = max(0, (stop - begin) // self.step)
        # how many of the cells are complete at each row
        done = np.arange(start + 1 - begin, stop + 1 - begin) // self.step
        which = np.minimum(np.maximum(done, 0), count)
        values, mean = self._summary(past.x[begin : begin + count * self.step])
        # only the cells that these rows show; the others are too long ago
        shown = max(0, int(which[0]) - 1) if start else 0
        distances = self._nearest(values, shown)
        surprises = np.zeros(count)
        if self.calibrator_ is not None:
            surprises = self.calibrator_.surprise(distances)
        each = np.concatenate(([self.last_], surprises))[which]
        return each, Cells(values, distances, surprises, first + count - 1, mean)

    def learn(self, new: Cells) -> None:
        """Take new cells in."""
        count = len(new.values)
        if not count:
            return
        self.until_, self.mean_, self.last_ = new.until, new.mean, float(new.surprises[-1])
        self.values_ = np.concatenate((self.values_, new.values))[-self.most - 2 * self.width :]
        counting = new.distances[max(0, SKIPPED // self.step + 1 - self._cells) :]
        self._cells += count
        if len(counting):
            self._distances.add(counting)
        if self._cells >= WARM // self.step:
            self.calibrator_ = TailCalibrator(PRIOR, WEIGHT).fit(self._distances.ordered)

    def replace(self, past: Past, rows: int) -> None:
        """Remember the newest `rows` rows, all of them learned, as `past` has them."""
        fresh = Stretch(self.step, self.width, self.extreme)
        _, cells = fresh.surprise(past, len(past) - 1, len(past))
        count = min(rows // self.step, len(self.values_), len(cells.values))
        if count:
            self.values_[-count:] = cells.values[-count:]
            self.mean_ = cells.mean
            if self.calibrator_ is not None:
                self.last_ = float(self.calibrator_.surprise(cells.distances[-1:])[0])

    def _summary(self, x: Array) -> tuple[Array, float]:
        """Value of each cell of x (cells * step,), and the running mean after the last."""
        rows = x.reshape(-1, self.step)
        means = rows.mean(axis=1)
        if not self.extreme or not len(rows):
            return means, self.mean_
        mean = self.mean_ if self.until_ is not None else float(x[0])
        running = np.empty(len(means))
        for place, value in enumerate(means.tolist()):
            mean = (mean + value) / 2
            running[place] = mean
        high, low = rows.max(axis=1), rows.min(axis=1)
        return np.where(np.abs(high - running) >= np.abs(low - running), high, low), mean

    def _nearest(self, values: Array, shown: int) -> Array:
        """Distance of the stretch that ends with each of `values`; 0 for those before `shown`."""
        found = np.zeros(len(values))
        known = np.concatenate((self.values_, values))
        place = np.arange(len(self.values_) + shown, len(known))
        place = place[place >= 2 * self.width + 1]
        if not len(place):
            return found
        low = max(0, int(place[0]) - self.most - self.width + 1)
        known = known[low:]
        stretches = windows(known, self.width)
        begin = place - self.width + 1 - low
        values = known - median(known)  # digits enough, whatever else was seen
        centred = np.ascontiguousarray(windows(values, self.width))
        near = centred[begin] @ centred.T  # see models.density.nearest
        near -= _sums(values * values, self.width) / 2
        last = begin - self.width  # later ones have cells in common
        late = int(last[0]) + 1
        near[:, late:][np.arange(late, len(stretches)) > last[:, None]] = -np.inf
        # products find the nearest, differences say how far: equal stretches are not apart
        away = stretches[begin] - stretches[near.argmax(axis=1)]
        found[place - len(self.values_)] = np.sqrt((away * away).sum(axis=1) / self.width)
        return found

    def to_arrays(self) -> Arrays:
        """The remembered cells and what distances are compared with."""
        until = -1 if self.until_ is None else self.until_
        arrays: Arrays = {
            "cells": self.values_,
            "until": np.array(until, np.int64),
            "last": np.array([self.mean_, self.last_]),
        }
        if self.calibrator_ is not None:
            arrays |= nested("calibrator", self.calibrator_.to_arrays())
        return arrays

    def restore(self, arrays: ArrayMap) -> None:
        """Back from `to_arrays`, to be asked, not to go on learning."""
        self.values_ = floats(arrays, "cells")
        until = int(np.asarray(arrays["until"], np.int64))
        self.until_ = None if until < 0 else until
        self.mean_, self.last_ = (float(v) for v in floats(arrays, "last"))
        own = within("calibrator", arrays)
        self.calibrator_ = TailCalibrator.from_arrays(own) if own else None


def _sums(values: Array, width: int) -> Array:
    """Sums of every `width` neighbours, 8 or fewer, of (n,): (n - width + 1,).

    In the order in which numpy adds up as many: which of equally near ones is found depends on it.
    """
    if width < 8:
        last = len(values) - width + 1
        return reduce(np.add, (values[lag : lag + last] for lag in range(width)))
    for lag in (1, 2, 4):
        values = values[:-lag] + values[lag:]
    return values


class Shape:
    """Mean surprise of several stretches."""

    def __init__(self) -> None:
        self.stretches = [Stretch(*each) for each in STRETCHES]

    def surprise(self, past: Past, start: int, stop: int) -> tuple[Array, list[Cells]]:
        """Surprise of past.x[start:stop] (stop - start,), and what `learn` takes."""
        found = [stretch.surprise(past, start, stop) for stretch in self.stretches]
        mean = reduce(np.add, (each for each, _ in found)) / len(found)
        return mean, [cells for _, cells in found]

    def learn(self, new: list[Cells]) -> None:
        """Take new cells in."""
        for stretch, cells in zip(self.stretches, new, strict=True):
            stretch.learn(cells)

    def replace(self, past: Past, rows: int) -> None:
        """Remember the newest `rows` rows, all of them learned, as `past` has them."""
        for stretch in self.stretches:
            stretch.replace(past, rows)

    def to_arrays(self) -> Arrays:
        """Everything learned."""
        arrays: Arrays = {}
        for number, stretch in enumerate(self.stretches):
            arrays |= nested(f"stretch{number}", stretch.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        shape = cls()
        for number, stretch in enumerate(shape.stretches):
            stretch.restore(within(f"stretch{number}", arrays))
        return shape
