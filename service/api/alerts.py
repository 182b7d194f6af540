"""Alerts: what is active, what was, what happened to one, and taking care of it."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from service.alerts.acknowledge import acknowledge
from service.alerts.quiet import quiets
from service.alerts.snapshot import alert_url
from service.alerts.store import AlertEvent
from service.api.deps import allow, tenant_in_path, tenant_of, wiring
from service.api.feedback import FeedbackAnswer, MovedThreshold
from service.domain.alerts import Alert, AlertState, EventKind
from service.domain.clock import iso
from service.domain.errors import Unprocessable
from service.domain.feedback import UNMOVED, Verdict
from service.domain.rules import Severity
from service.domain.silences import Quiet
from service.domain.tenants import Permission, Principal
from service.wiring import Wiring

router = APIRouter(prefix="/alerts", tags=["alerts"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Responder = Annotated[Principal, Depends(allow(Permission.RESPOND))]

# The paths take nothing else for an id, so that /alerts/rules and its like are left to their own
# routes, whichever come first.
AlertId = Annotated[UUID, Path(description="32 hexadecimal digits")]

_NOTE_MAX = 2000


class AlertAnswer(BaseModel):
    """One alert: one series that breaks one rule, once. Times are ISO 8601, UTC."""

    id: str
    tenant: str
    rule_id: str
    rule_name: str
    state: AlertState
    severity: Severity
    labels: dict[str, str] = Field(description="The series' labels, the rule's, and alertname")
    annotations: dict[str, str]
    value: float | None = Field(description="The series' value when it was judged so")
    expectation: str = Field(examples=["above 0.05", "expected 12 to 19"])
    series: str = Field(description="Id of the series judged")
    episode: int = Field(description="The how manyeth time that this series broke this rule")
    started_at: str | None
    fired_at: str | None
    resolved_at: str | None
    acknowledged_at: str | None
    acknowledged_by: str | None
    silenced_by: list[str] = Field(
        description="Ids of the silences that keep an active alert quiet now"
    )
    url: str = Field(description="Where people see it")


class EventAnswer(BaseModel):
    """A line of an alert's timeline."""

    at: str | None
    kind: EventKind
    actor: str
    detail: dict[str, Any]


class AlertWithTimeline(AlertAnswer):
    """An alert, what happened to it, oldest first, and what was said of it, newest first."""

    timeline: list[EventAnswer]
    feedback: list[FeedbackAnswer]
    threshold: MovedThreshold | None = Field(
        description="Null for rules without anomaly scores and for those that are gone"
    )


class ActiveAlerts(BaseModel):
    """Firing before pending ones, then the worst, then the newest."""

    items: list[AlertAnswer]


class AlertHistory(BaseModel):
    """A page of what fired, newest first."""

    items: list[AlertAnswer]
    next: str | None = Field(description="Hand it in as `cursor` for the next page")


class Acknowledgement(BaseModel):
    """What may be said with it."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field("", max_length=_NOTE_MAX, examples=["Rolling back the release"])


class FeedbackBody(BaseModel):
    """One verdict."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict = Field(
        description="useful: an anomaly, good to know. noise: nothing was the matter. expected: "
        "unlike the past, and known beforehand"
    )
    note: str = Field("", max_length=_NOTE_MAX, examples=["The monthly backup"])


@router.get("/active/{tenant_id}", summary="What is pending or firing")
async def active(
    request: Request,
    principal: Reader,
    tenant_id: str,
    state: Annotated[
        AlertState | None, Query(description="Only pending, or only firing ones")
    ] = None,
    severity: Annotated[Severity | None, Query(description="Only those of a severity")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> ActiveAlerts:
    """Firing before pending ones, then the worst, then the newest."""
    tenant = tenant_in_path(principal, tenant_id)
    if state is AlertState.RESOLVED:
        raise Unprocessable(
            f"an active alert is pending or firing; see /alerts/history/{tenant}", where="state"
        )
    parts = wiring(request)
    found = await parts.alerts.active(tenant, state=state, severity=severity, limit=limit)
    return ActiveAlerts(items=await _with_silences(parts, tenant, found))


@router.get("/history/{tenant_id}", summary="What has fired")
async def history(
    request: Request,
    principal: Reader,
    tenant_id: str,
    cursor: Annotated[str | None, Query(description="From the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    severity: Annotated[Severity | None, Query(description="Only those of a severity")] = None,
    rule_id: Annotated[str | None, Query(description="Only those of a rule")] = None,
) -> AlertHistory:
    """Newest first, those that still fire included."""
    tenant = tenant_in_path(principal, tenant_id)
    parts = wiring(request)
    found, more = await parts.alerts.history(
        tenant, cursor, limit, severity=severity, rule_id=_printable(rule_id)
    )
    return AlertHistory(items=await _with_silences(parts, tenant, found), next=more)


@router.get("/{alert_id:uuid}", summary="Show an alert with its timeline")
async def show(request: Request, principal: Reader, alert_id: AlertId) -> AlertWithTimeline:
    """When it began, fired, escalated, whom it notified, who took it, when it was over."""
    tenant, parts = tenant_of(principal), wiring(request)
    return await _in_full(parts, await parts.alerts.get(tenant, alert_id.hex))


@router.put("/{alert_id:uuid}/acknowledge", summary="Acknowledge an alert")
async def take(
    request: Request,
    principal: Responder,
    alert_id: AlertId,
    body: Annotated[Acknowledgement | None, Body()] = None,
) -> AlertAnswer:
    """Stops its escalation. The first one stands; another one changes nothing.

    409 for an alert that is resolved, with the time, and for one that has not fired.
    """
    tenant, parts = tenant_of(principal), wiring(request)
    note = _plain(body.note if body is not None else "")
    alert = await acknowledge(
        parts.database,
        tenant,
        alert_id.hex,
        actor=principal.actor,
        now=parts.clock.now(),
        note=note,
    )
    await parts.wake.publish("timers")
    return (await _with_silences(parts, tenant, [alert]))[0]


@router.post("/{alert_id:uuid}/feedback", summary="Say what an alert was worth")
async def say(
    request: Request, principal: Responder, alert_id: AlertId, body: FeedbackBody
) -> AlertWithTimeline:
    """A later verdict of the same person replaces the former. 409 for one that has not fired.

    For anomaly rules it moves the threshold of the series; and it decides whether models learn
    from the time of the alert.
    """
    tenant, parts = tenant_of(principal), wiring(request)
    note = _plain(body.note)
    alert, _ = await parts.feedback.give(
        tenant, alert_id.hex, body.verdict, actor=principal.actor, note=note
    )
    await parts.wake.publish("rules", tenant)
    return await _in_full(parts, alert)


async def _with_silences(parts: Wiring, tenant: str, found: list[Alert]) -> list[AlertAnswer]:
    quiet = await quiets(parts.database, tenant, found, parts.clock.now())
    return [_shown(alert, parts.settings.public_url, quiet.get(alert.id)) for alert in found]


async def _in_full(parts: Wiring, alert: Alert) -> AlertWithTimeline:
    timeline = await parts.alerts.events(alert.tenant, alert.id)
    said = await parts.feedback.of_alert(alert.tenant, alert.id)
    return AlertWithTimeline(
        **(await _with_silences(parts, alert.tenant, [alert]))[0].model_dump(),
        timeline=[_event(event) for event in timeline],
        feedback=[FeedbackAnswer.of(given) for given in said],
        threshold=await _threshold(parts, alert),
    )


async def _threshold(parts: Wiring, alert: Alert) -> MovedThreshold | None:
    await parts.rules_file.reload_if_changed()
    rules = await parts.rules.all_for(alert.tenant, parts.rules_file.book)
    rule = next((rule for rule in rules if rule.id == alert.rule_id), None)
    if rule is None:
        return None
    said = (await parts.feedback.adjustments(alert.tenant)).get(rule.id, {})
    found = said.get(alert.fingerprint, UNMOVED)
    default = parts.settings.anomaly_detection_threshold
    return MovedThreshold.of(rule, alert.source, found, default)


def _plain(note: str) -> str:
    note = note.strip()
    if not all(c.isprintable() or c in "\n\t" for c in note):
        raise Unprocessable("note has characters that cannot be printed", where="note")
    return note


def _printable(text: str | None) -> str | None:
    return text if text is None or text.isprintable() else "-"


def _shown(alert: Alert, public_url: str, quiet: Quiet | None) -> AlertAnswer:
    return AlertAnswer(
        id=alert.id,
        tenant=alert.tenant,
        rule_id=alert.rule_id,
        rule_name=alert.rule_name,
        state=alert.state,
        severity=alert.severity,
        labels=alert.labels,
        annotations=alert.annotations,
        value=alert.value,
        expectation=alert.expectation,
        series=alert.source,
        episode=alert.episode,
        started_at=iso(alert.started_at),
        fired_at=iso(alert.fired_at),
        resolved_at=iso(alert.resolved_at),
        acknowledged_at=iso(alert.acknowledged_at),
        acknowledged_by=alert.acknowledged_by,
        silenced_by=[] if quiet is None else quiet.ids,
        url=alert_url(public_url, alert.tenant, alert.id),
    )


def _event(event: AlertEvent) -> EventAnswer:
    detail = {k: iso(v) if k == "until" else v for k, v in event.detail.items()}
    return EventAnswer(at=iso(event.at), kind=event.kind, actor=event.actor, detail=detail)
