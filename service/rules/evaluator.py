"""Judges the series that a rule selects, over the samples that a worker has in memory.

Pure: the head and the time are arguments. What models wrote is judged only where a rule names it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from service.domain.durations import format_duration
from service.domain.rules import Condition, Rule
from service.domain.series import MatchType, Selector, Series
from service.query.selector import matches
from service.rules.anomalies import Anomalies, Confidence
from service.rules.changes import Changes, ChangesSeen
from service.rules.forecasts import Forecasts
from service.rules.inflow import Inflows
from service.rules.peers import PeerGroups
from service.rules.sight import UNKNOWN, HeadReader, Sight, Verdict, finite

#: A series that is silent for longer has ended; `no_data` says nothing about it any more.
ENDED_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says of one series now.

    `active` is None where nobody knows: there is no sample that is young enough. `value` is the
    series' own, None if it has none or one that is no number. `expectation` completes "it is
    0.12, …"; it is empty unless active. `held` says why what meets the rule alerts nobody; `active`
    is None then. `note` says what the rule cannot see of it.
    """

    series: Series
    labels: dict[str, str]
    active: bool | None
    value: float | None = None
    expectation: str = ""
    held: str = ""
    note: str = ""


class SeriesIndex:
    """Remembers which series a selector accepts; of series that come it looks at those alone.

    Keep one per worker; without it every evaluation looks at every series. `inflows` remembers
    how many rows they bring, `changes` when their level changed.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, _Selections] = {}
        self.inflows = Inflows()
        self.changes = ChangesSeen()

    def select(self, tenant: str, known: Mapping[int, Series], selector: Selector) -> list[Series]:
        """The series that a rule with this selector judges."""
        found = self._tenants.get(tenant)
        if found is None or not found.follows(known):
            found = self._tenants[tenant] = _Selections(known)
        return found.select(selector)

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        self._tenants.pop(tenant, None)
        self.inflows.forget(tenant)
        self.changes.forget(tenant)


class _Selections:
    """The selections of one tenant over one set of series."""

    _MOST = 20_000

    def __init__(self, known: Mapping[int, Series]) -> None:
        self._known, self._size = known, len(known)
        self._by_pair: dict[tuple[str, str], list[Series]] = {}
        self._judged: list[Series] = []
        self._selected: dict[Selector, list[Series]] = {}
        self._take(known.values())

    def follows(self, known: Mapping[int, Series]) -> bool:
        """Whether these are the series, now that what is new is taken in; not if some are gone."""
        if known is self._known and len(known) == self._size:
            return True
        if known is self._known or not self._known.keys() <= known.keys():
            return False
        new = [series for i, series in known.items() if i not in self._known]
        self._known, self._size = known, len(known)
        self._take(new)
        for selector, selected in self._selected.items():
            if more := _matching(selector, new):
                self._selected[selector] = selected + more
        return True

    def _take(self, new: Iterable[Series]) -> None:
        for series in new:
            for pair in series.labels:
                self._by_pair.setdefault(pair, []).append(series)
            if not series.is_derived:
                self._judged.append(series)

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
        return _matching(selector, pool)


def _matching(selector: Selector, pool: Iterable[Series]) -> list[Series]:
    """Those that a rule with this selector judges: what models say only if it is named."""
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
    confidence: Confidence | None = None,
    factors: Mapping[str, float] | None = None,
    firing: Collection[str] = (),
) -> list[Judgement]:
    """One judgement for each series that the rule selects; none for a rule that is disabled.

    `now` is Unix seconds; a sample older than `lookback_seconds` is no value any more.
    `anomaly_threshold` serves rules that name none. `confidence` is that of models, by series id:
    what is said with too little of it alerts nobody. Without it, all of them are trusted. `factors`
    are what feedback has moved the rule's anomaly threshold by, by fingerprint; `firing` those
    whose alert of this rule fires.
    """
    if not rule.enabled:
        return []
    index = index or SeriesIndex()
    known = head.series(tenant)
    sight = Sight(tenant, head, known, round(now * 1000), round(lookback_seconds * 1000))
    found = index.select(tenant, known, rule.query)
    judge: Callable[[Series], Verdict]
    if rule.condition is Condition.ANOMALY:
        anomalies = Anomalies(
            rule, sight, index.inflows, anomaly_threshold, confidence, factors or {}
        )
        anomalies.prepare(found)
        judge = anomalies.judge
    elif rule.condition is Condition.FORECAST:
        forecasts = Forecasts(rule, sight, firing)
        forecasts.prepare(found)
        judge = forecasts.judge
    elif rule.condition is Condition.NO_DATA:
        judge = _Look(rule, sight).no_data
    elif rule.condition is Condition.CHANGE:
        changes = Changes(rule, sight, index.changes)
        changes.prepare(found)
        judge = changes.judge
    elif rule.condition is Condition.PEERS:
        judge = PeerGroups(rule, sight, found).judge
    else:
        judge = _Look(rule, sight).comparison
    return [Judgement(series, _labels(rule, series), *judge(series)) for series in found]


def _labels(rule: Rule, series: Series) -> dict[str, str]:
    return {**dict(series.labels), **rule.labels, "alertname": rule.name}


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

    def __init__(self, rule: Rule, sight: Sight) -> None:
        self.rule, self.sight = rule, sight
        self.threshold = 0.0 if rule.threshold is None else rule.threshold
        self._holds = _COMPARE.get(rule.condition)
        self._said = _BROKEN.get(rule.condition, "").format(_exactly(self.threshold))

    def comparison(self, series: Series) -> Verdict:
        """The newest value against the threshold."""
        last = self.sight.young(series.id)
        if last is None or self._holds is None:
            return UNKNOWN
        value = last[1]
        if self._holds(value, self.threshold):
            return Verdict(True, finite(value), self._said)
        return Verdict(False, finite(value), "")

    def no_data(self, series: Series) -> Verdict:
        """Whether the newest sample is older than the window."""
        last = self.sight.last(series.id, self.sight.now_ms)
        if last is None:
            return UNKNOWN
        silent = (self.sight.now_ms - last[0]) / 1000
        window = self.rule.window_seconds
        if silent <= window:
            return Verdict(False, finite(last[1]), "")
        if silent > max(ENDED_SECONDS, 2 * window):
            return UNKNOWN
        return Verdict(True, None, f"no data for {format_duration(silent)}")


def _exactly(value: float) -> str:
    return f"{value:.10g}"
