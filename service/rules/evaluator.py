"""Judges the series that a rule selects, over the samples that a worker has in memory.

Every rule is a PromQL expression (see `service.rules.rewriting`), which gives the series that break
it. Pure: the head and the time are arguments.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from service.domain.rules import Rule
from service.domain.series import LabelPairs, Series, series_id
from service.query.promql.budget import Limits
from service.query.promql.evaluate import Settings
from service.query.promql.evaluate import evaluate as evaluate_expression
from service.query.promql.vectors import Steps, Vector, is_stale
from service.rules.anomalies import Confidence
from service.rules.asking import asked
from service.rules.changes import ChangesSeen
from service.rules.course import SERIES_MAX, compared, courses_until
from service.rules.functions import ANOMALOUS, Judging
from service.rules.head_source import HeadSource
from service.rules.inflow import Inflows
from service.rules.looks import HeadLook
from service.rules.plans import Plan, Plans
from service.rules.selections import SeriesIndex
from service.rules.sight import UNKNOWN, HeadReader, Verdict, finite
from service.rules.templates import AlertData, expand_all
from service.storage.columns import Columns

#: What one rule may cost: its tenant has others, and the worker other tenants.
LIMITS = Limits(samples=5_000_000, series=100_000, points=2_000_000, seconds=2.0)
#: How far back the picture of an alert goes that an expression raised.
_COURSE_SECONDS = 7200.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says of one series now.

    `active` is None where nobody knows: there is no sample that is young enough. `value` is that of
    the expression, None if there is none or it is no number. `labels`, those of the alert, and
    `expectation`, which completes "it is 0.12, …", are empty unless active. `held` says why what
    meets the rule alerts nobody; `active` is None then. `note` says what the rule cannot see of it.
    `annotations` are the rule's with their templates expanded, for a series whose alert may begin;
    then `course` is how the value went before, where it is that of no series.
    """

    series: Series
    labels: dict[str, str]
    active: bool | None
    value: float | None = None
    expectation: str = ""
    held: str = ""
    note: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    course: Columns | None = field(default=None, compare=False)


@dataclass(slots=True)
class Memory:
    """What evaluations remember of each other: keep one per worker.

    Which series selectors accept, rules as expressions, how many rows series bring, and when their
    level changed.
    """

    index: SeriesIndex = field(default_factory=SeriesIndex)
    plans: Plans = field(default_factory=Plans)
    inflows: Inflows = field(default_factory=Inflows)
    changes: ChangesSeen = field(default_factory=ChangesSeen)

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        for part in (self.index, self.plans, self.inflows, self.changes):
            part.forget(tenant)


def evaluate(
    rule: Rule,
    tenant: str,
    head: HeadReader,
    now: float,
    *,
    lookback_seconds: float = 300.0,
    anomaly_threshold: float = ANOMALOUS,
    memory: Memory | None = None,
    confidence: Confidence | None = None,
    factors: Mapping[str, float] | None = None,
    firing: Collection[str] = (),
    public_url: str = "",
    well_too: bool = True,
) -> list[Judgement]:
    """What is to be said of series; nothing for a rule that is disabled.

    `now` is Unix seconds; a sample that is `lookback_seconds` old is no value any more.
    `anomaly_threshold` serves rules that name none. `confidence` is that of models, by series id:
    what is said with too little of it alerts nobody. Without it, all of them are trusted. `factors`
    are what feedback has moved the rule's anomaly threshold by, by fingerprint; `firing` those
    whose alert of this rule fires. `public_url` is what templates link to.
    Without `well_too` a series of which there is nothing to tell is left out: no alert needs it.

    Raises `OffbeatError` for an expression that cannot be answered over these samples.
    """
    if not rule.enabled:
        return []
    memory = memory or Memory()
    plan = memory.plans.of(tenant, rule)
    source = HeadSource(tenant, head, memory.index)
    now_ms, lookback_ms = round(now * 1000), round(lookback_seconds * 1000)
    settings, verdicts = Settings(lookback_ms, limits=LIMITS), dict[int, Verdict]()
    if plan.filters:
        judging = Judging(
            HeadLook(tenant, head, memory.index, lookback_ms),
            memory.inflows,
            memory.changes,
            anomaly_threshold,
            confidence,
            factors or {},
            firing,
            verdicts,
        )
        settings = replace(settings, functions=judging.functions())
    value = evaluate_expression(plan.expr, source, Steps(now_ms, now_ms), settings).value
    breaking = _Breaking(plan, source, now_ms, settings, verdicts, firing, public_url)
    found = _values(value) if isinstance(value, Vector) else {}
    if plan.judged is None or not (well_too or plan.filters):
        breaking.courses.update(_courses(plan, source, now_ms, settings, found, firing))
        return [breaking.judgement(_series(source, labels), v) for labels, v in found.items()]
    if not plan.filters:
        verdicts |= _seen(plan, source, now_ms, lookback_ms)
    return [
        breaking.judgement(series, found[series.labels])
        if series.labels in found
        else _well(series, verdicts.get(series.id, UNKNOWN))
        for series in source.chosen(plan.judged)
    ]


def _values(vector: Vector) -> dict[LabelPairs, float]:
    """The values of one step by labels."""
    return dict(zip(vector.labels, vector.values[:, 0].tolist(), strict=True))


def _seen(plan: Plan, source: HeadSource, now_ms: int, lookback_ms: int) -> dict[int, Verdict]:
    """What is known of the series that a comparison judges, as if all of them were well."""
    if plan.judged is None:
        return {}
    labels, _, values = source.newest(plan.judged, now_ms - lookback_ms + 1, now_ms)
    young = {
        pairs: Verdict(False, finite(v))
        for pairs, v, ended in zip(labels, values.tolist(), is_stale(values).tolist(), strict=True)
        if not ended
    }
    return {s.id: young[s.labels] for s in source.chosen(plan.judged) if s.labels in young}


def _series(source: HeadSource, labels: LabelPairs) -> Series:
    number = series_id(labels)
    return source.known.get(number) or Series(number, labels)


@dataclass(frozen=True, slots=True)
class _Breaking:
    """What is said of series that break a rule; a filter knows more of them than their value."""

    plan: Plan
    source: HeadSource
    now_ms: int
    settings: Settings
    verdicts: Mapping[int, Verdict]
    firing: Collection[str]
    public_url: str
    courses: dict[LabelPairs, Columns] = field(default_factory=dict)

    def judgement(self, series: Series, value: float) -> Judgement:
        """That it does, and why."""
        rule, verdict = self.plan.rule, self.verdicts.get(series.id)
        own, annotations = rule.labels, rule.annotations
        if self.plan.templated:
            own = self._expanded(own, series, value)
            if series.hex not in self.firing:  # of an alert that fires they are known
                annotations = self._expanded(annotations, series, value)
        labels = {**dict(series.labels), **own, "alertname": rule.name}
        if verdict is None or not verdict.active:
            verdict = Verdict(True, finite(value), self.plan.said)
        course = self.courses.get(series.labels)
        return Judgement(series, labels, *verdict, annotations, course)

    def _expanded(self, texts: Mapping[str, str], series: Series, value: float) -> dict[str, str]:
        data = AlertData(dict(series.labels), value, external_url=self.public_url)
        query = asked(self.source, self.now_ms, self.settings)
        return expand_all(texts, self.plan.rule.name, data, self.now_ms, query)


def _courses(
    plan: Plan,
    source: HeadSource,
    now_ms: int,
    settings: Settings,
    found: Mapping[LabelPairs, float],
    firing: Collection[str],
) -> dict[LabelPairs, Columns]:
    """How the values went that break an expression, for alerts that may begin now."""
    part = compared(plan.expr)
    begins = any(f"{series_id(labels):016x}" not in firing for labels in found)
    if part is None or plan.judged is not None or not begins or len(found) > SERIES_MAX:
        return {}
    return courses_until(part, source, now_ms, _COURSE_SECONDS, settings)


def _well(series: Series, verdict: Verdict) -> Judgement:
    return Judgement(series, {}, *verdict)
