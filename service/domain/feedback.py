"""What people say of alerts, and what follows from it.

A verdict moves, for one rule and one series, the share p of ordinary rows that may alert: each
`noise` halves it, each `useful` makes it half as large again, each `expected` counts like half a
noise. A verdict's weight halves every thirty days, and all of them together move p at most to a
sixteenth or to four times what the rule says.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What an alert was worth."""

    USEFUL = "useful"  # an anomaly, and good to know
    NOISE = "noise"  # nothing was the matter
    EXPECTED = "expected"  # unlike the past, and known beforehand: a release, a sale


#: By how much one verdict moves p, and how far all of them may.
FACTORS = {Verdict.USEFUL: 1.5, Verdict.NOISE: 0.5, Verdict.EXPECTED: math.sqrt(0.5)}
LEAST, MOST = 1 / 16, 4.0
#: Seconds after which a verdict has half its weight, and none.
HALF_LIFE_SECONDS = 30 * 86_400.0
FORGOTTEN_SECONDS = 6 * HALF_LIFE_SECONDS
#: No feedback makes more than half of the rows alert.
_P_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Adjustment:
    """By which `factor` p is moved for a series, and how many verdicts of which kind did it."""

    factor: float = 1.0
    verdicts: Mapping[Verdict, int] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """`2 × noise, 1 × useful`; empty without verdicts."""
        return ", ".join(f"{count} × {verdict}" for verdict, count in self.verdicts.items())


UNMOVED = Adjustment()


def adjustment(said: Iterable[tuple[Verdict, float]], now: float) -> Adjustment:
    """What verdicts with their times (Unix seconds) come to at `now`; forgotten ones do not count.

    Of several verdicts on one alert, hand in the newest: an alert counts once.
    """
    exponent = 0.0
    counts = dict.fromkeys(Verdict, 0)
    for verdict, at in said:
        age = max(0.0, now - at)
        if age >= FORGOTTEN_SECONDS:
            continue
        counts[verdict] += 1
        exponent += math.log2(FACTORS[verdict]) * 0.5 ** (age / HALF_LIFE_SECONDS)
    factor = min(max(2.0**exponent, LEAST), MOST)
    return Adjustment(factor, {verdict: count for verdict, count in counts.items() if count})


def moved(threshold: float, factor: float) -> float:
    """The score from which a series alerts whose p is moved by `factor`."""
    p = 1.0 - threshold
    return threshold if factor == 1.0 else 1.0 - min(p * factor, max(p, _P_MAX))


def in_words(threshold: float | None, found: Adjustment) -> str:
    """`threshold 0.99975 (raised from 0.999 by 2 × noise)`; empty where nothing was said.

    `threshold` is the rule's own, None where a budget sets it anew at each evaluation.
    """
    if not found.verdicts:
        return ""
    if threshold is None:
        way = "rarer" if found.factor < 1 else "more common"
        times = max(found.factor, 1 / found.factor)
        return f"anomalies alert that are {times:.2g} times {way} ({found.reason})"
    new = moved(threshold, found.factor)
    if rounded(new) == rounded(threshold):
        return f"threshold {rounded(threshold)} (unchanged by {found.reason})"
    way = "raised" if new > threshold else "lowered"
    return f"threshold {rounded(new)} ({way} from {rounded(threshold)} by {found.reason})"


def rounded(threshold: float) -> str:
    """A threshold with two digits of what is missing to 1, no more than it has."""
    p = 1.0 - threshold
    digits = 1 - math.floor(math.log10(p)) if p > 0 else 12
    return f"{round(threshold, max(2, digits)):.12g}"


def leaves_out(verdict: Verdict | None, *, acknowledged: bool) -> bool:
    """Whether models learn nothing of the time of an alert with that newest verdict.

    `useful` says that it was an anomaly, and so does an acknowledgement where nobody said more.
    What was noise or expected is learned: so it becomes ordinary.
    """
    return acknowledged if verdict is None else verdict is Verdict.USEFUL
