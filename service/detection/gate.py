"""Whether a newly trained model does no worse than the one in use, on the newest rows.

The model in use is frozen since its training, so whatever came later is out of sample for it. The
new one has walked over the same rows and judged each by what came before it. Both are compared row
by row: how far expectations were off, how well expected ranges fit (the interval score of Gneiting
and Raftery, 2007), how often scores were high, how far forecasts were off, and whether incidents
that people confirmed were seen, and noise was not.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.base import Array, Arrays, Flags, within
from models.ensemble import Detector, Scores
from models.forecast.series import MEMORY, SeriesForecaster
from service.detection.spans import Spans, inside
from service.storage.columns import Columns

#: Of all rows the share of the newest ones that are compared, how many at most, and at least.
SHARE, ROWS, ROWS_MIN = 0.1, 512, 48
#: Worse means: by so much as a factor, and beyond chance. Models of the same data differ by 2 %.
WORSE = 1.25
#: More of the scores may be high, of which there should be one in a hundred. What is odd is high
#: for both, so that this is far beyond chance.
HIGH, MORE_HIGH = 0.99, 0.04
#: Newest moments from which forecasts are compared, and how much worse they may be: the backtest
#: of the new one knows nothing of the newest third, while the one in use is asked as it is.
ORIGINS, WORSE_AHEAD = 4, 2.0
#: Parts of the rows whose means count as independent, and how many standard errors the mean of what
#: is worse must lie above 0: alone one in six would by chance, few of which are worse by a quarter.
PARTS, CHANCE = 8, 1.0
#: Values that expected ranges are made to hold, and errors beyond so many usual ones count so much.
_HELD, _LARGEST = 0.98, 10.0
#: Trainings in a row that are not taken before the next is taken all the same.
REFUSALS_MAX = 3
_SEEN = 0.999


@dataclass(frozen=True, slots=True)
class Gate:
    """`decision` is `first`, `taken` or `kept`; `refusals` how often in a row it was `kept`.

    `figures` are what was compared: of the model in use (`…_before`) and of the new one.
    """

    decision: str
    why: str
    refusals: int = 0
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the new model is to be used."""
        return self.decision != "kept"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


FIRST = Gate("first", "there was no model before")


@dataclass(frozen=True, slots=True)
class Labels:
    """What people said of times of the series, in milliseconds: incidents, and no incidents."""

    useful: Spans = ()
    noise: Spans = ()


def judge(
    before: Arrays,
    detector: Detector,
    forecaster: SeriesForecaster,
    rows: Columns,
    trusted: Flags,
    labels: Labels,
    refusals: int,
) -> Gate:
    """Compare the model in use (`service.detection.registry.model_arrays`) with a new one.

    `rows` are those that the new one was fitted to, of which `trusted` (n,) were learned from;
    `refusals` how often in a row the model in use has stayed.
    """
    old = Detector.from_arrays(within("detector", before))
    if old.grid_.step_ms != detector.grid_.step_ms:
        return Gate("taken", "the series comes in other steps than before")
    since = int(old.tail_t_[-1])
    newest = max(ROWS_MIN, min(ROWS, round(SHARE * len(rows.t))))
    new = min(newest, int((rows.t > since).sum()))
    usable = trusted[len(trusted) - new :] & np.isfinite(rows.v[len(rows.v) - new :])
    if int(usable.sum()) < ROWS_MIN:
        return Gate("taken", f"fewer than {ROWS_MIN} rows have come that could tell them apart")
    values = rows.v[-new:]
    said = (_said(old, rows, new, usable), detector.scores_.rows(slice(-new, None)))
    wrongs = _compared(*said, values, usable)
    figures = {name: figure for wrong in wrongs for name, figure in wrong.figures.items()}
    foretold = SeriesForecaster.from_arrays(within("forecast", before))
    ahead = _ahead(foretold, forecaster, rows, since)
    seen = _seen(*said, labels)
    worse = [wrong for wrong in (*wrongs, ahead, seen) if wrong is not None and wrong.says]
    for one in (ahead, seen):
        figures |= one.figures if one is not None else {}
    if not worse:
        return Gate("taken", f"no worse on the newest {int(usable.sum())} rows", 0, figures)
    why = "; ".join(wrong.says for wrong in worse)
    if refusals >= REFUSALS_MAX:
        return Gate("taken", f"the series has changed for good: {why}", 0, figures)
    return Gate("kept", why, refusals + 1, figures)


@dataclass(frozen=True, slots=True)
class _Compared:
    """One comparison: its figures, and what is worse, empty if nothing is."""

    figures: dict[str, float | None]
    says: str = ""


def _compared(old: Scores, new: Scores, values: Array, usable: Flags) -> list[_Compared]:
    known = usable & np.isfinite(old.expected) & np.isfinite(new.expected)
    x = values[known]
    bands = [(s.expected[known], s.lower[known], s.upper[known]) for s in (old, new)]
    off = [np.abs(x - expected) for expected, _, _ in bands]
    fits = [_interval_score(x, lower, upper) for _, lower, upper in bands]
    high = [(s.score[known] >= HIGH).astype(np.float64) for s in (old, new)]
    rose = float(high[1].mean() - high[0].mean())
    return [
        _worse("error", "expectations are off by {:.3g} instead of {:.3g}", *off),
        _worse("range", "expected ranges fit {:.3g} instead of {:.3g}", *fits),
        _Compared(
            {"high_before": float(high[0].mean()), "high": float(high[1].mean())},
            f"{high[1].mean():.1%} of scores are high instead of {high[0].mean():.1%}"
            if rose > MORE_HIGH
            else "",
        ),
        _Compared(
            {
                "covered_before": float(((x >= bands[0][1]) & (x <= bands[0][2])).mean()),
                "covered": float(((x >= bands[1][1]) & (x <= bands[1][2])).mean()),
            }
        ),
    ]


def _worse(name: str, words: str, old: Array, new: Array) -> _Compared:
    """Compare losses (n,) row by row; single rows that both got wrong do not decide."""
    most = _LARGEST * float(np.median(old)) + 1e-12 * float(np.abs(old).max())
    old, new = np.minimum(old, most), np.minimum(new, most)
    before, now = float(old.mean()), float(new.mean())
    is_worse = now > WORSE * before and _beyond_chance(new - old)
    says = words.format(now, before) if is_worse else ""
    return _Compared({f"{name}_before": before, name: now}, says)


def _beyond_chance(more: Array) -> bool:
    means = np.array([part.mean() for part in np.array_split(more, PARTS)])
    return bool(means.mean() > CHANCE * means.std(ddof=1) / np.sqrt(PARTS))


def _interval_score(x: Array, lower: Array, upper: Array) -> Array:
    outside = np.maximum(lower - x, 0.0) + np.maximum(x - upper, 0.0)
    return np.asarray(upper - lower + 2.0 / (1.0 - _HELD) * outside)


def _ahead(
    old: SeriesForecaster, new: SeriesForecaster, rows: Columns, since: int
) -> _Compared | None:
    """Forecasts from the newest moments that both did not know; None without any."""
    places = np.flatnonzero(new.backtest_t_ > since)[-ORIGINS:]
    if len(places) < ORIGINS or old.grid_.step_ms != new.grid_.step_ms:
        return None
    errors = []
    for place in places:
        truth = new.backtest_truth_[place]
        upto = int(np.searchsorted(rows.t, new.backtest_t_[place], side="right"))
        near = slice(max(0, upto - MEMORY), upto)
        path = old.predict(rows.t[near], rows.v[near]).value[: len(truth)]
        length = min(len(path), len(truth))
        told = new.backtest_[place][:length]
        errors.append([float(np.abs(one - truth[:length]).mean()) for one in (path[:length], told)])
    before, now = np.mean(errors, axis=0)
    worse = now > WORSE_AHEAD * before and all(b > a for a, b in errors)
    says = f"forecasts are off by {now:.3g} instead of {before:.3g}" if worse else ""
    return _Compared({"forecast_before": float(before), "forecast": float(now)}, says)


def _seen(old: Scores, new: Scores, labels: Labels) -> _Compared:
    """Incidents that only the model in use saw, against those that only the new one did; and noise
    the other way round."""
    missed = _only(old, new, labels.useful) - _only(new, old, labels.useful)
    louder = _only(new, old, labels.noise) - _only(old, new, labels.noise)
    says = []
    if missed > 0:
        says.append(f"it misses {missed} of the incidents that people confirmed")
    if louder > 0:
        says.append(f"it sees {louder} more of what people called noise")
    return _Compared({"missed": float(missed), "louder": float(louder)}, "; ".join(says))


def _only(one: Scores, other: Scores, spans: Spans) -> int:
    """Spans in which scores of `one` were high and those of the `other` never nearly."""
    found = 0
    for span in spans:
        own = inside(one.t_ms, (span,))
        if own.any():
            found += int(one.score[own].max() >= _SEEN and other.score[own].max() < HIGH)
    return found


def _said(old: Detector, rows: Columns, new: int, usable: Flags) -> Scores:
    """What the model in use says of the newest rows: after the rows before them, or after those of
    its own training, whichever is better. What was wrong in between is over soon for a model that
    did not learn from it, and lasts in one that did.
    """
    newest = Columns(rows.t[-new:], rows.v[-new:])
    both = (old.score(*rows, new), old.score(*newest, new))
    fits = [np.median(_interval_score(newest.v, said.lower, said.upper)[usable]) for said in both]
    return both[int(np.argmin(fits))]
