"""Judges the series that a rule selects, over the samples that a worker has in memory.

Pure: the head and the time are arguments. What models wrote is judged only where a rule names it.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.domain.durations import format_duration
from service.domain.rules import Condition, Rule
from service.domain.series import (
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    SCORE,
    MatchType,
    Selector,
    Series,
)
from service.query.selector import matches
from service.storage.columns import Columns

#: A series that is silent for longer has ended; `no_data` says nothing about it any more.
ENDED_SECONDS = 86_400.0

_FAR_MS = 2**62


class HeadReader(Protocol):
    """What judging needs of the head."""

    def series(self, tenant: str) -> Mapping[int, Series]:
        """Every series of a tenant, derived ones too."""
        ...

    def window(self, tenant: str, series: int, start_ms: int, end_ms: int) -> Columns:
        """Samples with `start_ms <= t <= end_ms`."""
        ...

    def last(self, tenant: str, series: int, at_ms: int) -> tuple[int, float] | None:
        """The newest sample with t <= `at_ms`."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says of one series now.

    `active` is None where nobody knows: there is no sample that is young enough. `value` is the
    series' own, None if it has none or one that is no number. `expectation` completes "it is
    0.12, …"; it is empty unless active.
    """

    series: Series
    labels: dict[str, str]
    active: bool | None
    value: float | None = None
    expectation: str = ""


class SeriesIndex:
    """Remembers which series a selector accepts, as long as a tenant has no new ones.

    Keep one per worker; without it every evaluation looks at every series.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Selections] = {}

    def select(self, tenant: str, known: Mapping[int, Series], selector: Selector) -> list[Series]:
        """The series that a rule with this selector judges."""
        found = self._tenants.get(tenant)
        if found is None or found.known is not known or found.size != len(known):
            found = self._tenants[tenant] = _Selections(known)
        return found.select(selector)

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        self._tenants.pop(tenant, None)


class _Selections:
    """The selections of one tenant over one set of series."""

    _MOST = 20_000

    def __init__(self, known: Mapping[int, Series]) -> None:
        self.known, self.size = known, len(known)
        self._by_pair: dict[tuple[str, str], list[Series]] = {}
        self._judged: list[Series] = []
        for series in known.values():
            for pair in series.labels:
                self._by_pair.setdefault(pair, []).append(series)
            if not series.is_derived:
                self._judged.append(series)
        self._selected: dict[Selector, list[Series]] = {}

    def select(self, selector: Selector) -> list[Series]:
        selected = self._selected.get(selector)
        if selected is None:
            if len(self._selected) >= self._MOST:
                self._selected.clear()
            selected = self._selected[selector] = self._find(selector)
        return selected

    def _find(self, selector: Selector) -> list[Series]:
        # An equality leaves few series, and only those are worth a look.
        fixed = [m for m in selector.matchers if m.type is MatchType.EQUAL and m.value]
        pools = [self._by_pair.get((m.name, m.value), []) for m in fixed]
        pool = min(pools, key=len, default=self._judged)
        named = selector.name is not None
        return [s for s in pool if (named or not s.is_derived) and matches(selector, s)]


def evaluate(
    rule: Rule,
    tenant: str,
    head: HeadReader,
    now: float,
    *,
    lookback_seconds: float = 300.0,
    anomaly_threshold: float = 0.999,
    index: SeriesIndex | None = None,
) -> list[Judgement]:
    """One judgement for each series that the rule selects; none for a rule that is disabled.

    `now` is Unix seconds; a sample older than `lookback_seconds` is no value any more.
    `anomaly_threshold` serves rules that name none.
    """
    if not rule.enabled:
        return []
    known = head.series(tenant)
    look = _Look(rule, tenant, head, known, round(now * 1000), round(lookback_seconds * 1000))
    judge: Callable[[Series], _Verdict]
    if rule.condition is Condition.ANOMALY:
        look.threshold = anomaly_threshold if rule.threshold is None else rule.threshold
        judge = look.anomaly
    elif rule.condition is Condition.FORECAST:
        judge = look.forecast
    elif rule.condition is Condition.NO_DATA:
        judge = look.no_data
    else:
        judge = look.comparison
    found = (index or SeriesIndex()).select(tenant, known, rule.query)
    return [Judgement(series, _labels(rule, series), *judge(series)) for series in found]


def _labels(rule: Rule, series: Series) -> dict[str, str]:
    return {**dict(series.labels), **rule.labels, "alertname": rule.name}


_Verdict = tuple[bool | None, float | None, str]
#: Bits of the NaN with which a sender ends a series.
STALE_MARKER = struct.pack("<Q", 0x7FF0000000000002)

_UNKNOWN: _Verdict = (None, None, "")

_COMPARE: dict[Condition, Callable[[float, float], bool]] = {
    Condition.GT: lambda value, threshold: value > threshold,
    Condition.GTE: lambda value, threshold: value >= threshold,
    Condition.LT: lambda value, threshold: value < threshold,
    Condition.LTE: lambda value, threshold: value <= threshold,
    Condition.EQ: lambda value, threshold: value == threshold,
    # NaN is unlike everything, yet it must not match.
    Condition.NE: lambda value, threshold: value < threshold or value > threshold,
}

_BROKEN = {
    Condition.GT: "above {}",
    Condition.GTE: "at or above {}",
    Condition.LT: "below {}",
    Condition.LTE: "at or below {}",
    Condition.EQ: "equal to {}",
    Condition.NE: "not {}",
}


class _Look:
    """One rule's look at one moment."""

    def __init__(
        self,
        rule: Rule,
        tenant: str,
        head: HeadReader,
        known: Mapping[int, Series],
        now_ms: int,
        lookback_ms: int,
    ) -> None:
        self.rule, self.tenant, self.head, self.known = rule, tenant, head, known
        self.now_ms, self.lookback_ms = now_ms, lookback_ms
        self.threshold = 0.0 if rule.threshold is None else rule.threshold
        self._holds = _COMPARE.get(
            rule.operator if rule.condition is Condition.FORECAST else rule.condition
        )
        self._said = _BROKEN.get(rule.condition, "").format(_exactly(self.threshold))

    def comparison(self, series: Series) -> _Verdict:
        """The newest value against the threshold."""
        last = self._young(series.id)
        if last is None or self._holds is None:
            return _UNKNOWN
        value = last[1]
        if self._holds(value, self.threshold):
            return True, _finite(value), self._said
        return False, _finite(value), ""

    def anomaly(self, series: Series) -> _Verdict:
        """The newest anomaly score against the threshold; the value is the series' own then."""
        score = self._young(self._derived(series, SCORE))
        if score is None:
            return _UNKNOWN
        at, high = score
        last = self.head.last(self.tenant, series.id, at)
        value = None if last is None else _finite(last[1])
        if not high >= self.threshold:
            return False, value, ""
        bounds = []
        for suffix in (EXPECTED_LOWER, EXPECTED_UPPER):
            derived = self._derived(series, suffix)
            bound = None if derived is None else self.head.last(self.tenant, derived, at)
            if bound is not None and at - bound[0] <= self.lookback_ms:
                bounds.append(bound[1])
        if len(bounds) < 2 or not all(map(math.isfinite, bounds)):
            return True, value, f"unlike its past (anomaly score {high:.4g})"
        return True, value, f"expected {_about(bounds[0])} to {_about(bounds[1])}"

    def forecast(self, series: Series) -> _Verdict:
        """The first sample of the forecast that crosses the threshold, within the horizon."""
        ahead = self._derived(series, FORECAST)
        last = self._young(series.id)
        if ahead is None or last is None or self._holds is None:
            return _UNKNOWN
        horizon = self.rule.horizon_seconds
        until = _FAR_MS if horizon is None else self.now_ms + round(horizon * 1000)
        t, v = self.head.window(self.tenant, ahead, self.now_ms + 1, until)
        if not len(t):
            return _UNKNOWN
        value = _finite(last[1])
        crossing = np.fromiter((self._holds(x, self.threshold) for x in v.tolist()), bool, len(v))
        if not crossing.any():
            return False, value, ""
        seconds = (int(t[int(crossing.argmax())]) - self.now_ms) / 1000
        verb = "reaches" if self.rule.operator in (Condition.GT, Condition.GTE) else "falls to"
        return True, value, f"{verb} {_exactly(self.threshold)} in {format_duration(seconds)}"

    def no_data(self, series: Series) -> _Verdict:
        """Whether the newest sample is older than the window."""
        last = self.head.last(self.tenant, series.id, self.now_ms)
        if last is None:
            return _UNKNOWN
        silent = (self.now_ms - last[0]) / 1000
        window = self.rule.window_seconds
        if silent <= window:
            return False, _finite(last[1]), ""
        if silent > max(ENDED_SECONDS, 2 * window):
            return _UNKNOWN
        return True, None, f"no data for {format_duration(silent)}"

    def _derived(self, series: Series, suffix: str) -> int | None:
        derived = series.derived(suffix).id
        return derived if derived in self.known else None

    def _young(self, series: int | None) -> tuple[int, float] | None:
        if series is None:
            return None
        last = self.head.last(self.tenant, series, self.now_ms)
        if last is None or self.now_ms - last[0] > self.lookback_ms or is_stale(last[1]):
            return None
        return last


def is_stale(value: float) -> bool:
    """Whether it is the NaN with which a Prometheus says that a series has ended.

    Then nothing is known of it any more, which is not the same as being well.
    """
    return value != value and struct.pack("<d", value) == STALE_MARKER


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _exactly(value: float) -> str:
    return f"{value:.10g}"


def _about(value: float) -> str:
    size = abs(value)
    if 1000 <= size < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size >= 1e-4 else f"{value:.3g}"
