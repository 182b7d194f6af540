"""Shape novelty of many series, from cells that are kept and grow by one every few values."""

import numpy as np

from models.bank_features import FeatureStates
from models.bank_members import Calibrations
from models.base import Array, Flags, Integers
from models.shape import STRETCHES, Cells, Shape, Stretch

#: Cells that have room at first, beside those that are remembered.
ROOM = 64


class _Stretches:
    """The cells of up to `size` series for one kind of stretch, at most `most` of each."""

    def __init__(self, size: int, most: int, kind: Stretch) -> None:
        self.step, self.width, self.extreme, self.memory = (
            kind.step,
            kind.width,
            kind.extreme,
            kind.most,
        )
        self._cells = np.zeros((size, most))
        self._squares = np.zeros((size, most))
        self.count = np.zeros(size, np.int64)
        self._centre = np.zeros(size)
        self._mean = np.zeros(size)

    def put(self, row: int, stretch: Stretch, new: Cells) -> None:
        """Take in what is remembered of one series, and its cells since."""
        known = np.concatenate((stretch.values_, new.values))
        n = len(known)
        self._centre[row] = float(np.median(known)) if n else 0.0
        self._cells[row, :n] = known - self._centre[row]
        if n >= self.width:
            squares = np.convolve(self._cells[row, :n] ** 2, np.ones(self.width), "valid")
            self._squares[row, : len(squares)] = squares
        self.count[row] = n
        self._mean[row] = new.mean

    def distance(self, rows: Integers, x: Array) -> Array:
        """Distance of the stretch that ends with a new cell of values x (n, step), taken in."""
        value = means = x.mean(axis=1)
        if self.extreme:
            running = self._mean[rows] = (self._mean[rows] + means) / 2
            high, low = x.max(axis=1), x.min(axis=1)
            value = np.where(np.abs(high - running) >= np.abs(low - running), high, low)
        place = self.count[rows]
        self._cells[rows, place] = value - self._centre[rows]
        self.count[rows] += 1
        begin = np.maximum(place - self.width + 1, 0)
        newest = self._cells[rows[:, None], begin[:, None] + np.arange(self.width)]
        self._squares[rows, begin] = (newest * newest).sum(axis=1)
        known = place >= 2 * self.width + 1
        first = np.maximum(place - self.memory - self.width + 1, 0)
        last = place - 2 * self.width + 1
        best = np.zeros(len(rows), np.int64)
        wanted = zip(
            np.flatnonzero(known).tolist(),
            rows[known].tolist(),
            first[known].tolist(),
            last[known].tolist(),
            strict=True,
        )
        for number, row, a, b in wanted:
            squares = np.correlate(self._cells[row, a : b + self.width], newest[number])
            squares *= -2.0
            squares += self._squares[row, a : b + 1]
            best[number] = a + squares.argmin()
        away = newest - self._cells[rows[:, None], best[:, None] + np.arange(self.width)]
        return np.where(known, np.sqrt((away * away).sum(axis=1) / self.width), 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        stacked = (self._cells, self._squares, self.count, self._centre, self._mean)
        return sum(array.nbytes for array in stacked)


class ShapeStates:
    """Stretches of up to `size` series, each with room for about `cells` of the smallest cells."""

    def __init__(self, size: int, cells: int) -> None:
        kinds = [Stretch(*each) for each in STRETCHES]
        smallest = min(kind.step for kind in kinds)
        rooms = [cells * smallest // kind.step + ROOM for kind in kinds]
        self._stretches = [
            _Stretches(size, room, kind) for room, kind in zip(rooms, kinds, strict=True)
        ]
        self._rooms = rooms
        self._calibrations = Calibrations(size, len(kinds))
        self._last = np.zeros((size, len(kinds)))

    @staticmethod
    def needs(shape: Shape, new: list[Cells]) -> int:
        """Cells of the smallest kind that a series brings."""
        kinds = zip(shape.stretches, new, strict=True)
        smallest = min(kind.step for kind in shape.stretches)
        return max(
            (len(kind.values_) + len(cells.values)) * kind.step // smallest for kind, cells in kinds
        )

    def put(self, row: int, shape: Shape, new: list[Cells]) -> None:
        """Take in what is remembered of one series, and its cells since."""
        kinds = zip(self._stretches, shape.stretches, new, strict=True)
        for number, (own, stretch, cells) in enumerate(kinds):
            own.put(row, stretch, cells)
            self._calibrations.put(row, number, stretch.calibrator_)
            surprises = cells.surprises
            self._last[row, number] = surprises[-1] if len(surprises) else stretch.last_

    def step(self, rows: Integers, index: Integers, values: FeatureStates) -> Array:
        """Surprise of each series in `rows` (n,), the newest of `values` being that at `index`."""
        for number, own in enumerate(self._stretches):
            due = rows[(index + 1) % own.step == 0]
            if len(due):
                distance = own.distance(due, values.newest(due, own.step).T)
                self._last[due, number] = self._calibrations.surprise(
                    due, distance[:, None], number
                )[:, 0]
        return np.asarray(self._last[rows].mean(axis=1))

    def full(self, rows: Integers, coming: Integers) -> Flags:
        """Which of `rows` (n,) have no room for the cells of so many more values."""
        full = np.zeros(len(rows), np.bool_)
        for own, room in zip(self._stretches, self._rooms, strict=True):
            full |= own.count[rows] + coming // own.step + 1 > room
        return full

    @property
    def nbytes(self) -> int:
        """Bytes of the whole state."""
        return (
            sum(own.nbytes for own in self._stretches)
            + self._calibrations.nbytes
            + self._last.nbytes
        )
