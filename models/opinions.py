"""Opinions on rows of features, and what they come to: members, calibrations, one probability.

Each member's raw score is calibrated on its own past (`models.calibration`); the mean of the
surprises, with an echo of the last rows, is read as a probability by one map for all series.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, Member, nested, within
from models.calibration import TailCalibrator, Window, surprises
from models.features import FEATURES, LEAD, decaying
from models.members import COMPOSED, DIRECT, LEARNING
from models.running import Newest

#: Rows before members are fitted for the first time; nothing is said about those.
WARM = 60
#: Rows that members are fitted on; older ones are another time's normal.
RECENT = 5000
#: Members are fitted anew when the series has grown by this share, or by so many rows.
REFIT = 1000
GROWTH = 0.2
#: Rows that raw scores are compared with, and the fewest that allow it.
HISTORY, COMPARABLE = 20_000, 30
#: Of the rows so far, the share that raw scores are compared with: the first ones were judged by
#: what knew little. And so many at least.
FRESH, FRESH_MIN = 0.7, 300
#: How much the mean surprise of the last rows counts, and over how many rows it is taken.
ECHO, ECHO_SPAN = 1.0, 3
#: Exponent of the mean over the members: below 1, what some see and others do not counts less.
AGREEMENT = 0.4
#: Quantiles of the mean surprise over normal rows of many series, and their -log10 p. Of the first
#: ones, the body, a series has its own, against which these have the weight of so many rows.
QUANTILES = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999])
MEANS = np.array([0.16, 0.25, 0.37, 0.56, 0.9, 1.38, 2.75, 4.05, 5.05])
SURPRISES = -np.log10(1.0 - QUANTILES)
BODY, BODY_ROWS = 6, 200.0
_SURPRISES = np.append(0.0, SURPRISES)
_SLOPE = (SURPRISES[-1] - SURPRISES[-2]) / (MEANS[-1] - MEANS[-2])
#: A body that reaches further than this is that of a series where something is wrong.
HIGHEST_BODY = 2.2
#: What the mean surprise and a new shape add to the strength of an alert.
MEAN, NOVELTY = 0.85, 2.0

PLACE = {name: place for place, name in enumerate(FEATURES)}
CALIBRATED = (*LEARNING, *DIRECT)
_ECHO = decaying(ECHO_SPAN)


def composed(each: Mapping[str, Array]) -> list[Array]:
    """Surprise of each member (n,), in the order of `LABELS`, from those of what is calibrated."""
    means = [reduce(np.add, (each[f] for f in own)) / len(own) for own in COMPOSED.values()]
    return [*(each[name] for name in LEARNING), *means]


class Opinions:
    """Members and calibrations: rows of features to surprises."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._views = {name: Newest(RECENT, len(FEATURES) + 1) for name in LEARNING}
        # what is calibrated from the first row on, and what is known once members are
        kinds = (DIRECT, tuple(LEARNING))
        self._pasts = {names: Window(HISTORY, len(names)) for names in kinds}
        self._next_fit = WARM
        self.members: dict[str, Member] = {}
        self.calibrators: dict[str, TailCalibrator] = {}

    def views(self, Z: Array, shape: Array) -> dict[str, Array]:
        """What each member sees of features (n, p) and shape (n,)."""
        return {name: part.view(Z, shape) for name, part in LEARNING.items()}

    def raw(self, Z: Array, views: dict[str, Array]) -> dict[str, Array]:
        """Raw scores (n,) by name."""
        found = {name: np.abs(Z[:, PLACE[name]]) for name in DIRECT}
        for name, member in self.members.items():
            found[name] = member.score(views[name])
        return found

    def surprise(self, raw: dict[str, Array], shape: Array) -> Array:
        """Surprise of each member (n, members), in the order of `LABELS`."""
        each = dict.fromkeys(CALIBRATED, np.zeros(len(shape)))
        known = [name for name in CALIBRATED if name in self.calibrators and name in raw]
        if known:
            calibrators = [self.calibrators[name] for name in known]
            found = surprises(calibrators, np.array([raw[name] for name in known]))
            each |= zip(known, found, strict=True)
        return np.stack([*composed(each), shape], axis=1)

    def learn(
        self, row: int, views: dict[str, Array], raw: dict[str, Array], seen: Flags, most: int
    ) -> None:
        """Take rows in that are `seen` (n,), the last of them number `row` of the series.

        Raw scores are compared with at most the newest `most`.
        """
        for name, view in views.items():
            self._views[name].add(view[seen])
        for names, past in self._pasts.items():
            if names[0] not in raw:
                continue
            past.add(np.array([raw[name] for name in names])[:, seen], most)
            if len(past.ordered) >= COMPARABLE:
                for name, ordered in zip(names, past.kinds, strict=True):
                    self.calibrators[name] = TailCalibrator().fit(ordered)
        if row >= self._next_fit and min(len(view.rows) for view in self._views.values()) >= 2:
            for name, part in LEARNING.items():
                seed = int(self._rng.integers(1 << 30))
                self.members[name] = part.make(seed).fit(self._views[name].rows)
            self._next_fit = row + min(int(row * GROWTH), REFIT)

    def to_arrays(self) -> Arrays:
        """Members and calibrations."""
        arrays: Arrays = {}
        for name, member in self.members.items():
            arrays |= nested(f"member/{name}", member.to_arrays())
        for name, calibrator in self.calibrators.items():
            arrays |= nested(f"calibrator/{name}", calibrator.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to be asked, not to go on learning."""
        opinions = cls(0)
        for name, part in LEARNING.items():
            if own := within(f"member/{name}", arrays):
                opinions.members[name] = part.load(own)
        for name in CALIBRATED:
            if own := within(f"calibrator/{name}", arrays):
                opinions.calibrators[name] = TailCalibrator.from_arrays(own)
        return opinions


def agreed(each: Array) -> Array:
    """Mean of what members say (n, members), of rows."""
    mean = (np.maximum(each, 0.0) ** AGREEMENT).mean(axis=1)
    return np.asarray(mean ** (1.0 / AGREEMENT))


class Joint:
    """From mean surprises to one: ranks on the series' own past, beyond them one map for all.

    How far members agree differs between series, and with it how their mean is spread; its tail
    is too short of data to be learned for each.
    """

    def __init__(self) -> None:
        self._past = Window(HISTORY)
        self._means = np.zeros(0)
        self.body_ = MEANS[:BODY]

    def join(self, each: Array, *, carried: bool = False) -> tuple[Array, Array]:
        """Mean surprise of rows with surprises `each` (n, members), with an echo, and without."""
        # the shape is part of others' rows, and of the alert
        mean = agreed(each[:, :-1])
        before = self._means if carried else mean[:0]
        padded = np.concatenate((np.zeros(LEAD - 1 - len(before)), before, mean))
        return mean + ECHO * np.correlate(padded, _ECHO, "valid"), mean

    def surprise(self, joined: Array) -> Array:
        """-log10 p of each mean surprise (n,)."""
        means = np.concatenate(([0.0], self.body_, MEANS[BODY:]))
        known = np.interp(joined, means, _SURPRISES)
        return np.asarray(known + np.maximum(joined - MEANS[-1], 0.0) * _SLOPE)

    def learn(self, joined: Array, mean: Array, seen: Flags, most: int) -> None:
        """Take rows in, of which `seen` (n,) are compared with later, at most `most` of them."""
        self._means = np.concatenate((self._means, mean))[-(LEAD - 1) :]
        self._past.add(joined[seen], most)
        past = self._past.ordered
        n = len(past)
        if n >= COMPARABLE:
            own = past[(QUANTILES[:BODY] * n).astype(np.int64)]
            body = (n * own + BODY_ROWS * MEANS[:BODY]) / (n + BODY_ROWS)
            self.body_ = body * min(1.0, HIGHEST_BODY / float(body[-1]))
