"""Features of a regular series: how does each value stand to its own past?

All are causal and signed, in units of what is usual for the series (z values), so that one
setting serves every series. A value of 0 is what was expected. What is usual is learned as rows
pass: `transform` uses what is known, `learn` takes the rows in.
"""

from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, Integers, floats, integer, nested, within
from models.past import Past
from models.residual import Autoregression, Prediction
from models.robust import mean, mean_and_spread, median, row_medians, windows
from models.running import Newest, Size, SizeOfDay

#: Name of each feature and what a person calls it.
FEATURES = {
    "next": "compared with the values just before",
    "hour": "compared with what was expected an hour before",
    "day": "compared with what was expected the day before",
    "same_time": "compared with the same time on other days",
    "level": "compared with the long-run level",
    "recent_level": "compared with the recent level",
    "restless_short": "how far off the last values were",
    "restless_long": "how far off the values have been for a while",
    "drift": "a run of values on the same side",
    "spread_short": "how much the last values vary",
    "shift_short": "the mean of the last values",
    "spread_long": "how much values have varied for a while",
    "shift_long": "the mean of values for a while",
}
#: Features that are residuals of a prediction.
PREDICTED = ("next", "hour", "day", "same_time")
#: Rows before the first that is wanted, from which running means start.
LEAD = 60
LARGEST_Z = 1e9
#: Rows of the long level and the recent one, which is taken anew every few rows.
LONG, RECENT, EVERY = 10_000, 300, 5
#: Rows that changes of spread and mean are compared with, and over how many they are taken.
CHANGES_SEEN, WIDTHS = 2000, (10, 40)
_FEW = 10
#: No past beyond this many rows is looked at: two weeks of minutes.
MEMORY_MAX = 21_000


def memory(day: int) -> int:
    """Rows that features look back on."""
    return min(14 * day + day // 24 + RECENT + EVERY, MEMORY_MAX)


def decaying(span: int) -> Array:
    """Weights of an exponential mean over the newest `LEAD` rows, the oldest first."""
    weights = (1.0 - 2.0 / (span + 1)) ** np.arange(LEAD)[::-1]
    return np.asarray(weights / weights.sum())


_SHORT, _LONG = decaying(5), decaying(20)


class Rows(NamedTuple):
    """Features `Z` (n, 13) of some rows, and what `learn` needs to know of them.

    `time` (n,) is the time of the day, `spreads` are those of the newest rows of each width.
    """

    Z: Array
    time: Integers
    predictions: list[Prediction]
    errors: list[Array]
    from_level: Array
    changes: list[Array]
    spreads: list[Array]


class Levels(NamedTuple):
    """Centre and scale of something, as known by now."""

    centre: float
    scale: float


class Features:
    """Learns what is usual for a series and turns values into rows of `FEATURES`.

    `day` is the length of the season in rows.
    """

    def __init__(self, day: int) -> None:
        self.day = day
        self.memory = memory(day)
        hour = max(2, min(12, day // 8))
        self.regressions = [Autoregression(h, day, self.memory) for h in (1, hour, day)]
        # of all that is looked back on, what each regression wants, and the same time of the day
        pairs = [(model.near_, model.far_) for model in self.regressions]
        pairs.append(season_lags(day, self.memory))
        self._near, self._far = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
        ends = np.cumsum([0, *(len(near) for near, _ in pairs)]).tolist()
        self._own = [slice(*part) for part in pairwise(ends)]
        self.sizes = [SizeOfDay(day) for _ in PREDICTED]
        self._quick = Size(2000.0)
        self._wander = Size(5000.0)
        self._level = Newest(LONG)
        self._level_errors = Newest(LONG)
        self._spread = [Size(1e9) for _ in WIDTHS]
        self._changes = [Newest(CHANGES_SEEN) for _ in range(2 * len(WIDTHS))]
        self._errors = np.zeros(0)
        # what `transform` uses of all that
        self.quick_ = 0.0
        self.wander_ = 0.0
        self.level_ = Levels(0.0, np.inf)
        self.spread_ = np.zeros(len(WIDTHS))
        self.changes_ = [Levels(0.0, np.inf) for _ in self._changes]

    def transform(self, past: Past, start: int, stop: int, *, carried: bool = False) -> Rows:
        """Features of past.x[start:stop], each from its own past.

        `carried`: the rows just before were the last that were learned, so their errors are known.
        """
        rows = np.arange(start, stop)
        x = past.x[start:stop]
        least = smallest(x)
        time = self.sizes[0].times(past.first + rows)
        means = past.means(rows, self._near, self._far)
        predictions = [
            model.predict(past, rows, means[:, own])
            for model, own in zip(self.regressions, self._own[:-1], strict=True)
        ]
        errors = [x - made.expected for made in predictions]
        errors.append(x - self._same_time(past, rows, means[:, self._own[-1]]))
        residuals = [
            error / np.maximum(size.of(time), least)
            for error, size in zip(errors, self.sizes, strict=True)
        ]
        from_level = x - self.level_.centre
        level = from_level / (self.level_.scale + 1e-9 * (1.0 + abs(self.level_.centre)))
        columns = [*residuals, level, _recent_level(past, start, stop, least)]
        columns += self._running(past, start, errors[0], least, carried=carried)
        changes, spreads = self._moves(past, start, stop)
        for number, (values, known) in enumerate(zip(changes, self.changes_, strict=True)):
            floor = least if number % 2 else 0.1
            columns.append((values - known.centre) / (known.scale + floor))
        Z = np.empty((len(x), len(columns)))
        np.clip(np.array(columns).T, -LARGEST_Z, LARGEST_Z, out=Z)
        if np.isnan(Z).any():
            Z = np.nan_to_num(Z)
        return Rows(Z, time, predictions, errors, from_level, changes, spreads)

    def learn(self, past: Past, start: int, stop: int, rows: Rows, trusted: Flags) -> None:
        """Take past.x[start:stop] in, whose features are `rows`; not what is not `trusted`."""
        x = past.x[start:stop]
        for model, made in zip(self.regressions, rows.predictions, strict=True):
            model.learn(made, x, trusted)
        away = np.abs([*rows.errors, rows.from_level])[:, trusted]
        time = rows.time[trusted]
        for size, error in zip(self.sizes, away[:-1], strict=True):
            size.learn_of(error, time)
        self._quick.learn(away[0])
        self.quick_ = max(self._quick.mean, 0.5 * self.sizes[0].overall.mean)
        self._wander.learn(away[-1])
        self.wander_ = self._wander.mean
        self._errors = np.concatenate((self._errors, rows.errors[0]))[-LEAD:]
        self._level.add(x)
        self._level_errors.add(away[-1])
        errors = self._level_errors.values
        scale = np.inf
        if len(errors) >= _FEW:
            scale = max(1.4826 * median(errors), 0.3 * mean(errors))
        self.level_ = Levels(median(self._level.values), scale)
        for number, (values, kept) in enumerate(zip(rows.changes, self._changes, strict=True)):
            kept.add(values)
            before = kept.values[: -WIDTHS[number // 2]]
            if len(before) >= 30:
                centre, spread = mean_and_spread(before[None, :])
                self.changes_[number] = Levels(float(centre[0]), float(spread[0]))
        for number, (known, spreads) in enumerate(zip(self._spread, rows.spreads, strict=True)):
            known.learn(spreads)
            self.spread_[number] = known.mean

    def expect(self, rows: Rows) -> tuple[Array, Array]:
        """Expectation about an hour ahead of rows (n,), and the usual error."""
        expected = rows.predictions[1].expected
        return expected, np.maximum(self.sizes[1].of(rows.time), smallest(expected))

    def _running(
        self, past: Past, start: int, error: Array, least: Array, *, carried: bool
    ) -> list[Array]:
        """How far off the values have been for a while."""
        if carried:
            before = self._errors
        else:
            rows = np.arange(max(0, start - LEAD), start)
            before = past.x[rows] - self.regressions[0].predict(past, rows).expected
        scale = max(self.quick_, 0.02 * self.wander_)
        floor = np.concatenate((np.full(len(before), least[0] if len(least) else 0.0), least))
        z = np.clip(np.concatenate((before, error)) / (scale + floor), -8.0, 8.0)
        z = np.concatenate((np.zeros(max(0, LEAD - 1 - len(before))), z))
        size = np.abs(z)
        count = len(error)
        return [
            np.correlate(values, weights, "valid")[-count:] if count else values[:0]
            for values, weights in ((size, _SHORT), (size, _LONG), (z, _SHORT))
        ]

    def _moves(self, past: Past, start: int, stop: int) -> tuple[list[Array], list[Array]]:
        """Log spread and mean of the newest rows, for each width, and the spreads."""
        found, spreads = [], []
        for width, usual in zip(WIDTHS, self.spread_, strict=True):
            middle, spread = mean_and_spread(past.windows(width, start, stop))
            found += [np.log(spread + 0.02 * usual + 1e-12), middle]
            spreads.append(spread)
        return found, spreads

    def _same_time(self, past: Past, rows: Integers, seasons: Array) -> Array:
        """Median of the same time on earlier days (n, days); the level where none is known."""
        if len(rows) and rows[0] >= self._far[-1]:
            return row_medians(seasons)
        known = ~np.isnan(seasons[:, 0])
        result = np.empty(len(rows))
        if known.any():
            ordered = np.sort(seasons[known], axis=1)  # NaN sorts to the end
            count = (~np.isnan(ordered)).sum(axis=1)
            line = np.arange(len(ordered))
            result[known] = (ordered[line, (count - 1) // 2] + ordered[line, count // 2]) / 2
        if not known.all():
            result[~known] = self.level_.centre if rows[0] else past.x[0]
        return result

    def to_arrays(self) -> Arrays:
        """What `transform` uses."""
        arrays: Arrays = {
            "day": np.array(self.day),
            "known": np.array([self.quick_, self.wander_, *self.level_]),
            "spread": self.spread_,
            "changes": np.array(self.changes_),
        }
        for number, model in enumerate(self.regressions):
            arrays |= nested(f"regression{number}", model.to_arrays())
        for number, size in enumerate(self.sizes):
            arrays |= nested(f"size{number}", size.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to be asked, not to go on learning."""
        features = cls(integer(arrays, "day"))
        features.regressions = [
            Autoregression.from_arrays(within(f"regression{i}", arrays)) for i in range(3)
        ]
        features.sizes = [
            SizeOfDay.from_arrays(within(f"size{i}", arrays)) for i in range(len(PREDICTED))
        ]
        quick, wander, centre, scale = (float(v) for v in floats(arrays, "known"))
        features.quick_, features.wander_ = quick, wander
        features.level_ = Levels(centre, scale)
        features.spread_ = floats(arrays, "spread")
        features.changes_ = [Levels(*pair) for pair in floats(arrays, "changes").tolist()]
        return features


def season_lags(day: int, memory: int) -> tuple[Integers, Integers]:
    """Nearest and farthest lag of the same time on up to seven earlier days."""
    around = day // 288
    days = np.arange(1, max(1, min(7, (memory - around) // day)) + 1) * day
    return np.maximum(days - around, 1), days + around


def smallest(x: Array) -> Array:
    """The smallest scale that is not rounding."""
    return np.asarray(1e-9 * (1.0 + np.abs(x)))


def recent_level(past: Past, anchor: int) -> tuple[float, float]:
    """Median of the `RECENT` values before row `anchor`, and their mean distance from it."""
    before = past.x[max(0, anchor - RECENT) : anchor]
    middle = median(before) if len(before) else float(past.x[0])
    size = float(np.abs(before - middle).mean()) if len(before) >= _FEW else np.inf
    return middle, size


def _recent_level(past: Past, start: int, stop: int, least: Array) -> Array:
    """z against the median and mean deviation of the `RECENT` rows before, (stop - start,)."""
    rows = np.arange(start, stop)
    turn = (past.first + start) // EVERY
    turns = np.arange(turn, (past.first + stop - 1) // EVERY + 1)
    anchors = np.maximum(turns * EVERY - past.first, 0)
    which = (past.first + rows) // EVERY - turn
    middle, size = np.empty(len(anchors)), np.empty(len(anchors))
    full = anchors >= RECENT
    if full.any():
        own = anchors[full]
        before = windows(past.x[own[0] - RECENT : own[-1]], RECENT)[::EVERY]
        middle[full] = row_medians(before)
        size[full] = np.abs(before - middle[full][:, None]).mean(axis=1)
    for place in np.flatnonzero(~full):
        middle[place], size[place] = recent_level(past, int(anchors[place]))
    return np.asarray((past.x[start:stop] - middle[which]) / (size[which] + least))
