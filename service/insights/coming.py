"""What comes next: forecasts that cross a limit, when, and how likely.

Limits are those of rules; and, of metrics whose name says what is used up, that there is no more.
Pure functions over `Watched`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.crossing import crossing as crossed_by
from models.crossing import first, passing
from service.domain.rules import LIKELY, Condition, Rule, Severity
from service.insights import words
from service.insights.finding import Finding, Kind
from service.insights.look import Look
from service.insights.reading import Watched

#: How likely something has to be to be told of a limit that no rule names.
SURE = 0.8
#: How likely it is worth a look soon.
WORTH = 0.75
_UPWARDS = (Condition.GT, Condition.GTE)
_BREAKS = (*_UPWARDS, Condition.LT, Condition.LTE)
_USED = re.compile(r"(?:^|_)used(?:_|$)")
_FREE = re.compile(r"(?:^|_)(?:free|available)_(?:bytes|percent|pct|ratio)$")


@dataclass(frozen=True, slots=True)
class Crossing:
    """The forecast passes a threshold, or, with `returns`, comes back over it.

    Times in ms: at `at` it is as likely as not; it is hardly before `early` nor after `late` (a
    probability of 10 % each), which is None beyond the forecast's end. `probability` is that of
    crossing before that end; None, as the bounds are, where the forecast has no interval.
    """

    at: int
    threshold: float
    upwards: bool
    returns: bool
    probability: float | None = None
    early: int | None = None
    late: int | None = None


def crossing(
    watched: Watched, operator: Condition, threshold: float, now_ms: int
) -> Crossing | None:
    """When the forecast crosses `threshold`, or, for a value beyond it, comes back."""
    newest = watched.last
    t, v = watched.forecast.between(now_ms, 1 << 62)
    if newest is None or not len(t) or operator not in _BREAKS:
        return None
    upwards, inclusive = operator in _UPWARDS, operator in (Condition.GTE, Condition.LTE)

    def beyond(values: NDArray[np.float64]) -> NDArray[np.bool_]:
        further = values > threshold if upwards else values < threshold
        return np.asarray(further | (inclusive & (values == threshold)))

    returns = bool(beyond(np.array([newest[1]]))[0])
    lower, upper = (c.at(t) for c in (watched.forecast_lower, watched.forecast_upper))
    crossed = crossed_by(
        v, lower, upper, threshold, upwards != returns, inclusive=inclusive != returns
    )
    hits = np.flatnonzero(np.isfinite(v) & (beyond(v) != returns))
    middle = int(hits[0]) if len(hits) else None
    likely = first(crossed, LIKELY)
    places = [place for place in (middle, likely) if place is not None]
    if not places:
        return None
    at = min(places)
    if not (np.isfinite(lower[at]) and np.isfinite(upper[at])):
        return Crossing(int(t[at]), threshold, upwards, returns)
    when = passing(crossed)
    return Crossing(
        int(t[at]),
        threshold,
        upwards,
        returns,
        float(crossed[-1]),
        None if when.early is None else int(t[when.early]),
        None if when.late is None else int(t[when.late]),
    )


class Limit(NamedTuple):
    """What should not be crossed: by a rule, or, without one, because there is no more."""

    operator: Condition
    threshold: float
    rule: Rule | None = None


def limits(look: Look, w: Watched) -> Iterator[Limit]:
    """The limits that rules set to a series, with the direction that breaks them."""
    for rule in look.rules_for(w.series):
        operator = rule.operator if rule.condition is Condition.FORECAST else rule.condition
        score = rule.condition in (Condition.ANOMALY, Condition.PEERS)
        if rule.threshold is not None and not score:
            yield Limit(operator, rule.threshold, rule)


def natural(w: Watched) -> Limit | None:
    """All used or nothing free, where name and values leave no doubt which number that is.

    A series that was there within its samples is left out: it is often, and no news.
    Tried on made-up series, 24 steps ahead: told of none of 30 moments of busy machines and 108 of
    disks that are cleaned at 70 to 97 %, and of all 12 of 36 that were full in that time.
    """
    values = w.samples.v[np.isfinite(w.samples.v)]
    if not len(values):
        return None
    name, unit = w.series.name, words.unit_of(w.series.name)
    low, high = float(values.min()), float(values.max())
    if _USED.search(name) and unit in ("%", "ratio"):
        whole = 100.0 if unit == "%" else 1.0
        return Limit(Condition.GTE, whole) if low >= 0 and high < whole else None
    if _FREE.search(name):
        return Limit(Condition.LTE, 0.0) if low > 0 else None
    return None


def ahead(look: Look) -> Iterator[Finding]:
    """Forecasts that cross a limit within a day; the soonest and likeliest of each series."""
    for w in look.watched.values():
        found: list[tuple[float, Crossing, Rule | None]] = []
        for limit in (*limits(look, w), natural(w)):
            if limit is None:
                continue
            coming = crossing(w, limit.operator, limit.threshold, look.now_ms)
            if coming is None or coming.returns:
                continue
            if limit.rule is None and (found or not (coming.probability or 0.0) >= SURE):
                continue  # a rule's limit comes before
            found.append((_urgency(coming, look.now), coming, limit.rule))
        if found:
            urgency, coming, rule = max(found, key=lambda one: one[0])
            yield _told(look, w, coming, rule, urgency)


def _urgency(coming: Crossing, now: float) -> float:
    """The sooner and the likelier, the more: expected crossings an hour until then."""
    sure = LIKELY if coming.probability is None else coming.probability
    return sure / (1.0 + max(0.0, coming.at / 1000 - now) / 3600)


def _told(look: Look, w: Watched, coming: Crossing, rule: Rule | None, urgency: float) -> Finding:
    name, newest, sure = w.series.name, w.last, coming.probability
    text = when(coming, look.now)
    text += f"; the limit of “{rule.name}”" if rule else "; then there is no more"
    text += f"; {words.figure(newest[1], name)} now" if newest else ""
    return Finding(
        Kind.AHEAD,
        Severity.MEDIUM if sure is not None and sure >= WORTH else Severity.LOW,
        f"{words.named(w.series)} {'reaches' if coming.upwards else 'falls to'} "
        f"{words.figure(coming.threshold, name)}",
        text,
        (w.series.hex,),
        None,
        {
            "at": coming.at / 1000,
            "early": None if coming.early is None else coming.early / 1000,
            "late": None if coming.late is None else coming.late / 1000,
            "probability": None if sure is None else round(sure, 3),
            "threshold": coming.threshold,
            "rule": rule.name if rule else None,
            "value": newest[1] if newest else None,
        },
        urgency,
    )


def when(coming: Crossing, now: float) -> str:
    """“in 7 hours (5 to 9 hours), 97 % likely”."""
    text = f"in {words.span(coming.at / 1000 - now)}"
    if coming.probability is None:
        return text
    if coming.early is not None:
        early = words.span(coming.early / 1000 - now)
        late = None if coming.late is None else words.span(coming.late / 1000 - now)
        if late is None:
            text += f" ({early} or more)"
        elif early != late:
            text += f" ({_range(early, late)})"
    return f"{text}, {words.likely(coming.probability)}"


def _range(early: str, late: str) -> str:
    """“5 to 9 hours”, “90 minutes to 3 hours”."""
    count, _, unit = early.partition(words.SPACE)
    same = unit.removesuffix("s") == late.partition(words.SPACE)[2].removesuffix("s")
    return f"{count if same else early} to {late}"
