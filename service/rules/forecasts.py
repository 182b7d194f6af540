"""The rule condition `forecast`: what is forecast of a series, against the rule's threshold.

Without a `probability` the middle of the forecast must cross; with one, the series must do so with
at least that probability. An alert that fires stays until the probability is clearly lower:
forecasts are renewed all the time, and what is just likely enough is so by a hair.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.base import Array, Flags
from models.crossing import crossing
from service.domain.durations import format_duration
from service.domain.rules import LIKELY, Condition, Rule
from service.domain.series import FORECAST, FORECAST_LOWER, FORECAST_UPPER, Series
from service.rules.sight import UNKNOWN, Sight, Verdict, finite
from service.storage.columns import Columns, Times, Values

#: An alert that fires is over when it is less likely than this share of what the rule asks.
STAYS = 0.75
#: Steps, or seconds of a dense stream, by which a forecast may be old: so much less far it reaches.
RENEWED, RENEWED_SECONDS = 8, 120.0
#: Seconds between samples below which nobody is told what a rule does not see.
OFTEN = 15.0

_FAR_MS = 2**62

_BEYOND: dict[Condition, Callable[[Array, float], Flags]] = {
    Condition.GT: np.greater,
    Condition.GTE: np.greater_equal,
    Condition.LT: np.less,
    Condition.LTE: np.less_equal,
}


class _Ahead(NamedTuple):
    """The forecast of a series within a rule's horizon: times (n,) and values (n,)."""

    series: Series
    now: float | None
    t: Times
    value: Values
    lower: Values
    upper: Values


@dataclass(slots=True)
class Forecasts:
    """A look at forecasts: do they cross `threshold` as `operator` says within `horizon_seconds`,
    or as far as they reach, with `probability`, or their middle?

    `firing` are the ids (hex) of series whose alert fires.
    """

    operator: Condition
    threshold: float
    horizon_seconds: float | None
    probability: float | None
    sight: Sight
    firing: Collection[str] = ()
    _said: dict[int, Verdict] = field(default_factory=dict)

    def prepare(self, selected: Sequence[Series]) -> None:
        """Judge the series together."""
        found = [ahead for series in selected if (ahead := self._ahead(series)) is not None]
        if not found:
            return
        longest = max(len(ahead.t) for ahead in found)
        value = _stacked([ahead.value for ahead in found], longest)
        lower = _stacked([ahead.lower for ahead in found], longest)
        upper = _stacked([ahead.upper for ahead in found], longest)
        operator, threshold = self.operator, self.threshold
        above = operator in (Condition.GT, Condition.GTE)
        inclusive = operator in (Condition.GTE, Condition.LTE)
        likely = crossing(value, lower, upper, threshold, above, inclusive=inclusive)
        asked = LIKELY if self.probability is None else self.probability
        meets = likely >= asked
        if self.probability is None:
            meets = _BEYOND[operator](value, threshold)
        stays = likely >= STAYS * asked
        known = np.isfinite(lower) & np.isfinite(upper)
        for row, ahead in enumerate(found):
            hits = np.flatnonzero(meets[row])
            if not len(hits) and ahead.series.hex in self.firing:
                hits = np.flatnonzero(stays[row])
            said = ""
            if len(hits):
                place = int(hits[0])
                sure = float(likely[row, place]) if known[row, place] else None
                said = self._words(int(ahead.t[place]), threshold, above, sure)
            self._said[ahead.series.id] = Verdict(
                bool(len(hits)), ahead.now, said, note=self._short(ahead)
            )

    def judge(self, series: Series) -> Verdict:
        """Unknown of a series that is silent or of which nothing is forecast."""
        return self._said.get(series.id, UNKNOWN)

    def _ahead(self, series: Series) -> _Ahead | None:
        middle = self.sight.derived(series, FORECAST)
        last = self.sight.young(series.id)
        if middle is None or last is None:
            return None
        t, value = self._window(middle)
        if not len(t):
            return None
        lower, upper = (
            self._beside(series, suffix, t) for suffix in (FORECAST_LOWER, FORECAST_UPPER)
        )
        return _Ahead(series, finite(last[1]), t, value, lower, upper)

    def _beside(self, series: Series, suffix: str, t: Times) -> Values:
        derived = self.sight.derived(series, suffix)
        found = Columns.empty() if derived is None else self._window(derived)
        return found.v if np.array_equal(found.t, t) else found.at(t)

    def _window(self, series: int) -> Columns:
        horizon, now_ms = self.horizon_seconds, self.sight.now_ms
        until = _FAR_MS if horizon is None else now_ms + round(horizon * 1000)
        return self.sight.window(series, now_ms + 1, until)

    def _words(self, at_ms: int, threshold: float, above: bool, sure: float | None) -> str:
        """`reaches 90 in 7h (80 % likely)`; without an interval nobody knows how likely."""
        seconds = (at_ms - self.sight.now_ms) / 1000
        verb = "reaches" if above else "falls to"
        text = f"{verb} {threshold:.10g} in {format_duration(seconds)}"
        if sure is None:
            return text
        percent = round(100 * sure)
        return f"{text} ({f'{percent} %' if percent < 100 else 'over 99 %'} likely)"

    def _short(self, ahead: _Ahead) -> str:
        """That the forecast ends before the horizon does, in words."""
        horizon = self.horizon_seconds
        if horizon is None or len(ahead.t) < 2:
            return ""
        reach = (int(ahead.t[-1]) - self.sight.now_ms) / 1000
        step = float(np.median(np.diff(ahead.t))) / 1000
        if reach + max(RENEWED * step, RENEWED_SECONDS + 2 * step) >= horizon:
            return ""
        return f"it is forecast for {format_duration(reach)}, not for {format_duration(horizon)}"


def _stacked(rows: Sequence[Values], longest: int) -> Array:
    """Rows (k, longest), NaN where one ends before."""
    stacked = np.full((len(rows), longest), np.nan)
    for place, row in enumerate(rows):
        stacked[place, : len(row)] = row
    return stacked


def looks_further(rules: Iterable[Rule], steps: int) -> list[str]:
    """Of the rules with a horizon, of which series they see less, as models look `steps` ahead."""
    notes = []
    for rule in rules:
        if rule.condition is not Condition.FORECAST or rule.horizon_seconds is None:
            continue
        step = rule.horizon_seconds / steps
        if step > OFTEN:
            notes.append(
                f"{rule.name!r} looks {format_duration(rule.horizon_seconds)} ahead: a series with "
                f"a sample more often than every {format_duration(step)} is forecast less far "
                f"({steps} samples, TREND_FORECAST_HORIZON)"
            )
    return notes
