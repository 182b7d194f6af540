"""What a notification says, the same for every channel: to be understood half asleep.

In this order: how bad and what, one sentence of what is wrong against what was expected, since
when, where, and where to look. Nothing in it is markup; each channel escapes for its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.domain.alerts import SERIES_ENDED
from service.domain.notifications import Notification, NotificationKind
from service.domain.rules import Severity
from service.notify.plain import clean, moment, number, period, span, spark

#: Labels that say the same on every message, or again what the headline says.
NOISE = frozenset({"__name__", "alertname", "severity", "tenant", "tenant_id"})

#: What people call a place by, most telling first; other labels follow by name.
_TELLING = ("service", "app", "job", "region", "zone", "cluster", "host", "instance")

# How the evaluator's expectations begin.
_BEYOND = ("above ", "below ", "at or ", "equal to ", "not ")
_AHEAD = ("reaches ", "falls to ")
_PEERS = re.compile(r"\bits [\d,]+ peers\b")

_HEADLINE = 150
_IN_HEADLINE = 3
_LABELS = 12
_ITEMS = 20


class Tone(StrEnum):
    """What colour a message has."""

    BAD = "bad"
    GOOD = "good"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Message:
    """The parts of a message, each one line of plain text; empty where there is nothing to say."""

    tenant: str
    tone: Tone
    severity: str  # critical … info, empty for tests
    status: str  # firing, "firing, escalation step 2", resolved, summary, test
    headline: str
    sentence: str
    timing: str = ""
    urgent: str = ""  # what stands above all else, such as that nobody has answered
    notes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    items: tuple[str, ...] = ()
    trend: str = ""
    link: str = ""
    link_text: str = ""
    runbook: str = ""

    @property
    def subject(self) -> str:
        """`[critical] High error rate: checkout eu-west (firing)`."""
        if self.status == "test":
            return f"[test] {self.headline}"
        return f"[{self.severity}] {self.headline} ({self.status})"

    @property
    def body(self) -> tuple[str, ...]:
        """The sentences in the order to read them."""
        parts = (self.urgent, self.sentence, self.timing, *self.notes)
        return tuple(part for part in parts if part)


def compose(notification: Notification, now: float, public_url: str) -> Message:
    """The message of a notification, read at `now` (Unix seconds).

    Whatever is missing or odd in the payload is left out; a page must not fail for a detail.
    """
    payload = notification.payload
    if notification.kind is NotificationKind.TEST:
        return _test(notification, public_url)
    if notification.kind is NotificationKind.SUMMARY:
        return _summary(notification, now, public_url)
    labels = _labels(payload.get("labels"))
    annotations = _labels(payload.get("annotations"))
    resolved = notification.kind is NotificationKind.RESOLVED
    escalated = notification.kind is NotificationKind.ESCALATED
    severity = _severity(payload.get("severity"))
    started = _seconds(payload.get("started_at"))
    ended = _seconds(payload.get("resolved_at")) if resolved else None
    step = payload.get("step") or notification.step
    chart = payload.get("chart")
    values = chart.get("v") if isinstance(chart, dict) else None
    return Message(
        tenant=clean(notification.tenant),
        tone=Tone.GOOD if resolved else _tone(severity),
        severity=severity,
        status=_status(notification.kind, step),
        headline=headline(payload.get("rule_name"), labels),
        sentence=_over(payload, labels) if resolved else _wrong(payload, labels),
        timing=_timing(started, ended, now),
        urgent="Still firing, and nobody has acknowledged it." if escalated else "",
        notes=() if resolved else _notes(annotations),
        labels=_shown(labels),
        trend=spark(values) if isinstance(values, list) else "",
        link=_url(payload.get("url")) or public_url,
        link_text="See what happened" if resolved else "Open and acknowledge",
        runbook="" if resolved else _url(annotations.get("runbook_url")),
    )


def headline(rule_name: object, labels: Mapping[str, str]) -> str:
    """`High error rate: checkout eu-west`: the rule and the few labels that tell where."""
    name = clean(rule_name or labels.get("alertname") or "Alert", 100)
    ordered = [k for k in _TELLING if k in labels]
    ordered += sorted(k for k in labels if k not in _TELLING)
    where = [
        clean(labels[k], 40)
        for k in ordered
        if k not in NOISE and not k.startswith("__") and labels[k].lower() not in name.lower()
    ]
    return clean(f"{name}: {' '.join(where[:_IN_HEADLINE])}" if where else name, _HEADLINE)


def _wrong(payload: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """`error_rate is 0.12, above 0.05.`; `expectation` is what the evaluator wrote."""
    metric, expectation = _judged(payload, labels)
    value = payload.get("value")
    known = isinstance(value, int | float) and not isinstance(value, bool)
    said = f"{metric} is {number(float(value))}" if known and value is not None else ""
    if expectation.startswith("no data "):
        return f"{metric} has sent {expectation}."
    if expectation.startswith(_AHEAD):
        said = said or f"{metric} is still well"
        return f"{said}, and its forecast {expectation}."
    if expectation:
        return f"{said}, {expectation}." if said else f"{metric} is {expectation}."
    return f"{said}." if said else f"{metric} breaks the rule."


def _over(payload: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """`error_rate is no longer above 0.05.`"""
    metric, expectation = _judged(payload, labels)
    if payload.get("reason") == SERIES_ENDED:
        return f"{metric} has sent nothing for so long that the alert was closed."
    if reason := clean(payload.get("reason") or "", 100):  # rule deleted, disabled or changed
        return f"The {reason.replace('rule ', 'rule was ')}; nothing is known of {metric} since."
    if expectation.startswith("expected "):
        return f"{metric} is as expected again ({expectation.removeprefix('expected ')})."
    if expectation.startswith("unlike its past"):
        return f"{metric} is like its past again."
    if _PEERS.search(expectation):
        return f"{metric} is like its peers again."
    if expectation.startswith(_AHEAD):
        return f"The forecast of {metric} no longer {expectation.partition(' in ')[0]}."
    if expectation.startswith(_BEYOND):
        return f"{metric} is no longer {expectation}."
    return f"It is over. It was: {metric}, {expectation}." if expectation else "It is over."


def _judged(payload: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, str]:
    metric = clean(labels.get("__name__") or "The value", 100)
    return metric, clean(payload.get("expectation") or "").rstrip(".")


def _status(kind: NotificationKind, step: object) -> str:
    if kind is NotificationKind.ESCALATED:
        return f"firing, escalation step {clean(step, 8)}"
    return kind.value


def _timing(started: float | None, ended: float | None, now: float) -> str:
    if started is None:
        return ""
    if ended is None:
        return f"Since {moment(started, now)} ({span(now - started)})."
    return f"It lasted {span(ended - started)}, from {period(started, ended, now)}."


def _summary(notification: Notification, now: float, public_url: str) -> Message:
    payload = notification.payload
    listed = payload.get("alerts")
    alerts = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    ranked = sorted(alerts, key=lambda a: Severity(_severity(a.get("severity"))).rank)
    count = payload.get("count")
    count = count if isinstance(count, int) else len(alerts)
    since = _seconds(payload.get("since"))
    items = [_item(a, now) for a in ranked[:_ITEMS]]
    if count > len(items):
        items.append(f"and {count - len(items)} more")
    severity = _severity(ranked[0].get("severity")) if ranked else Severity.INFO.value
    more = "notification" if count == 1 else "notifications"
    return Message(
        tenant=clean(notification.tenant),
        tone=_tone(severity),
        severity=severity,
        status="summary",
        headline=f"{count} more {more}" + (f" since {moment(since, now)}" if since else ""),
        sentence="They are over the hourly limit, so here they are in one message, worst first.",
        items=tuple(items),
        link=public_url,
        link_text="Open all alerts",
    )


def _item(alert: Mapping[str, Any], now: float) -> str:
    at = _seconds(alert.get("at"))
    when = f", {moment(at, now)}" if at is not None else ""
    title = headline(alert.get("rule_name"), _labels(alert.get("labels")))
    return f"{_severity(alert.get('severity'))}: {title} ({clean(alert.get('kind', ''), 20)}{when})"


def _test(notification: Notification, public_url: str) -> Message:
    said = clean(notification.payload.get("message") or "", 500)
    return Message(
        tenant=clean(notification.tenant),
        tone=Tone.PLAIN,
        severity="",
        status="test",
        headline=f"The channel {clean(notification.channel, 64)} works",
        sentence="This is a test; nothing is wrong.",
        notes=(said,) if said else (),
        link=public_url,
        link_text="Open Offbeat",
    )


def _notes(annotations: Mapping[str, str]) -> tuple[str, ...]:
    found = (clean(annotations.get(k, ""), 500) for k in ("summary", "description"))
    return tuple(dict.fromkeys(text for text in found if text))


def _shown(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    kept = [(k, v) for k, v in sorted(labels.items()) if k not in NOISE and not k.startswith("__")]
    shown = [(clean(k, 60), clean(v, 120)) for k, v in kept[:_LABELS]]
    if len(kept) > _LABELS:
        shown.append(("…", f"{len(kept) - _LABELS} more"))
    return tuple(shown)


def _labels(found: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _seconds(found: object) -> float | None:
    # Beyond these a calendar has no date; nothing of ours comes near.
    good = isinstance(found, int | float) and 0 <= found < 1e11
    return float(found) if good and isinstance(found, int | float) else None


def _severity(found: object) -> str:
    try:
        return Severity(str(found)).value
    except ValueError:
        return Severity.MEDIUM.value


def _tone(severity: str) -> Tone:
    return Tone.PLAIN if severity == Severity.INFO else Tone.BAD


def _url(found: object) -> str:
    text = str(found or "")
    good = text.startswith(("https://", "http://")) and len(text) <= 2000
    return text if good and not any(c.isspace() or not c.isprintable() for c in text) else ""
