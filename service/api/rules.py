"""Rules: those of the tenant, to make, change and remove; those of the rules file, to read."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import allow, tenant_of, wiring
from service.api.feedback import MovedThreshold
from service.api.problems import problem
from service.domain.alerts import AlertState
from service.domain.clock import iso
from service.domain.errors import Conflict, NotFound
from service.domain.rules import Rule, Severity
from service.domain.tenants import Permission, Principal
from service.rules.form import Problem, RuleError, suggest
from service.rules.schema import CONDITIONS, rule_form
from service.rules.store import StoredRule

router = APIRouter(prefix="/alerts/rules", tags=["rules"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]

_Seconds = str | float


class RuleBody(BaseModel):
    """A rule's simple form, the same as in `alert_rules.yaml`. Durations: seconds or `5m`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200, examples=["High error rate"])
    query: str | None = Field(
        None,
        description="A metric, with matchers or without; required unless there is an expr",
        examples=['error_rate{region="eu"}'],
    )
    condition: str | None = Field(
        None,
        description="Required beside a query",
        json_schema_extra={"enum": [*CONDITIONS, None]},
        examples=["gt"],
    )
    expr: str | None = Field(
        None, description="PromQL that gives the series that break the rule, instead of a query"
    )
    threshold: float | None = Field(
        None, description="For comparisons and forecast; for anomaly a score", examples=[0.05]
    )
    alert_budget: str | None = Field(
        None,
        description="For anomaly, instead of a threshold: alerts that are fine, over all series",
        examples=["2/week"],
    )
    operator: Literal["gt", "gte", "lt", "lte"] | None = Field(
        None, description="How a forecast crosses the threshold; gt if absent"
    )
    severity: Severity = Severity.MEDIUM
    for_duration: _Seconds = Field(0, description="How long it must hold", examples=["5m"])
    cooldown: _Seconds | None = Field(
        None, description="How long after a notification the same series notifies again"
    )
    window: _Seconds | None = Field(
        None,
        description="For no_data: how long a silence counts; for change: how long ago it may "
        "be; for peers: what is compared",
    )
    horizon: _Seconds | None = Field(None, description="For forecast: how far to look ahead")
    probability: float | None = Field(
        None,
        description="For forecast: how likely it must cross within the horizon; if absent, the "
        "middle of the forecast must",
        examples=[0.8],
    )
    peers_by: str | list[str] | None = Field(
        None, description="For peers: labels that are equal within a group", examples=[["job"]]
    )
    channels: list[str] = Field([], max_length=20, examples=[["slack"]])
    escalation: str | None = Field(None, description="An escalation policy of the rules file")
    labels: dict[str, str] = Field({}, description="Added to the labels of its alerts")
    annotations: dict[str, str] = Field({}, examples=[{"summary": "Customers see errors"}])
    enabled: bool = True


class OpenAlerts(BaseModel):
    """How many alerts of a rule are open."""

    pending: int = 0
    firing: int = 0


class RuleAnswer(RuleBody):
    """A rule with what is known of it."""

    id: str
    source: Literal["api", "file"]
    version: int | None = Field(description="Grows with each change; null in the file")
    created_at: str | None
    updated_at: str | None
    alerts: OpenAlerts
    last_error: str | None = Field(
        description="Why it could not be judged the last time, opens no further alert, holds some "
        "or sees less than it asks for"
    )


class RuleWithFeedback(RuleAnswer):
    """A rule, and for which series people's feedback has moved its threshold."""

    feedback: list[MovedThreshold]


class FileError(BaseModel):
    """The rules file is broken; the last good rules are in force."""

    message: str = Field(description="Each problem on a line: file:line:column: reason")
    since: str | None


class RuleList(BaseModel):
    """The rules of the file, then the tenant's own by name."""

    items: list[RuleAnswer]
    file_error: FileError | None


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": RuleBody.model_json_schema()}},
    }
}

_Form = Annotated[dict[str, Any], Body(description="The rule's simple form")]


@router.post(
    "", status_code=201, summary="Make a rule", openapi_extra=_BODY, response_model=RuleAnswer
)
async def create(request: Request, principal: Operator, body: _Form) -> Response:
    """In force within seconds.

    422 names every field that is wrong, 409 a rule of that name; 429: the tenant has as many
    rules as it may.
    """
    tenant, parts = tenant_of(principal), wiring(request)
    try:
        await _check_escalation(request, body)
        stored = await parts.rules.create(tenant, body, principal.actor)
    except RuleError as error:
        return _refusal(error)
    await parts.wake.publish("rules", tenant)
    shown = _shown(stored.rule, stored, OpenAlerts(), None)
    headers = {"Location": f"/alerts/rules/{stored.rule.id}"}
    return JSONResponse(shown.model_dump(mode="json"), 201, headers)


@router.get("", summary="List rules")
async def listing(request: Request, principal: Reader) -> RuleList:
    """Those of the rules file that hold for the tenant, and its own, with their open alerts."""
    tenant, parts = tenant_of(principal), wiring(request)
    await parts.rules_file.reload_if_changed()
    known = {stored.rule.id: stored for stored in await parts.rules.list(tenant)}
    file = parts.rules_file
    found = [*file.book.rules_for(tenant), *(stored.rule for stored in known.values())]
    counts, errors = await parts.alerts.counts(tenant), await _errors(request, tenant)
    broken = file.error is not None
    return RuleList(
        items=[
            _shown(rule, known.get(rule.id), _open(counts, rule.id), errors.get(rule.id))
            for rule in found
        ],
        file_error=FileError(message=file.error or "", since=iso(file.error_since))
        if broken
        else None,
    )


@router.get("/{rule_id:path}", summary="Show a rule")
async def show(request: Request, principal: Reader, rule_id: str) -> RuleWithFeedback:
    """One of the file or one of the tenant's own, and where feedback has moved its threshold."""
    tenant, parts = tenant_of(principal), wiring(request)
    rule, stored = _of_file(request, tenant, rule_id), None
    if rule is None:
        stored = await parts.rules.get(tenant, _own_id(rule_id))
        rule = stored.rule
    counts, errors = await parts.alerts.counts(tenant), await _errors(request, tenant)
    shown = _shown(rule, stored, _open(counts, rule.id), errors.get(rule.id))
    said = (await parts.feedback.adjustments(tenant)).get(rule.id, {})
    default = parts.settings.anomaly_detection_threshold
    moved = [MovedThreshold.of(rule, series, found, default) for series, found in said.items()]
    return RuleWithFeedback(
        **shown.model_dump(), feedback=[one for one in moved if one is not None and one.text]
    )


@router.put(
    "/{rule_id:path}", summary="Change a rule", openapi_extra=_BODY, response_model=RuleAnswer
)
async def change(request: Request, principal: Operator, rule_id: str, body: _Form) -> Response:
    """Puts the rule in the place of the old one; what is absent takes its default.

    The same once more changes nothing. A rule of the file is read-only: 409.
    """
    tenant, parts = tenant_of(principal), wiring(request)
    own = _writable(request, tenant, rule_id)
    try:
        before = await parts.rules.get(tenant, own)
        await _check_escalation(request, body)
        stored = await parts.rules.update(tenant, own, body, principal.actor)
    except RuleError as error:
        return _refusal(error)
    if stored.version != before.version:
        await parts.wake.publish("rules", tenant)
    counts, errors = await parts.alerts.counts(tenant), await _errors(request, tenant)
    shown = _shown(stored.rule, stored, _open(counts, own), errors.get(own))
    return JSONResponse(shown.model_dump(mode="json"))


@router.delete("/{rule_id:path}", status_code=204, summary="Remove a rule")
async def remove(request: Request, principal: Operator, rule_id: str) -> None:
    """Its open alerts are resolved at the next evaluation. A rule of the file: 409."""
    tenant, parts = tenant_of(principal), wiring(request)
    await parts.rules.delete(tenant, _writable(request, tenant, rule_id), principal.actor)
    await parts.wake.publish("rules", tenant)


async def _check_escalation(request: Request, body: dict[str, Any]) -> None:
    """`RuleError` for a policy that the rules file does not have."""
    named = body.get("escalation")
    if not isinstance(named, str):
        return
    file = wiring(request).rules_file
    await file.reload_if_changed()
    known = [policy.name for policy in file.book.policies]
    if named.strip() not in known:
        reason = f"the rules file has no policy {named[:60]!r}{suggest(named, known)}"
        raise RuleError([Problem(("escalation",), reason)])


async def _errors(request: Request, tenant: str) -> dict[str, str]:
    return await wiring(request).rule_health.errors(tenant)


def _refusal(error: RuleError) -> Response:
    listed = [(p.field or "body", p.reason) for p in error.problems]
    return problem(422, str(error), where=error.where, errors=listed[:100])


def _of_file(request: Request, tenant: str, rule_id: str) -> Rule | None:
    if not rule_id.startswith("file:"):
        return None
    book = wiring(request).rules_file.book
    for rule in book.rules_for(tenant):
        if rule.id == rule_id:
            return rule
    raise NotFound(f"there is no rule {rule_id[:64]!r}")


def _writable(request: Request, tenant: str, rule_id: str) -> str:
    """The id of a rule that may be one of the tenant's own; `Conflict` for one of the file."""
    rule = _of_file(request, tenant, rule_id)
    if rule is not None:
        source = wiring(request).rules_file.book.source
        raise Conflict(f"the rule {rule.name!r} stands in {source}; change it there")
    return _own_id(rule_id)


def _own_id(text: str) -> str:
    # A text that no id can be goes to no database; it is answered as an id that is missing.
    return text if text.isascii() and text.isalnum() else "-"


def _open(counts: dict[str, dict[AlertState, int]], rule_id: str) -> OpenAlerts:
    mine = counts.get(rule_id, {})
    return OpenAlerts(
        pending=mine.get(AlertState.PENDING, 0), firing=mine.get(AlertState.FIRING, 0)
    )


def _shown(
    rule: Rule, stored: StoredRule | None, alerts: OpenAlerts, last_error: str | None
) -> RuleAnswer:
    return RuleAnswer(
        **rule_form(rule),
        id=rule.id,
        source="file" if rule.from_file else "api",
        version=None if stored is None else stored.version,
        created_at=None if stored is None else iso(stored.created_at),
        updated_at=None if stored is None else iso(stored.updated_at),
        alerts=alerts,
        last_error=last_error,
    )
