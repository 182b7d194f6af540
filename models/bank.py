"""Detectors of many series, stacked: one call scores the newest value of each of thousands.

A `models.ensemble.Detector` judges its rows from thousands of rows of context, of which a single
new value changes little. A bank keeps that little for each series (running totals, decayed
errors, cells, the strengths that an alert must exceed) beside what was learned, in arrays over
all series of a kind, and says what `Detector.score` would, to rounding.

Works for series on a regular grid. `add` says of the others what it is asked, too, but does not
take them in; and it takes those in again that `step` has found out of step.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.bank_features import FeatureStates
from models.bank_members import Calibrations, Cores, Forests
from models.bank_rows import run
from models.bank_shape import ShapeStates
from models.base import Array, Flags, Integers
from models.calibration import probability
from models.density import CoreDistance
from models.ensemble import LARGEST_SCORE, Detector, Look, Scores
from models.features import FEATURES, LEAD, decaying
from models.forest import IsolationForest
from models.grid import DRIFT, LARGEST, SHORT_GAP
from models.members import DIRECT, LEARNING
from models.opinions import (
    BODY,
    CALIBRATED,
    ECHO,
    ECHO_SPAN,
    MEAN,
    MEANS,
    NOVELTY,
    PLACE,
    SURPRISES,
    agreed,
    composed,
)
from models.past import LARGEST as LARGEST_UNITS
from models.suppression import BASE, LARGEST_RARITY, MARGIN
from models.suppression import MEMORY as ALERT_MEMORY

#: Most series whose arrays lie together; the first of a kind are fewer, for memory comes in pages.
SLAB, SMALLEST = 1024, 16
#: Cells without a value that a step fills in; after more of them a series is added anew.
MISSING_MAX = 60
_WIDTH = len(FEATURES) + 1
_NEVER = int(np.iinfo(np.int64).min)


class Kind(NamedTuple):
    """What series must share to be stacked: rows of a day, and room for cells of shapes."""

    day: int
    cells: int


@dataclass(frozen=True, slots=True)
class Step:
    """`scores` of one new value of each of n series; where `stale` (n,) they are not known.

    A stale series was dropped: its value came too late, twice, or after a long gap.
    """

    scores: Scores
    stale: Flags


class _Columns(NamedTuple):
    """What is said about values (n,)."""

    score: Array
    alert: Array
    expected: Array
    lower: Array
    upper: Array


class _Slab:
    """Up to `size` series of a kind."""

    def __init__(self, kind: Kind, size: int) -> None:
        self.kind, self.size = kind, size
        self.free = list(range(size))[::-1]
        self._features = FeatureStates(size, kind.day)
        self._shapes = ShapeStates(size, kind.cells)
        self._cores: dict[str, Cores] = {}
        self._forests: dict[str, Forests] = {}
        for name, part in LEARNING.items():
            like = part.make(0)
            if isinstance(like, CoreDistance):
                self._cores[name] = Cores(size, like.rows, _WIDTH)
            elif isinstance(like, IsolationForest):
                self._forests[name] = Forests(size, like.trees, _depth(like.sample), _WIDTH)
        self._calibrations = Calibrations(size, len(CALIBRATED))
        # grid: step and origin in ms, cells of a period, the cell of the newest value, its time
        self._step = np.ones(size, np.int64)
        self._origin = np.zeros(size, np.int64)
        self._period = np.zeros(size, np.int64)
        self._cell = np.zeros(size, np.int64)
        self._time = np.full(size, _NEVER, np.int64)
        self._units = np.ones((size, 2))  # origin and size
        self._floor = np.zeros(size)
        self._middle = np.zeros(size)
        self._band = np.zeros((size, 2))
        self._alerts = np.ones((size, 2))
        self._body = np.zeros((size, BODY))
        self._means = np.zeros((size, LEAD))
        self._mean_place = np.zeros(size, np.int64)
        self._echo = np.zeros(size)
        self._strengths = np.zeros((ALERT_MEMORY, size))
        self._strength_place = np.zeros(size, np.int64)
        weights = decaying(ECHO_SPAN)
        self._weight, self._decay = float(weights[-1]), float(weights[-2] / weights[-1])

    def put(self, row: int, detector: Detector, look: Look, cell: int, t_ms: int) -> None:
        """Take a series in as it stands after `look`, in grid cell `cell`."""
        learned, past, block = detector.learned_, look.past, look.block
        if past is None or block is None:
            raise ValueError("look: there are no values")
        self._features.put(row, learned.features, past, block.rows)
        self._shapes.put(row, learned.shape, block.cells)
        members, calibrators = learned.opinions.members, learned.opinions.calibrators
        for name, cores in self._cores.items():
            member = members[name]
            if isinstance(member, CoreDistance):
                cores.put(row, member)
        for name, forests in self._forests.items():
            member = members[name]
            if isinstance(member, IsolationForest):
                forests.put(row, member)
        for column, name in enumerate(CALIBRATED):
            self._calibrations.put(row, column, calibrators.get(name))
        grid, units = detector.grid_, learned.units
        self._step[row], self._origin[row] = grid.step_ms, grid.origin_ms
        self._period[row], self._cell[row], self._time[row] = grid.period, cell, t_ms
        self._units[row] = units.origin, units.size
        lowest = units.apply(np.zeros(1))[0] if learned.lowest >= 0 else -np.inf
        self._floor[row] = lowest
        self._middle[row] = detector.middle
        self._band[row] = learned.band.low_, learned.band.high_
        self._alerts[row] = learned.alerts.rate_, learned.alerts.excess_
        self._body[row] = learned.joint.body_
        means = np.concatenate((np.zeros(LEAD), block.mean))[-LEAD:]
        self._means[row], self._mean_place[row] = means, LEAD - 1
        self._echo[row] = means @ decaying(ECHO_SPAN)
        strengths = np.concatenate((np.zeros(ALERT_MEMORY), block.judged.strength))
        self._strengths[:, row], self._strength_place[row] = strengths[-ALERT_MEMORY:], 0

    def step(self, rows: Integers, t_ms: Integers, values: Array) -> tuple[_Columns, Flags]:
        """One new value of each of `rows` (n,), in order: what is said, and where it cannot be."""
        if (rows[1:] == rows[:-1]).any():
            raise ValueError("keys: a series is named twice")
        known = np.isfinite(values)
        index = (t_ms - self._origin[rows] + self._step[rows] // 2) // self._step[rows]
        last = self._cell[rows]
        cell = np.maximum(index, last + 1)
        missing = np.where(known, cell - last - 1, 0)
        stale = known & ((cell - index > DRIFT) | (t_ms <= self._time[rows]))
        stale |= missing > MISSING_MAX
        stale |= known & self._shapes.full(rows, missing + 1)
        known &= ~stale
        for gone in range(1, int(missing[known].max(initial=0)) + 1):
            gap = known & (missing >= gone)
            self._judge(rows[gap], self._filling(rows[gap], missing[gap]), last[gap] + gone)
        middle = self._middle[rows]
        silent = np.zeros(len(rows))
        said = _Columns(silent, silent.copy(), middle, middle.copy(), middle.copy())
        if known.any():
            own = rows[known]
            origin, size = self._units[own].T
            x = np.clip(values[known], -LARGEST, LARGEST) / size - origin / size
            x = np.clip(x, -LARGEST_UNITS, LARGEST_UNITS)
            found = self._judge(own, x, cell[known])
            self._cell[own], self._time[own] = cell[known], t_ms[known]
            for column, judged in zip(said, found, strict=True):
                column[known] = judged
        return said, stale

    def _filling(self, rows: Integers, missing: Integers) -> Array:
        """What stands in the next cell of series in `rows` (n,) that miss so many, as on a grid."""
        filling = self._features.last(rows)
        period = self._period[rows]
        for lag in np.unique(period[(missing > SHORT_GAP) & (period > 0)]).tolist():
            of_day = (missing > SHORT_GAP) & (period == lag)
            filling[of_day] = self._features.before(rows[of_day], lag)
        return filling

    def _judge(self, rows: Integers, x: Array, index: Integers) -> _Columns:
        """What is said about values x (n,) in units, at grid indices (n,); they are taken in."""
        told = self._features.step(rows, x, index)
        novelty = self._shapes.step(rows, index, self._features)
        raw = np.empty((len(rows), len(CALIBRATED)))
        for column, name in enumerate(CALIBRATED):
            if name in DIRECT:
                raw[:, column] = np.abs(told.Z[:, PLACE[name]])
            else:
                stack = self._cores.get(name) or self._forests[name]
                raw[:, column] = stack.score(rows, LEARNING[name].view(told.Z, novelty))
        each = self._calibrations.surprise(rows, raw)
        columns = {name: each[:, column] for column, name in enumerate(CALIBRATED)}
        mean = agreed(np.stack(composed(columns), axis=1))
        joined = mean + ECHO * self._echoed(rows, mean)
        surprise = self._surprise(rows, joined)
        rarity = self._rarity(rows, MEAN * joined + NOVELTY * novelty)
        alert, speaks = np.zeros(len(rows)), rarity > 0
        alert[speaks] = np.clip(1.0 - probability(rarity[speaks]), 0.0, LARGEST_SCORE)
        lower = told.expected - self._band[rows, 0] * told.scale
        upper = told.expected + self._band[rows, 1] * told.scale
        lower = np.minimum(np.maximum(lower, self._floor[rows]), told.expected)
        return _Columns(
            np.clip(1.0 - probability(surprise), 0.0, LARGEST_SCORE),
            alert,
            self._restored(rows, told.expected),
            self._restored(rows, lower),
            self._restored(rows, np.maximum(upper, told.expected)),
        )

    def _echoed(self, rows: Integers, mean: Array) -> Array:
        """Decayed mean of the newest `LEAD` mean surprises, this one among them."""
        place = self._mean_place[rows] + 1
        place[place == LEAD] = 0
        gone = self._means[rows, place]
        self._means[rows, place] = mean
        self._mean_place[rows] = place
        echo = self._echo[rows] * self._decay
        echo += self._weight * (mean - self._decay**LEAD * gone)
        self._echo[rows] = echo
        return np.asarray(echo)

    def _surprise(self, rows: Integers, joined: Array) -> Array:
        """-log10 p of mean surprises (n,), by the map of each series."""
        n = len(rows)
        means = np.empty((len(MEANS) + 1, n))
        means[0], means[BODY + 1 :] = 0.0, MEANS[BODY:, None]
        means[1 : BODY + 1] = self._body[rows].T
        known = np.append(0.0, SURPRISES)
        place = np.clip((means <= joined).sum(axis=0) - 1, 0, len(MEANS) - 1)
        line = np.arange(n)
        left, right = means[place, line], means[place + 1, line]
        slope = (known[place + 1] - known[place]) / (right - left)
        inside = slope * (np.clip(joined, 0.0, MEANS[-1]) - left) + known[place]
        beyond = (SURPRISES[-1] - SURPRISES[-2]) / (MEANS[-1] - MEANS[-2])
        return np.asarray(inside + np.maximum(joined - MEANS[-1], 0.0) * beyond)

    def _rarity(self, rows: Integers, strength: Array) -> Array:
        """-log10 of the share of rows with alerts as strong, 0 for rows that do not speak."""
        before = self._strengths[:, run(rows)].max(axis=0)
        place = self._strength_place[rows]
        self._strengths[place, rows] = strength
        self._strength_place[rows] = (place + 1) % ALERT_MEMORY
        rate, excess = self._alerts[rows].T
        rarity = (strength - BASE) / excess / np.log(10.0) - np.log10(rate)
        speaks = (strength > MARGIN * before) & (strength > 0)
        return np.where(speaks, np.clip(rarity, 0.0, LARGEST_RARITY), 0.0)

    def _restored(self, rows: Integers, x: Array) -> Array:
        """Values (n,) in the units of their series."""
        origin, size = self._units[rows].T
        with np.errstate(over="ignore"):
            return np.asarray(np.nan_to_num(x * size + origin))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, whether in use or not."""
        own = sum(a.nbytes for a in vars(self).values() if isinstance(a, np.ndarray))
        own += self._features.nbytes + self._shapes.nbytes + self._calibrations.nbytes
        own += sum(cores.nbytes for cores in self._cores.values())
        return own + sum(forests.nbytes for forests in self._forests.values())


class Bank:
    """Detectors by key. One thread at a time."""

    def __init__(self) -> None:
        self._slabs: list[_Slab | None] = []
        #: Of each key, its slab's number times `SLAB`, plus its row.
        self._where: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._where

    def add(
        self, key: Hashable, detector: Detector, t_ms: Integers, values: Array, n_new: int = 0
    ) -> Scores:
        """Scores of the newest `n_new` of the rows (n,) as from `detector`, which stays if it can.

        The rows are the newest of a series, as for `Detector.score`; `step` goes on after them.
        """
        self.remove(key)
        finite = np.flatnonzero(np.isfinite(values))
        look = detector.look(t_ms, values, max(n_new, 1))
        scores = look.scores if n_new else _nothing()
        newest = int(t_ms[finite[-1]]) if len(finite) else None
        kind = self._kind(detector, look)
        if kind is None or newest is None or look.past is None:
            return scores
        cell = look.past.first + len(look.past) - 1
        ahead = cell - int(detector.grid_.index(np.array([newest]))[0])
        if not 0 <= ahead <= DRIFT:  # so sparse that cells stand for no time
            return scores
        number, slab = self._with_room(kind)
        row = slab.free[-1]
        try:
            slab.put(row, detector, look, cell, newest)
        except ValueError:  # a forest of another size
            return scores
        slab.free.pop()
        self._where[key] = number * SLAB + row
        return scores

    def remove(self, key: Hashable) -> None:
        """Forget a series, if it is here."""
        found = self._where.pop(key, None)
        if found is None:
            return
        number, row = divmod(found, SLAB)
        slab = self._slabs[number]
        if slab is not None:
            slab.free.append(row)
            if len(slab.free) == slab.size:
                self._slabs[number] = None

    def step(self, keys: Sequence[Hashable], t_ms: Integers, values: Array) -> Step:
        """Score one new value of each of the series `keys` (n,), which are here, each once.

        Values that are missing (NaN) score 0. Raises KeyError for a series that is not here.
        """
        n = len(keys)
        said = _Columns(*(np.zeros(n) for _ in _Columns._fields))
        stale = np.zeros(n, np.bool_)
        where = np.fromiter(map(self._where.__getitem__, keys), np.int64, n)
        order = np.argsort(where, kind="stable")  # memory is passed from its beginning to its end
        slabs, rows = np.divmod(where[order], SLAB)
        known, begin = np.unique(slabs, return_index=True)
        for which, place in zip(known.tolist(), np.split(order, begin[1:]), strict=True):
            slab = self._slabs[which]
            if slab is not None:
                own = rows[slabs == which]
                columns, lost = slab.step(own, t_ms[place], values[place])
                for column, part in zip(said, columns, strict=True):
                    column[place] = part
                stale[place] = lost
        for number in np.flatnonzero(stale).tolist():
            self.remove(keys[number])
        return Step(Scores(t_ms, *said), stale)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, whether in use or not."""
        return sum(slab.nbytes for slab in self._slabs if slab is not None)

    def _with_room(self, kind: Kind) -> tuple[int, _Slab]:
        """A slab for one more series of a kind, and its number."""
        for number, slab in enumerate(self._slabs):
            if slab is not None and slab.kind == kind and slab.free:
                return number, slab
        like = sum(slab is not None and slab.kind == kind for slab in self._slabs)
        slab = _Slab(kind, min(SLAB, SMALLEST * 4**like))
        if None in self._slabs:
            number = self._slabs.index(None)
            self._slabs[number] = slab
            return number, slab
        self._slabs.append(slab)
        return len(self._slabs) - 1, slab

    @staticmethod
    def _kind(detector: Detector, look: Look) -> Kind | None:
        """Where a series belongs; None if it cannot be carried on from where it stands."""
        learned = detector.learned_
        if look.past is None or look.block is None or not look.settled:
            return None
        if not detector.grid_.regular or set(learned.opinions.members) != set(LEARNING):
            return None
        day = learned.day
        if len(look.past) < 2 + LEAD + ALERT_MEMORY:  # what alerts are compared with must be known
            return None
        needs = ShapeStates.needs(learned.shape, look.block.cells)
        return Kind(day, 1 << (needs + needs // 8).bit_length())


def _depth(sample: int) -> int:
    return max(1, int(np.ceil(np.log2(max(sample, 2)))))


def _nothing() -> Scores:
    none = np.zeros(0)
    return Scores(np.zeros(0, np.int64), none, none, none, none, none)
