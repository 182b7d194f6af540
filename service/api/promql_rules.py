"""Prometheus' HTTP API: the rules in force and the alerts that are open."""

import asyncio
from collections import defaultdict
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.deps import tenant_of, wiring
from service.api.promql_form import form_of, wrong
from service.api.promql_json import scientific, succeeded
from service.api.promql_route import PrometheusRoute, Reader, answered, described
from service.domain.alerts import Alert, AlertState
from service.domain.clock import iso
from service.domain.rules import Rule
from service.query.matchers import accepts
from service.rules.rewriting import expr_of

router = APIRouter(prefix="/api/v1", tags=["query"], route_class=PrometheusRoute)

#: When a rule was judged last is known by the worker, not here: Go's time that is none.
_NEVER = "0001-01-01T00:00:00Z"

_ALERTS = {
    "type": "object",
    "required": ["alerts"],
    "properties": {"alerts": {"type": "array", "items": {"type": "object"}}},
}
_RULES = {
    "type": "object",
    "required": ["groups"],
    "properties": {"groups": {"type": "array", "items": {"type": "object"}}},
}


@router.get("/alerts", summary="List open alerts, as Prometheus does", **described(_ALERTS))
async def alerts(request: Request, principal: Reader) -> Response:
    """Those that are pending or firing."""
    found = await _open(request, tenant_of(principal))

    def written() -> bytes:
        return succeeded(msgspec.json.encode({"alerts": [_alert(each) for each in found]}))

    return answered(await asyncio.to_thread(written))


@router.get(
    "/rules",
    summary="List rules, as Prometheus does",
    **described(
        _RULES,
        type="`alert` or `record`",
        rule_name="Only rules of these names",
        rule_group="Only of these groups",
        file="Only of these files",
        match="Only rules whose labels one of these selectors accepts",
        exclude_alerts="`true` leaves their alerts out",
    ),
)
async def rules(request: Request, principal: Reader) -> Response:
    """Those in force for the tenant, in a group for each place that they come from."""
    form, parts, tenant = await form_of(request), wiring(request), tenant_of(principal)
    kind = form.text("type").lower()
    if kind not in ("", "alert", "record"):
        raise wrong("type", f'not supported value "{kind[:64]}"')
    names, selectors = form.every("rule_name[]"), form.selectors()
    opened: dict[str, list[Alert]] = defaultdict(list)
    for alert in await _open(request, tenant):
        opened[alert.rule_id].append(alert)
    errors = await parts.rule_health.errors(tenant)
    every = await parts.rules_of(tenant)
    bare = form.text("exclude_alerts").lower() in ("1", "t", "true")
    places = {True: ("file", parts.rules_file.book.source), False: ("api", "api")}

    def written() -> bytes:
        groups: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for rule in every:
            labels = _labels(rule)
            chosen = not selectors or any(accepts(s.matchers, labels) for s in selectors)
            if rule.enabled and kind != "record" and chosen and (not names or rule.name in names):
                shown = _rule(rule, opened[rule.id], errors.get(rule.id))
                if bare:
                    del shown["alerts"]
                groups[rule.from_file].append(shown)
        answer = [
            {
                "name": name,
                "file": file,
                "rules": groups[from_file],
                "interval": parts.settings.alert_evaluation_interval,
                "limit": 0,
                "evaluationTime": 0,
                "lastEvaluation": _NEVER,
            }
            for from_file, (name, file) in places.items()
            if groups[from_file]
            and name in (form.every("rule_group[]") or [name])
            and file in (form.every("file[]") or [file])
        ]
        return succeeded(msgspec.json.encode({"groups": answer}))

    return answered(await asyncio.to_thread(written))


async def _open(request: Request, tenant: str) -> list[Alert]:
    parts = wiring(request)
    quota = await parts.tenants.quota(tenant)
    return await parts.alerts.active(tenant, limit=quota.active_alerts)


def _rule(rule: Rule, opened: list[Alert], error: str | None) -> dict[str, Any]:
    states = {alert.state for alert in opened}
    state = next((s for s in (AlertState.FIRING, AlertState.PENDING) if s in states), "inactive")
    shown = {
        "state": str(state),
        "name": rule.name,
        "query": expr_of(rule),
        "duration": rule.for_seconds,
        "keepFiringFor": 0,
        "labels": _labels(rule),
        "annotations": rule.annotations,
        "alerts": [_alert(alert) for alert in opened],
        "health": "ok" if error is None else "err",
        "evaluationTime": 0,
        "lastEvaluation": _NEVER,
        "type": "alerting",
    }
    return shown if error is None else {**shown, "lastError": error}


def _labels(rule: Rule) -> dict[str, str]:
    return {"severity": str(rule.severity), **rule.labels}


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "labels": {"severity": str(alert.severity), **alert.labels},
        "annotations": alert.annotations,
        "state": str(alert.state),
        "activeAt": iso(alert.started_at),
        "value": scientific(alert.value),
    }
