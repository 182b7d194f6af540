"""Rules that run over series in memory, step by step, as Prometheus runs them.

Recording rules write series, alerts write `ALERTS` and `ALERTS_FOR_STATE`; what a rule does not
give any more ends with a stale marker. Times are milliseconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.errors import InvalidInput, Unavailable, Unprocessable
from service.domain.series import NAME, LabelPairs
from service.query.promql.evaluate import Settings
from service.query.promql.literal import STALE, Literal
from service.rules.asking import Sampled, asked, instant
from service.rules.groups import GroupRule, RuleGroup
from service.rules.templates import AlertData, expand_all

#: How long a resolved alert is remembered.
_RETENTION_MS = 15 * 60_000


class State(StrEnum):
    """What an alert is, as Prometheus calls it."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(slots=True)
class Alert:
    """One alert of a rule."""

    labels: LabelPairs
    annotations: dict[str, str]
    active_ms: int
    value: float
    state: State = State.PENDING
    resolved_ms: int | None = None
    keep_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule that could not be evaluated."""

    rule: str
    t_ms: int
    reason: str


@dataclass(slots=True)
class _Running:
    """A rule, and what is remembered of it."""

    rule: GroupRule
    active: dict[LabelPairs, Alert] = field(default_factory=dict)
    before: set[LabelPairs] = field(default_factory=set)


class Evaluation:
    """Groups of rules over one source; `at` is called for each time, in order."""

    def __init__(
        self,
        groups: Sequence[RuleGroup],
        source: Literal,
        settings: Settings,
        external_labels: Mapping[str, str] | None = None,
        external_url: str = "",
    ) -> None:
        self._groups = [(group, [_Running(rule) for rule in group.rules]) for group in groups]
        self._source = source
        self._settings = settings
        self._external_labels = dict(external_labels or {})
        self._external_url = external_url

    def at(self, t_ms: int) -> list[RuleFailure]:
        """Evaluate every rule of every group, in order; which of them could not be."""
        failures: list[RuleFailure] = []
        for group, running in self._groups:
            for one in running:
                try:
                    reason = self._evaluate(group, one, t_ms)
                except (InvalidInput, Unavailable) as error:
                    reason = str(error)
                if reason:
                    failures.append(RuleFailure(one.rule.name, t_ms, reason))
        return failures

    def firing(self, name: str) -> list[Alert]:
        """The alerts of that name that fire, of all groups."""
        return [
            alert
            for _, running in self._groups
            for one in running
            if one.rule.alert == name
            for alert in one.active.values()
            if alert.state is State.FIRING and alert.resolved_ms is None
        ]

    def _evaluate(self, group: RuleGroup, one: _Running, t_ms: int) -> str:
        """Evaluate a rule and write what it gives; why not all of it could be written."""
        at = t_ms - group.query_offset_ms
        found = instant(one.rule.expr, self._source, at, self._settings)
        if one.rule.alert:
            samples = self._alerts(group, one, found, t_ms)
        else:
            samples = _recorded(group, one.rule, found)
        reason = ""
        written: set[LabelPairs] = set()
        for labels, value in samples:
            try:
                self._source.append(labels, at, value)
                written.add(labels)
            except Unprocessable as error:
                reason = str(error)
        for labels in one.before - written:
            try:
                self._source.append(labels, at, STALE)
            except Unprocessable:
                continue  # another rule writes this series
        one.before = written
        return reason

    def _alerts(self, group: RuleGroup, one: _Running, found: Sampled, t_ms: int) -> Sampled:
        rule, active = one.rule, one.active
        current: dict[LabelPairs, Alert] = {}
        for labels, value in found:
            alert = self._alert(rule, labels, value, t_ms)
            if alert.labels in current:
                raise Unprocessable(
                    "vector contains metrics with the same labelset after applying alert labels"
                )
            current[alert.labels] = alert
        for labels, alert in current.items():
            known = active.get(labels)
            if known is not None and known.state is not State.INACTIVE:
                known.value, known.annotations = alert.value, alert.annotations
            else:
                active[labels] = alert
        samples: Sampled = []
        number = 0
        for labels, alert in list(active.items()):
            if labels in current:
                alert.keep_since_ms = None
            elif not _kept(rule, alert, t_ms):
                _resolve(active, labels, alert, t_ms)
                continue
            number += 1
            if alert.state is State.PENDING and t_ms - alert.active_ms >= rule.for_ms:
                alert.state = State.FIRING
            samples += _states(rule, alert)
        if 0 < group.limit < number:
            active.clear()
            raise Unprocessable(f"exceeded limit of {group.limit} with {number} alerts")
        return samples

    def _alert(self, rule: GroupRule, labels: LabelPairs, value: float, t_ms: int) -> Alert:
        data = AlertData(dict(labels), value, self._external_labels, self._external_url)

        query = asked(self._source, t_ms, self._settings)
        own = expand_all(rule.labels, rule.alert, data, t_ms, query)
        whole = {**dict(labels), **own, "alertname": rule.alert}
        whole.pop(NAME, None)
        annotations = expand_all(rule.annotations, rule.alert, data, t_ms, query)
        return Alert(_pairs(whole.items()), annotations, t_ms, value)


def _pairs(labels: Iterable[tuple[str, str]]) -> LabelPairs:
    return tuple(sorted((name, value) for name, value in labels if value))


def _kept(rule: GroupRule, alert: Alert, t_ms: int) -> bool:
    """Whether an alert that nothing speaks for any more fires on for a while."""
    if alert.state is not State.FIRING or rule.keep_firing_ms <= 0:
        return False
    if alert.keep_since_ms is None:
        alert.keep_since_ms = t_ms
    return t_ms - alert.keep_since_ms < rule.keep_firing_ms


def _resolve(active: dict[LabelPairs, Alert], labels: LabelPairs, alert: Alert, t_ms: int) -> None:
    old = alert.resolved_ms is not None and t_ms - alert.resolved_ms > _RETENTION_MS
    if alert.state is State.PENDING or old:
        del active[labels]
    if alert.state is not State.INACTIVE:
        alert.state, alert.resolved_ms = State.INACTIVE, t_ms


def _states(rule: GroupRule, alert: Alert) -> Sampled:
    """The samples of `ALERTS` and `ALERTS_FOR_STATE`."""
    labels = {**rule.labels, **dict(alert.labels), "alertname": rule.alert}
    state = {**labels, NAME: "ALERTS", "alertstate": str(alert.state)}
    since = {**labels, NAME: "ALERTS_FOR_STATE"}
    return [
        (_pairs(state.items()), 1.0),
        (_pairs(since.items()), float(alert.active_ms // 1000)),
    ]


def _recorded(group: RuleGroup, rule: GroupRule, found: Sampled) -> Sampled:
    samples = [
        (_pairs({**dict(labels), NAME: rule.record, **rule.labels}.items()), value)
        for labels, value in found
    ]
    if len({labels for labels, _ in samples}) < len(samples):
        raise Unprocessable(
            "vector contains metrics with the same labelset after applying rule labels"
        )
    if 0 < group.limit < len(samples):
        raise Unprocessable(f"exceeded limit of {group.limit} with {len(samples)} series")
    return samples
