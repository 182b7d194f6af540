"""Features of the newest value of many series, each from a state that one value renews.

What `models.features` computes from rows of context, this carries from value to value: a ring of
running totals that answers for any lag, the newest values, and decayed errors. What is kept has a
row for each series, but weights; what is computed has a column for each, so that sums over lags
add whole rows.
"""

import itertools
from typing import NamedTuple

import numpy as np

from models.bank_rows import run
from models.base import Array, Flags, Integers
from models.features import (
    EVERY,
    FEATURES,
    LARGEST_Z,
    LEAD,
    PREDICTED,
    RECENT,
    WIDTHS,
    Features,
    Rows,
    decaying,
    memory,
    recent_level,
    season_lags,
    smallest,
)
from models.past import Past
from models.residual import CLIP, LEVEL_ROWS, lags
from models.running import BINS

#: Newest values that are kept one by one: what the recent level looks back on, and those since.
_NEWEST = RECENT + EVERY
#: Spans of the running means of errors, in rows, and whether their sign counts.
_RUNNING = ((5, False), (20, False), (5, True))


class Told(NamedTuple):
    """Features `Z` (n, 13) of the newest values, what they should be, and the usual error."""

    Z: Array
    expected: Array
    scale: Array


def _ago(place: Integers, rows: Integers, ring: int) -> Integers:
    """Places (k, n) in a ring, `rows` (k,) before each `place` (n,)."""
    places, which = np.unique(place, return_inverse=True)  # few: series go round together
    return np.asarray(((places - rows[:, None]) % ring).take(which, axis=1))


class FeatureStates:
    """What is known, and what went before, of up to `size` series with `day` rows a day."""

    def __init__(self, size: int, day: int) -> None:
        self.day = day
        hour = max(2, min(12, day // 8))
        self._horizons = (1, hour, day)
        pairs = [lags(horizon, day, memory(day)) for horizon in self._horizons]
        pairs += [(np.array([h]), np.array([h + LEVEL_ROWS - 1])) for h in self._horizons]
        pairs.append(season_lags(day, memory(day)))
        ends = np.cumsum([0, *(len(near) for near, _ in pairs)])
        self._parts = [slice(a, b) for a, b in itertools.pairwise(ends.tolist())]
        self._near = np.concatenate([near for near, _ in pairs])
        self._far = np.concatenate([far for _, far in pairs])
        #: Totals that are asked for, so many values ago, and where the ends of each lag are.
        self._ago, where = np.unique(
            np.concatenate((self._near, self._far + 1)), return_inverse=True
        )
        self._at_near, self._at_far = where[: len(self._near)], where[len(self._near) :]
        ring = int(self._far.max()) + 2
        self._total = np.zeros((size, ring))
        self._first = np.zeros(size)
        self._place = np.zeros(size, np.int64)
        self._count = np.zeros(size, np.int64)
        self._newest = np.zeros((size, _NEWEST))
        self._newest_place = np.zeros(size, np.int64)
        self._middle, self._size = np.zeros(size), np.ones(size)
        self._errors = np.zeros((size, LEAD))
        self._error_place = np.zeros(size, np.int64)
        self._running = np.zeros((size, len(_RUNNING)))
        # what was learned
        self._weights = [np.zeros((len(near), size)) for near, _ in pairs[:3]]
        self._limits = np.zeros((size, 3, 3))
        self._sizes = np.ones((size, len(PREDICTED), min(BINS, day)))
        self._level = np.zeros((size, 2))
        self._quick = np.zeros(size)
        self._spread = np.zeros((size, len(WIDTHS)))
        self._changes = np.zeros((size, 2 * len(WIDTHS), 2))
        weights = np.array([decaying(span) for span, _ in _RUNNING])
        self._weight, self._decay = weights[:, -1], weights[:, -2] / weights[:, -1]
        self._signed = np.array([signed for _, signed in _RUNNING])

    def put(self, row: int, features: Features, past: Past, judged: Rows) -> None:
        """Take one series in: what was learned, its values, and what was just judged at their end.

        `judged` are at least `LEAD` rows that end with `past`.
        """
        for weights, model in zip(self._weights, features.regressions, strict=True):
            weights[:, row] = model.weights_
        self._limits[row] = [(m.unit.mean, m.low_, m.high_) for m in features.regressions]
        self._sizes[row] = [size.sizes_ for size in features.sizes]
        self._level[row] = features.level_
        self._quick[row] = scale = max(features.quick_, 0.02 * features.wander_)
        self._spread[row], self._changes[row] = features.spread_, np.array(features.changes_)

        n = len(past)
        ring = self._total.shape[1]
        kept = past.total[-ring:]
        self._total[row, : len(kept)] = kept
        self._total[row, len(kept) :] = kept[0]  # further back than the first value there is
        self._place[row], self._count[row], self._first[row] = len(kept) - 1, n, past.x[0]
        newest = past.x[-_NEWEST:]
        self._newest[row, : len(newest)] = newest
        self._newest_place[row] = len(newest) - 1
        self._middle[row], self._size[row] = recent_level(
            past, max(n - 1 - (past.first + n - 1) % EVERY, 0)
        )
        x = past.x[n - LEAD :]
        z = np.clip(judged.errors[0][-LEAD:] / (scale + smallest(x)), -8.0, 8.0)
        self._errors[row] = z
        self._error_place[row] = LEAD - 1
        each = np.where(self._signed[:, None], z, np.abs(z))
        self._running[row] = [
            values @ decaying(span) for values, (span, _) in zip(each, _RUNNING, strict=True)
        ]

    def step(self, rows: Integers, x: Array, index: Integers) -> Told:
        """Features of new values x (n,) at grid indices (n,), one of each series in `rows` (n,)."""
        least = smallest(x)
        self._renew_level(rows, index)
        means, known = self._means(rows, x)
        errors, expected = self._predict(rows, x, means, known)
        bin_of = index % self.day * self._sizes.shape[2] // self.day
        usual = self._sizes[rows, :, bin_of]
        centre, scale = self._level[rows].T
        columns = [error / np.maximum(usual[:, i], least) for i, error in enumerate(errors)]
        columns.append((x - centre) / (scale + 1e-9 * (1.0 + np.abs(centre))))
        columns.append((x - self._middle[rows]) / (self._size[rows] + least))
        columns += self._run(rows, errors[0], least)
        columns += self._moves(rows, least)
        Z = np.empty((len(rows), len(FEATURES)))
        for place, column in enumerate(columns):
            Z[:, place] = column
        Z = np.clip(np.nan_to_num(Z), -LARGEST_Z, LARGEST_Z)
        return Told(Z, expected, np.maximum(usual[:, 1], smallest(expected)))

    def last(self, rows: Integers) -> Array:
        """The newest value of each series in `rows` (n,)."""
        return np.asarray(self._newest[rows, self._newest_place[rows]])

    def before(self, rows: Integers, lag: int) -> Array:
        """The value `lag` - 1 before the newest; the newest where none is known."""
        ring = self._total.shape[1]
        place = self._place[rows]
        value = self._total[rows, (place - lag + 1) % ring]
        value -= self._total[rows, (place - lag) % ring]
        reaches = (self._count[rows] >= lag) & (lag + 1 < ring)
        return np.where(reaches, value, self.last(rows))

    def newest(self, rows: Integers, count: int) -> Array:
        """The newest `count` values of each series in `rows` (n,): (count, n), the oldest first."""
        place = _ago(self._newest_place[rows], np.arange(count)[::-1], _NEWEST)
        place += rows * _NEWEST
        return np.asarray(self._newest.ravel().take(place))

    def _renew_level(self, rows: Integers, index: Integers) -> None:
        """Every few rows: median of the values before, and their mean distance from it."""
        due = rows[index % EVERY == 0]
        if not len(due):
            return
        for part in np.array_split(due, -(-len(due) // 256)):
            few = part[self._count[part] < RECENT]
            for row in few.tolist():
                past = Past(self.newest(np.array([row]), int(self._count[row]))[:, 0], 0)
                self._middle[row], self._size[row] = recent_level(past, len(past))
            full = part[self._count[part] >= RECENT]
            windows = self._newest[full]
            older = (self._newest_place[full, None] + np.arange(1, EVERY + 1)) % _NEWEST
            windows[np.arange(len(full))[:, None], older] = np.inf
            windows.sort(axis=1)
            windows = windows[:, :RECENT]
            middle = (windows[:, (RECENT - 1) // 2] + windows[:, RECENT // 2]) / 2
            windows -= middle[:, None]
            self._middle[full] = middle
            self._size[full] = np.abs(windows, out=windows).mean(axis=1)

    def _means(self, rows: Integers, x: Array) -> tuple[Array, Flags | None]:
        """Means over every pair of lags (pairs, n), the value taken in; which of them are known."""
        ring = self._total.shape[1]
        flat = self._total.ravel()
        base = rows * ring
        place = self._place[rows]
        total = flat.take(base + place) + x
        place += 1
        place[place == ring] = 0
        self._total[rows, place] = total
        self._place[rows] = place
        self._count[rows] += 1
        newest = self._newest_place[rows] + 1
        newest[newest == _NEWEST] = 0
        self._newest[rows, newest] = x
        self._newest_place[rows] = newest
        count = self._count[rows]
        ago = _ago(place, self._ago, ring)
        ago += base
        totals = flat.take(ago)
        near = totals.take(self._at_near, axis=0)
        near -= totals.take(self._at_far, axis=0)
        width = (self._far - self._near + 1.0)[:, None]
        if (count >= ring).all():
            near /= width
            return near, None
        levels = slice(self._parts[3].start, self._parts[5].stop)
        rows_of = np.repeat(width, len(rows), axis=1)
        short = np.minimum(self._far[levels, None] + 1, count)
        short -= np.minimum(self._near[levels, None], count)
        rows_of[levels] = np.maximum(short, 1)
        near /= rows_of
        near[levels] = np.where(short > 0, near[levels], self._first[rows])
        return near, np.asarray(self._far[:, None] < count)

    def _predict(
        self, rows: Integers, x: Array, means: Array, known: Flags | None
    ) -> tuple[list[Array], Array]:
        """Errors of the predictions in the order of `PREDICTED`, and what an hour ahead expects."""
        errors: list[Array] = []
        every: list[Array] = []
        own = run(rows)
        for number, weights in enumerate(self._weights):
            part = self._parts[number]
            level = means[self._parts[3 + number].start]
            unit, low, high = self._limits[rows, number].T
            scale = np.maximum(unit, 1e-9 + 1e-6 * np.abs(level))
            inputs = means[part] - level
            if known is not None:
                inputs[~known[part]] = 0.0
            inputs /= scale
            np.clip(inputs, -CLIP, CLIP, out=inputs)
            inputs *= weights[:, own]
            margin = (high - low) / 2
            moved = inputs.sum(axis=0)
            every.append(np.clip(level + scale * moved, low - margin, high + margin))
            errors.append(x - every[-1])
        part = self._parts[-1]
        seasons = means[part]
        if known is not None:
            seasons = np.where(known[part], seasons, np.nan)
            never = ~known[part.start]
            seasons[:, never] = self._level[rows[never], 0]
        ordered = np.sort(seasons.T, axis=1)  # NaN sorts to the end
        count = ordered.shape[1] - np.isnan(ordered).sum(axis=1)
        line = np.arange(len(ordered))
        same = (ordered[line, (count - 1) // 2] + ordered[line, count // 2]) / 2
        errors.append(x - same)
        return errors, every[1]

    def _run(self, rows: Integers, error: Array, least: Array) -> list[Array]:
        """How far off the values have been for a while: decayed means over `LEAD` rows."""
        z = np.clip(error / (self._quick[rows] + least), -8.0, 8.0)
        place = self._error_place[rows] + 1
        place[place == LEAD] = 0
        gone = self._errors[rows, place]
        self._errors[rows, place] = z
        self._error_place[rows] = place
        came = np.where(self._signed, z[:, None], np.abs(z)[:, None])
        left = np.where(self._signed, gone[:, None], np.abs(gone)[:, None])
        running = self._running[rows] * self._decay
        running += self._weight * (came - self._decay**LEAD * left)
        self._running[rows] = running
        return list(running.T)

    def _moves(self, rows: Integers, least: Array) -> list[Array]:
        """Spread and mean of the newest values, against what is usual."""
        found = []
        widest = self.newest(rows, max(WIDTHS))
        for number, width in enumerate(WIDTHS):
            window = widest[-width:]
            usual = self._spread[rows, number]
            mean = window.mean(axis=0)
            window = window - mean
            window *= window
            spread = np.sqrt(window.mean(axis=0))
            moves = (np.log(spread + 0.02 * usual + 1e-12), mean)
            for place, values in enumerate(moves):
                centre, scale = self._changes[rows, 2 * number + place].T
                found.append((values - centre) / (scale + (least if place else 0.1)))
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the whole state."""
        return sum(a.nbytes for a in vars(self).values() if isinstance(a, np.ndarray)) + sum(
            weights.nbytes for weights in self._weights
        )
