"""The detector: several opinions on a series, one probability.

Each member's raw score is calibrated on its own past (`models.calibration`); the mean of the
surprises, with an echo of the last rows, is read as a probability by one map for all series. On
data like the past, a score of 0.999 is reached once in a thousand rows.

Everything is learned while walking over the rows: a block of rows is judged by what was learned
from the rows before it, then learned from. So no row is ever judged by what came after it, and
what a walk says about a row does not depend on how far it goes on.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, Flags, Integers, floats, nested, within
from models.calibration import probability
from models.explanation import Explanation, odd_since
from models.features import FEATURES, LEAD
from models.grid import DAY_MS, Grid, Laid
from models.learned import FIRST, Block, Judged, Learned, blocks
from models.members import LABELS
from models.opinions import WARM
from models.past import Past, Units
from models.suppression import MEMORY as ALERT_MEMORY
from models.trust import inside, spans, without

#: Fewer rows teach nothing.
ROWS_MIN = 64
LARGEST_SCORE = 1.0 - 1e-12
#: Newest rows that are looked through for the begin of what an explanation is asked about.
SINCE_ROWS = 300


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

    def rows(self, chosen: Flags | slice) -> "Scores":
        """Some of the rows: flags (n,) or a slice."""
        return Scores(
            self.t_ms[chosen],
            self.score[chosen],
            self.alert[chosen],
            self.expected[chosen],
            self.lower[chosen],
            self.upper[chosen],
        )


class Look(NamedTuple):
    """Newest rows and what is said about them: scores, surprises of each member, features.

    `block` is about the last rows of `past`, whatever of it was new; both are None where all
    values are missing. `settled`: training left out nothing that still counts as recent.
    """

    scores: Scores
    each: Array
    Z: Array
    past: Past | None
    block: Block | None
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
        self.holdout_ = self.scores_.rows(known)
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
        """What is said of each cell, but not by whom; the `doubted` ones teach nothing."""
        units = Units.of(laid.y[:FIRST])
        seen = Past(units.apply(laid.y), laid.first)
        past, kept = seen, laid.seen
        if len(doubted):
            kept = kept.copy()
            kept[doubted] = False
            past = Past(units.apply(without(laid.y, kept, self.grid_.period)), laid.first)
        learned = Learned(_season(self.grid_), units, self.seed)
        said: list[Judged] = []
        for start, stop in blocks(past.x, learned.day):
            block = learned.judge(past, start, stop, carried=True)
            judged, own = block.judged, (laid.seen & ~kept)[start:stop]
            if own.any() and start >= FIRST:
                judged = _either(own, learned.judge_anew(seen, start, stop), judged)
            # what each member said of all the rows would take most of the memory
            said.append(judged._replace(each=judged.each[:0], Z=judged.Z[:0]))
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
        scores, each, Z = self.look(t_ms, values, min(len(t_ms), SINCE_ROWS))[:3]
        surprises = {name: float(s) for name, s in zip(LABELS, each[-1], strict=True)}
        features = {name: float(z) for name, z in zip(FEATURES, Z[-1], strict=True)}
        return Explanation(
            t_ms=int(t_ms[-1]),
            score=float(scores.score[-1]),
            since_ms=odd_since(scores.t_ms, scores.score),
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
        detector.learned_ = Learned.from_arrays(within("learned", arrays))
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
