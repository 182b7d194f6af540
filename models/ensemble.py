"""The detector: several opinions on a series, one probability.

Each member's raw score is calibrated on its own past (`models.calibration`); the mean of the
surprises, with an echo of the last rows, is read as a probability by one map for all series. On
data like the past, a score of 0.999 is reached once in a thousand rows.

Everything is learned while walking over the rows: a block of rows is judged by what was learned
from the rows before it, then learned from. So no row is ever judged by what came after it, and
what a walk says about a row does not depend on how far it goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from models.adapting import early_end
from models.base import (
    Array,
    ArrayMap,
    Arrays,
    Flags,
    Integers,
    Member,
    floats,
    integer,
    nested,
    scalar,
    within,
)
from models.calibration import TailCalibrator, Window, probability
from models.explanation import Explanation
from models.features import FEATURES, LEAD, Features, Rows, decaying
from models.grid import DAY_MS, Grid, Laid
from models.members import COMPOSED, DIRECT, LABELS, LEARNING
from models.past import Past, Units
from models.residual import Band
from models.running import Newest
from models.shape import Cells, Shape
from models.suppression import MEMORY as ALERT_MEMORY
from models.suppression import AlertRate, records
from models.trust import inside, spans, without

#: Fewer rows teach nothing.
ROWS_MIN = 64
#: Rows before the first block ends, and before members are fitted for the first time.
FIRST, WARM = 16, 60
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
#: A body that reaches further than this is that of a series where something is wrong.
HIGHEST_BODY = 2.2
#: What the mean surprise and a new shape add to the strength of an alert.
MEAN, NOVELTY = 0.85, 2.0
LARGEST_SCORE = 1.0 - 1e-12

PLACE = {name: place for place, name in enumerate(FEATURES)}
CALIBRATED = (*LEARNING, *DIRECT)
_ECHO = decaying(ECHO_SPAN)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector says about rows: all (n,), times in milliseconds.

    `score` in [0, 1) is 1 - p. `alert` in [0, 1) is 0 but where an anomaly begins or gets worse;
    there it is 1 - p of alerts: the share of normal rows that speak as loud.
    """

    t_ms: Integers
    score: Array
    alert: Array
    expected: Array
    lower: Array
    upper: Array


class Judged(NamedTuple):
    """What is said about rows (n,): `each` (n, members) are surprises by `LABELS`.

    `surprise` is -log10 p, `rarity` that of alerts, of which `strength` is the raw score.
    """

    surprise: Array
    strength: Array
    alert: Array
    rarity: Array
    each: Array
    expected: Array
    lower: Array
    upper: Array
    Z: Array


def composed(each: Mapping[str, Array]) -> list[Array]:
    """Surprise of each member (n,), in the order of `LABELS`, from those of what is calibrated."""
    means = [np.mean([each[f] for f in features], axis=0) for features in COMPOSED.values()]
    return [*(each[name] for name in LEARNING), *means]


class _Opinions:
    """Members and calibrations: rows of features to surprises."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._rows = Newest(RECENT, len(FEATURES) + 1)
        self._pasts = {name: Window(HISTORY) for name in CALIBRATED}
        self._next_fit = WARM
        self.members: dict[str, Member] = {}
        self.calibrators: dict[str, TailCalibrator] = {}

    def raw(self, Z: Array, shape: Array) -> dict[str, Array]:
        """Raw scores (n,) by name."""
        found = {name: np.abs(Z[:, PLACE[name]]) for name in DIRECT}
        for name, member in self.members.items():
            found[name] = member.score(LEARNING[name].view(Z, shape))
        return found

    def surprise(self, raw: dict[str, Array], shape: Array) -> Array:
        """Surprise of each member (n, members), in the order of `LABELS`."""
        n = len(shape)
        silent = np.zeros(n)
        each = {
            name: self.calibrators[name].surprise(raw[name])
            if name in self.calibrators and name in raw
            else silent
            for name in CALIBRATED
        }
        return np.stack([*composed(each), shape], axis=1)

    def learn(self, row: int, Z: Array, shape: Array, raw: dict[str, Array], most: int) -> None:
        """Take measured rows in, the last of which was number `row` of the series.

        Raw scores are compared with at most the newest `most`.
        """
        self._rows.add(np.column_stack((Z, shape)))
        for name, scores in raw.items():
            past = self._pasts[name]
            past.add(scores, most)
            if len(past.ordered) >= COMPARABLE:
                self.calibrators[name] = TailCalibrator().fit(past.ordered)
        if row >= self._next_fit and len(self._rows.rows) >= 2:
            known = self._rows.rows
            for name, part in LEARNING.items():
                seed = int(self._rng.integers(1 << 30))
                self.members[name] = part.make(seed).fit(part.view(known[:, :-1], known[:, -1]))
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


class _Joint:
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
        return mean + ECHO * np.convolve(padded, _ECHO[::-1], "valid"), mean

    def surprise(self, joined: Array) -> Array:
        """-log10 p of each mean surprise (n,)."""
        means = np.concatenate(([0.0], self.body_, MEANS[BODY:]))
        known = np.interp(joined, means, np.append(0.0, SURPRISES))
        slope = (SURPRISES[-1] - SURPRISES[-2]) / (MEANS[-1] - MEANS[-2])
        return np.asarray(known + np.maximum(joined - MEANS[-1], 0.0) * slope)

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


def _blocks(x: Array, day: int) -> Iterator[tuple[int, int]]:
    """Rows of `x` that are judged together: few at first, later a quarter of a day."""
    start, n = 0, len(x)
    while start < n:
        stop = min(n, start + min(max(start // 8, FIRST), max(64, day // 4)))
        stop = early_end(x, start, stop, day)
        yield start, stop
        start = stop


class _Learned:
    """All that is known about a series: how to judge rows, and how to learn from them."""

    def __init__(self, day: int, units: Units, seed: int) -> None:
        self.day, self.units = day, units
        self.features, self.shape = Features(day), Shape()
        self.opinions, self.joint, self.band = _Opinions(seed), _Joint(), Band()
        self.alerts = AlertRate()
        self._strengths = np.zeros(0)
        self.lowest = np.inf

    def judge(self, past: Past, start: int, stop: int, *, carried: bool = False) -> "_Block":
        """What is said about past.x[start:stop]. `carried`: the rows before were learned last."""
        rows = self.features.transform(past, start, stop, carried=carried)
        novelty, cells = self.shape.surprise(past, start, stop)
        raw = self.opinions.raw(rows.Z, novelty)
        each = self.opinions.surprise(raw, novelty)
        joined, mean = self.joint.join(each, carried=carried)
        expected, scale = self.features.expect(rows, past.first + np.arange(start, stop))
        lower, upper = self.band.around(expected, scale)
        floor = self.units.apply(np.zeros(1))[0] if self.lowest >= 0 else -np.inf
        lower = np.minimum(np.maximum(lower, floor), expected)
        if carried and start < WARM:  # what is known is where values have been
            lower = np.minimum(lower, np.minimum.accumulate(past.x[:stop])[start:])
            upper = np.maximum(upper, np.maximum.accumulate(past.x[:stop])[start:])
        strength = MEAN * joined + NOVELTY * novelty
        if carried and start < WARM:
            strength[: WARM - start] = 0.0
        before = self._strengths if carried else strength[:0]
        alert = records(np.concatenate((before, strength)), len(before))
        judged = Judged(
            self.joint.surprise(joined),
            strength,
            alert,
            self.alerts.rarity(alert),
            each,
            self.units.restore(expected),
            self.units.restore(lower),
            self.units.restore(np.maximum(upper, expected)),
            rows.Z,
        )
        return _Block(
            judged, rows, cells, raw, joined, mean, (past.x[start:stop] - expected) / scale
        )

    def judge_anew(self, past: Past, start: int, stop: int) -> Judged:
        """What is said about past.x[start:stop], whatever was learned last."""
        lead = max(0, start - LEAD - ALERT_MEMORY)
        judged = self.judge(past, lead, stop).judged
        return Judged(*(column[start - lead :] for column in judged))

    def learn(self, past: Past, start: int, stop: int, block: "_Block", seen: Flags) -> None:
        """Learn from past.x[start:stop], just judged; `seen` marks measured rows that count."""
        self.features.learn(past, start, stop, block.rows, seen)
        self.shape.learn(block.cells)
        self.lowest = min(self.lowest, float(self.units.restore(past.x[start:stop]).min()))
        self._strengths = np.concatenate((self._strengths, block.judged.strength))[-ALERT_MEMORY:]
        if start < FIRST:  # judged by nothing
            return
        if start >= WARM:
            self.alerts.learn(block.judged.alert[seen])
        most = max(FRESH_MIN, int(FRESH * stop))
        self.joint.learn(block.joined, block.mean, seen, most)
        novelty = block.judged.each[seen, -1]
        raw = {name: scores[seen] for name, scores in block.raw.items()}
        self.opinions.learn(stop, block.rows.Z[seen], novelty, raw, most)
        self.band.learn(block.residual[seen])

    def to_arrays(self) -> Arrays:
        """Everything that judging needs."""
        return {
            **self.units.to_arrays(),
            "day": np.array(self.day),
            "lowest": np.array(self.lowest),
            "joint": self.joint.body_,
            **nested("features", self.features.to_arrays()),
            **nested("shape", self.shape.to_arrays()),
            **nested("opinions", self.opinions.to_arrays()),
            **nested("band", self.band.to_arrays()),
            **nested("alerts", self.alerts.to_arrays()),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to judge, not to go on learning."""
        learned = cls(integer(arrays, "day"), Units.from_arrays(arrays), 0)
        learned.lowest = scalar(arrays, "lowest")
        learned.joint.body_ = floats(arrays, "joint")
        learned.features = Features.from_arrays(within("features", arrays))
        learned.shape = Shape.from_arrays(within("shape", arrays))
        learned.opinions = _Opinions.from_arrays(within("opinions", arrays))
        learned.band = Band.from_arrays(within("band", arrays))
        learned.alerts = AlertRate.from_arrays(within("alerts", arrays))
        return learned


class _Block(NamedTuple):
    """Rows that were judged, and what is needed to learn from them."""

    judged: Judged
    rows: Rows
    cells: list[Cells]
    raw: dict[str, Array]
    joined: Array
    mean: Array
    residual: Array


class Look(NamedTuple):
    """Newest rows and what is said about them: scores, surprises of each member, features.

    `block` is about the last rows of `past`, whatever of it was new; both are None where all
    values are missing. `settled`: training left out nothing that still counts as recent.
    """

    scores: Scores
    each: Array
    Z: Array
    past: Past | None
    block: _Block | None
    settled: bool


class Detector:
    """Learns one series and scores new values of it.

    `fit` walks over the history once. `scores_` then has what was said about each of its rows by
    what had been learned from the rows before it, `holdout_` the same of the rows that count.

    Works best with a few weeks of data that are mostly normal. A pattern that the history holds
    several times is normal, whatever it means.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, t_ms: Integers, values: Array, trusted: Flags | None = None) -> Self:
        """Learn from timestamps (n,), ascending milliseconds, and values (n,), NaN where missing.

        Rows that are not `trusted` (n,), of an incident for example, are judged like the others;
        to what is learned, and to later rows that look back, they are a gap.
        Raises ValueError with fewer than `ROWS_MIN` finite values that are trusted.
        """
        finite = np.isfinite(values)
        doubted = np.zeros(len(values), np.bool_) if trusted is None else finite & ~trusted
        usable = int(finite.sum() - doubted.sum())
        if usable < ROWS_MIN:
            raise ValueError(f"values: {usable} finite rows, a detector needs {ROWS_MIN}")
        self.grid_ = Grid.learn(t_ms[:WARM])
        laid = self.grid_.lay(t_ms, values)
        judged = self._walk(laid, laid.at[doubted])
        place = np.maximum.accumulate(laid.at)  # a missing row shows what was expected before it
        known = finite & (laid.at >= WARM)
        self.scores_ = _scores(t_ms, judged, np.maximum(place, 0), known)
        self.holdout_ = _rows_of(self.scores_, known)
        inside = (values >= self.scores_.lower) & (values <= self.scores_.upper)
        known &= ~doubted
        error = np.abs(values / 2 - self.scores_.expected / 2)[known]  # halves never overflow
        self.quality_: dict[str, float | int] = {
            "rows": usable,
            "left_out_rows": int(doubted.sum()),
            "step_seconds": self.grid_.step_ms / 1000,
            "period_rows": self.grid_.period,
            "holdout_rows": int(known.sum()),
            "coverage": float(inside[known].mean()) if known.any() else 1.0,
            "median_error": 2 * float(np.quantile(error, 0.5, method="lower"))
            if known.any()
            else 0.0,
        }
        keep = np.flatnonzero(finite)[-self.context :]
        self.tail_t_, self.tail_v_ = t_ms[keep], values[keep]
        self.left_out_ = spans(t_ms[keep], doubted[keep])
        return self

    @property
    def context(self) -> int:
        """Rows before the first that is to be scored that have a say."""
        return self.learned_.features.memory + LEAD + ALERT_MEMORY

    @property
    def middle(self) -> float:
        """What is usual, where nothing else is known: the median of the newest training data."""
        return 2.0 * float(np.median(self.tail_v_ / 2))  # halves never overflow

    def _walk(self, laid: Laid, doubted: Integers) -> Judged:
        """What is said of each cell; nothing is learned from those that are `doubted`."""
        units = Units.of(laid.y[:FIRST])
        seen = Past(units.apply(laid.y), laid.first)
        past, kept = seen, laid.seen
        if len(doubted):
            kept = kept.copy()
            kept[doubted] = False
            past = Past(units.apply(without(laid.y, kept, self.grid_.period)), laid.first)
        learned = _Learned(_season(self.grid_), units, self.seed)
        said: list[Judged] = []
        for start, stop in _blocks(past.x, learned.day):
            block = learned.judge(past, start, stop, carried=True)
            judged, own = block.judged, (laid.seen & ~kept)[start:stop]
            if own.any() and start >= FIRST:
                judged = _either(own, learned.judge_anew(seen, start, stop), judged)
            said.append(judged)
            learned.learn(past, start, stop, block, kept[start:stop])
        recent = LEAD + ALERT_MEMORY
        if len(doubted) and doubted[-1] >= len(past) - recent:
            # what goes on has been spoken of, and must not look new again
            learned.shape.replace(seen, recent)
        self.learned_ = learned
        judged = Judged(*(np.concatenate(columns) for columns in zip(*said, strict=True)))
        judged.surprise[:WARM] = 0.0
        return judged

    def score(self, t_ms: Integers, values: Array, n_new: int) -> Scores:
        """Scores of the newest `n_new` of the rows (n,) handed in; the others are context.

        Where the context is shorter than what features look back on, the end of the training data
        stands in front of it. Missing values (NaN) score 0.
        """
        return self.look(t_ms, values, n_new).scores

    def explain(self, t_ms: Integers, values: Array) -> Explanation:
        """Why the newest of the rows (n,) has its score."""
        scores, each, Z = self.look(t_ms, values, 1)[:3]
        surprises = {name: float(s) for name, s in zip(LABELS, each[-1], strict=True)}
        features = {name: float(z) for name, z in zip(FEATURES, Z[-1], strict=True)}
        return Explanation(
            t_ms=int(t_ms[-1]),
            score=float(scores.score[-1]),
            seen=float(values[-1]),
            expected=float(scores.expected[-1]),
            lower=float(scores.lower[-1]),
            upper=float(scores.upper[-1]),
            member=LABELS[max(surprises, key=surprises.__getitem__)],
            feature=max(features, key=lambda name: abs(features[name])),
            surprises=surprises,
            features=features,
        )

    def look(self, t_ms: Integers, values: Array, n_new: int) -> Look:
        """The same as `score`, with all that it comes from."""
        n_new = min(n_new, len(t_ms))
        begin = max(0, len(t_ms) - n_new - self.context)
        t_ms, values = t_ms[begin:], values[begin:]
        before = self.tail_t_ < t_ms[0] if len(t_ms) else np.zeros(0, np.bool_)
        t = np.concatenate((self.tail_t_[before], t_ms))
        v = np.concatenate((self.tail_v_[before], values))
        over = self._over(t, n_new)
        laid = self.grid_.lay(t, self.cleaned(t, v, n_new))
        at = laid.at[len(t) - n_new :]
        new_t = t_ms[len(t_ms) - n_new :]
        known = at >= 0
        if not known.any():
            nothing = np.zeros(n_new)
            middle = np.full(n_new, self.middle)
            scores = Scores(new_t, nothing, nothing, middle, middle, middle)
            each, Z = np.zeros((n_new, len(LABELS))), np.zeros((n_new, len(FEATURES)))
            return Look(scores, each, Z, None, None, settled=bool(over.all()))
        past = Past(self.learned_.units.apply(laid.y), laid.first)
        start = int(at[known].min())
        lead = max(0, start - LEAD - ALERT_MEMORY)
        block = self.learned_.judge(past, lead, len(past))
        judged = Judged(*(column[start - lead :] for column in block.judged))
        place = np.maximum.accumulate(np.where(known, at - start, 0))
        scores = _scores(new_t, judged, place, known)
        said = judged.each[place], judged.Z[place]
        return Look(scores, *said, past, block, settled=bool(over.all()))

    def cleaned(self, t_ms: Integers, values: Array, n_new: int = 0) -> Array:
        """Rows (n,) to look back on: NaN where training left them out.

        What goes on or was just over before the newest `n_new` stays, as in the remembered shapes.
        """
        left_out = inside(t_ms, self.left_out_[self._over(t_ms, n_new)])
        return np.where(left_out, np.nan, values)

    def _over(self, t_ms: Integers, n_new: int) -> Flags:
        """Which spans that training left out were over for a while before the newest rows."""
        newest = t_ms[max(0, len(t_ms) - n_new - LEAD - ALERT_MEMORY)] if len(t_ms) else 0
        return np.asarray(self.left_out_[:, 1] < newest)

    def to_arrays(self) -> Arrays:
        """Everything that scoring needs; the scores of the history are not kept."""
        return {
            **self.grid_.to_arrays(),
            "tail_t": self.tail_t_,
            "tail_v": self.tail_v_,
            "left_out": self.left_out_,
            **nested("learned", self.learned_.to_arrays()),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`. Raises KeyError if something is missing."""
        detector = cls()
        detector.grid_ = Grid.from_arrays(arrays)
        detector.tail_t_ = np.asarray(arrays["tail_t"], np.int64)
        detector.tail_v_ = floats(arrays, "tail_v")
        detector.left_out_ = np.asarray(arrays["left_out"], np.int64)
        detector.learned_ = _Learned.from_arrays(within("learned", arrays))
        return detector


def _season(grid: Grid) -> int:
    """Rows of a day, of a week where a row is about a day."""
    day = round(DAY_MS / grid.step_ms)
    return day if day >= 2 else 7


def _either(chosen: Flags, these: Judged, others: Judged) -> Judged:
    """Of `these` the chosen rows (n,), of `others` the rest."""
    pairs = zip(these, others, strict=True)
    return Judged(*(np.where(chosen if a.ndim == 1 else chosen[:, None], a, b) for a, b in pairs))


def _scores(t_ms: Integers, judged: Judged, place: Integers, known: Flags) -> Scores:
    """Scores of rows that stand at `place` in what was judged; those not `known` score 0."""
    score = np.clip(1.0 - probability(judged.surprise), 0.0, LARGEST_SCORE)
    alert = np.clip(1.0 - probability(judged.rarity), 0.0, LARGEST_SCORE)
    return Scores(
        t_ms,
        np.where(known, score[place], 0.0),
        np.where(known, alert[place], 0.0),
        judged.expected[place],
        judged.lower[place],
        judged.upper[place],
    )


def _rows_of(scores: Scores, chosen: Flags) -> Scores:
    """Some rows of scores."""
    return Scores(
        scores.t_ms[chosen],
        scores.score[chosen],
        scores.alert[chosen],
        scores.expected[chosen],
        scores.lower[chosen],
        scores.upper[chosen],
    )
