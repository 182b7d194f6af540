"""The condition `anomaly`: the score against a threshold, or the alert stream against a budget.

With a budget an anomaly begins with a row whose alert score is rarer than the budget allows, and
lasts until the series has been calm for a while: its score low, or, if it had left its expected
range, back in it (the score remembers an anomaly for longer than it lasts). In between it is one
alert, whatever the score does: the alert stream speaks again only of what is worse still.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.base import Flags
from models.suppression import threshold as rarest
from service.domain.confidence import PAGES_FROM
from service.domain.feedback import moved
from service.domain.series import (
    ALERT,
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    SCORE,
    Selector,
    Series,
)
from service.rules.inflow import NOTHING, Inflow, Inflows
from service.rules.sight import UNKNOWN, Sight, Verdict, about, finite
from service.storage.columns import Times, Values

#: An anomaly is over when the series has been calm for so many rows and so long.
CALM, CALM_ROWS, CALM_MS = 0.99, 5, 300_000

Confidence = Mapping[int, float]


@dataclass(slots=True)
class Anomalies:
    """A look at anomalies of the series that `query` selects.

    `threshold` is the score that is anomalous; with `alerts_a_week` these are spent instead.
    `confidence` by series id; None: of all we are sure. `factors` are what feedback multiplies the
    share of rows by that may alert, by fingerprint.
    """

    query: Selector
    threshold: float
    alerts_a_week: float | None
    sight: Sight
    inflows: Inflows
    confidence: Confidence | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    _inflow: Inflow = NOTHING
    _rarest: float = np.inf

    def prepare(self, selected: Sequence[Series]) -> None:
        """Share the budget among the series that may spend it."""
        if self.alerts_a_week is None:
            return
        able = [series for series in selected if self._sure(series)]
        self._inflow = self.inflows.of(self.sight, self.query, able)
        if self._inflow.series:
            self._rarest = rarest(self.alerts_a_week, self._inflow.rows_a_week)

    def judge(self, series: Series) -> Verdict:
        """Whether an anomaly goes on."""
        scores = self.sight.derived(series, SCORE)
        score = self.sight.young(scores)
        if scores is None or score is None:
            return UNKNOWN
        at, high = score
        last = self.sight.last(series.id, at)
        value = None if last is None else finite(last[1])
        usual = moved(self.threshold, self._factor(series))
        if not self._sure(series):
            if not high >= usual:
                return Verdict(False, value)
            return Verdict(None, value, held=self._too_little(series))
        if self.alerts_a_week is not None:
            said = self._goes_on(series, scores, at)
        else:
            said = self._unlike(series, at, high) if high >= usual else ""
        return Verdict(bool(said), value, said)

    def _factor(self, series: Series) -> float:
        return self.factors.get(series.hex, 1.0) if self.factors else 1.0

    def _sure(self, series: Series) -> bool:
        return self.confidence is None or self.confidence.get(series.id, 0.0) >= PAGES_FROM

    def _too_little(self, series: Series) -> str:
        sure = 0.0 if self.confidence is None else self.confidence.get(series.id, 0.0)
        return f"too little is known of it (confidence {sure:.2f}, {PAGES_FROM:g} is needed)"

    def _unlike(self, series: Series, at: int, high: float) -> str:
        """What was expected at the time of a score."""
        low = self._at(series, EXPECTED_LOWER, at)
        upp = self._at(series, EXPECTED_UPPER, at)
        if low is None or upp is None:
            return f"unlike its past (anomaly score {high:.4g})"
        return f"expected {about(low)} to {about(upp)}"

    def _goes_on(self, series: Series, scores: int, at: int) -> str:
        """The anomaly that goes on at `at`, in words; empty if there is none."""
        alert = self.sight.derived(series, ALERT)
        if alert is None:
            return ""
        t, v = self.sight.window(alert, 0, at)
        loud = np.flatnonzero(v >= moved(self._rarest, self._factor(series)))
        if not len(loud):
            return ""
        since, rarity = int(t[loud[-1]]), float(v[loud[-1]])
        t, v = self.sight.window(scores, since, at)
        if _has_calmed(t, (v >= CALM) & ~self._is_back(series, t)):
            return ""
        return self._rare(series, since, rarity)

    def _is_back(self, series: Series, t: Times) -> Flags:
        """Where a value that had left its range is in it again, at times (n,) from then on."""
        value, low, upp = (
            self._aligned(i, t)
            for i in (
                series.id,
                self.sight.derived(series, EXPECTED_LOWER),
                self.sight.derived(series, EXPECTED_UPPER),
            )
        )
        inside = (value >= low) & (value <= upp)  # not, where any of them is missing
        known = np.isfinite(value) & np.isfinite(low) & np.isfinite(upp)
        left = len(t) > 0 and bool(known[0] and not inside[0])
        return inside if left else np.zeros(len(t), np.bool_)

    def _aligned(self, series: int | None, t: Times) -> Values:
        """The values of a series at exactly the times (n,), NaN where there is none."""
        if series is None or not len(t):
            return np.full(len(t), np.nan)
        return self.sight.window(series, int(t[0]), int(t[-1])).at(t)

    def _rare(self, series: Series, at: int, rarity: float) -> str:
        often = _often((1.0 - rarity) * self._inflow.rows_a_week)
        said = f"unlike its past, as happens {often} over {self._inflow.series:,} series"
        seen = self.sight.last(series.id, at)
        value = None if seen is None else finite(seen[1])
        low, middle, upp = (
            self._at(series, suffix, at) for suffix in (EXPECTED_LOWER, EXPECTED, EXPECTED_UPPER)
        )
        if value is not None and middle is not None:
            said += f"; seen {about(value)}, expected {about(middle)}"
            if low is not None and upp is not None:
                said += f" ({about(low)} to {about(upp)})"
        return said

    def _at(self, series: Series, suffix: str, at: int) -> float | None:
        """What a model wrote for the time `at`, or not long before."""
        derived = self.sight.derived(series, suffix)
        found = None if derived is None else self.sight.last(derived, at)
        if found is None or at - found[0] > self.sight.lookback_ms:
            return None
        return finite(found[1])


def _has_calmed(t: Times, high: Flags) -> bool:
    """Whether a stretch of calm, long enough, follows the first of the rows (n,)."""
    if len(high):
        high[0] = True  # there the anomaly spoke, whatever its score
    edges = np.append(np.flatnonzero(high), len(high))
    calm = np.diff(edges) - 1
    long = np.flatnonzero(calm >= CALM_ROWS)
    return bool((t[edges[long + 1] - 1] - t[edges[long] + 1] >= CALM_MS).any())


def _often(a_week: float) -> str:
    """A rate in words: `about 2 times a week`."""
    for period, count in (("week", a_week), ("month", a_week * 52 / 12), ("year", a_week * 52)):
        if (times := round(count)) >= 1:
            return f"about {'once' if times == 1 else f'{times:,} times'} a {period}"
    return "less than once a year"
