"""The pages' addresses."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from sqlalchemy import RowMapping
from starlette.responses import Response

from models.explanation import Explanation
from service.alerts.quiet import quiets
from service.dashboard.pages import PageRoute, go, page, static_app
from service.dashboard.sessions import (
    acting,
    begin,
    end,
    from_elsewhere,
    home,
    safe_path,
    viewer,
    wiring,
)
from service.domain.alerts import Alert, AlertState
from service.domain.errors import Forbidden, NotFound, Unauthenticated
from service.domain.feedback import Verdict
from service.domain.series import MetricType, Series, parse_series_id
from service.domain.silences import Quiet, matching
from service.domain.tenants import Permission, Principal, Role
from service.insights import words
from service.insights.levels import instead, newest_level
from service.insights.views import SeriesView
from service.wiring import Wiring

__all__ = ["router", "static_app"]

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_HISTORY = 50
_SERIES = 100
_SILENCE_FOR = "2h"
_LARGE = 3  # alerts with their picture; more are lines below them


@router.get("/")
async def start(request: Request) -> Response:
    """The viewer's dashboard; for an admin of several tenants, their list."""
    principal = await viewer(request)
    if principal.role is not Role.ADMIN:
        return go(home(principal))
    tenants, more = await wiring(request).tenants.list(limit=200)
    if len(tenants) == 1:
        return go(f"/dashboard/{tenants[0].id}")
    return page("tenants.html", tenants=tenants, more=more is not None)


@router.get("/login")
async def login_form(request: Request, next: str = "/") -> Response:
    """The form."""
    return page("login.html", error="", to=safe_path(next))


@router.post("/login")
async def login(
    request: Request,
    key: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    """Begin a session with an API key."""
    to = safe_path(next)
    if from_elsewhere(request):
        raise Forbidden("log in on this page, not from another site")
    if not key.strip():
        return page("login.html", 400, error="Paste your API key.", to=to)
    try:
        principal = await wiring(request).keys.verify(key.strip())
    except Unauthenticated as error:
        text = f"{error}"
        return page("login.html", 401, error=f"{text[:1].upper()}{text[1:]}.", to=to)
    if not principal.may(Permission.READ):
        text = "This key may only send metrics. Ask for one that may read."
        return page("login.html", 403, error=text, to=to)
    response = go(to if to != "/" else home(principal))
    begin(request, response, principal)
    return response


@router.get("/login/{ticket}")
async def login_by_link(request: Request, ticket: str) -> Response:
    """Begin a session with a link that works once."""
    try:
        principal = await wiring(request).sessions.redeem(ticket)
    except Unauthenticated as error:
        text = f"{error}"
        return page("login.html", 401, error=f"{text[:1].upper()}{text[1:]}.", to="/")
    # A page that leads on, not a redirect: after a click elsewhere (mail, chat) a redirect would
    # be asked for without the new strict cookie.
    response = page("onward.html", to=home(principal))
    begin(request, response, principal)
    return response


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session on this machine."""
    response = go("/login")
    end(response)
    return response


@router.get("/dashboard/{tenant_id}")
async def overview(request: Request, tenant_id: str) -> Response:
    """The overview."""
    return page("overview.html", **await _overview(request, tenant_id))


@router.get("/dashboard/{tenant_id}/fragment")
async def overview_fragment(request: Request, tenant_id: str) -> Response:
    """What of the overview changes, for refreshing in place."""
    return page("_overview.html", refreshed=True, **await _overview(request, tenant_id))


async def _overview(request: Request, tenant_id: str) -> dict[str, Any]:
    principal, name = await acting(request, tenant_id)
    parts = wiring(request)
    limits = await parts.tenants.quota(tenant_id)
    shown = await parts.dashboard.for_tenant(tenant_id, series_limit=limits.series)
    firing = sum(1 for c in shown.alerts if c.alert.state is AlertState.FIRING)
    base = parts.settings.external_url or str(request.base_url)
    frame = _frame(principal, name, "overview", firing)
    large = [card for card in shown.alerts[:_LARGE] if card.chart is not None]
    about = await _about(
        parts,
        tenant_id,
        [card.alert for card in shown.alerts],
        {card.alert.id: card.quiet for card in shown.alerts if card.quiet is not None},
    )
    return (
        frame
        | about
        | {
            "o": shown,
            "large": large,
            "small": [card for card in shown.alerts if card not in large],
            "now": shown.at,
            "base_url": base.rstrip("/"),
        }
    )


async def _about(
    parts: Wiring, tenant: str, alerts: Sequence[Alert], quiet: Mapping[str, Quiet] | None = None
) -> dict[str, Any]:
    """By alert id: what keeps it quiet, what was said of it last, what would silence it alone."""
    if quiet is None:
        quiet = await quiets(parts.database, tenant, alerts, parts.clock.now())
    asked = {
        alert.id: {
            "duration": _SILENCE_FOR,
            "matchers": [{"name": m.name, "value": m.value} for m in matching(alert)],
        }
        for alert in alerts
        if alert.active
    }
    said = await parts.feedback.newest_of(tenant, [alert.id for alert in alerts])
    return {"quiet": quiet, "said": said, "asked": asked, "verdicts": list(Verdict)}


def _frame(principal: Principal, name: str, here: str, firing: int) -> dict[str, Any]:
    return {
        "tenant": principal.tenant,
        "tenant_name": name,
        "is_admin": principal.role is Role.ADMIN,
        "may_respond": principal.may(Permission.RESPOND),
        "here": here,
        "firing": firing,
    }


@router.get("/dashboard/{tenant_id}/series")
async def series_list(
    request: Request,
    tenant_id: str,
    q: Annotated[str, Query(max_length=200)] = "",
    page_number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Response:
    """Every series, by name and labels, with a search."""
    principal, name = await acting(request, tenant_id)
    parts = wiring(request)
    shown = await parts.dashboard.series_list(
        tenant_id, q, first=(page_number - 1) * _SERIES, most=_SERIES
    )
    frame = _frame(principal, name, "series", await parts.dashboard.firing(tenant_id))
    return page(
        "series_list.html",
        **frame,
        rows=shown.rows,
        total=shown.total,
        q=q,
        number=page_number,
        last=max(1, -(-shown.total // _SERIES)),
        now=parts.clock.now(),
    )


@router.get("/dashboard/{tenant_id}/series/{series_id}")
async def one_series(request: Request, tenant_id: str, series_id: str) -> Response:
    """One series, large, with its model."""
    return page("series.html", **await _series(request, tenant_id, series_id))


@router.get("/dashboard/{tenant_id}/series/{series_id}/fragment")
async def one_series_fragment(request: Request, tenant_id: str, series_id: str) -> Response:
    """What of it changes."""
    shown = await _series(request, tenant_id, series_id)
    return page("_series.html", refreshed=True, **shown)


async def _series(request: Request, tenant_id: str, series_id: str) -> dict[str, Any]:
    principal, name = await acting(request, tenant_id)
    parts = wiring(request)
    number = parse_series_id(series_id)
    if number is None:
        raise NotFound(f"there is no series {series_id[:32]!r}")
    shown = await parts.dashboard.series(tenant_id, number)
    frame = _frame(principal, name, "series", await parts.dashboard.firing(tenant_id))
    facts = {"quality": _quality(shown.model), "level": _level(shown.series, shown.model)}
    about = await _about(parts, tenant_id, shown.alerts)
    why = await _why(parts, tenant_id, shown)
    return frame | about | {"s": shown, "now": shown.at, "why": why} | facts


async def _why(parts: Wiring, tenant: str, shown: SeriesView) -> Explanation | None:
    """What the model says of the newest point, if it is unusual."""
    if not shown.tile.warn or shown.model is None:
        return None
    try:
        told = await parts.explainer.explain(tenant, shown.series, round(shown.at * 1000))
    except NotFound:
        return None
    return told.why if told.why.since_ms is not None else None


@router.get("/dashboard/{tenant_id}/alerts")
async def alerts(
    request: Request,
    tenant_id: str,
    before: Annotated[float | None, Query(ge=0, le=1e11)] = None,
) -> Response:
    """Active alerts and what there was, each with its timeline."""
    return page("alerts.html", **await _alerts(request, tenant_id, before))


@router.get("/dashboard/{tenant_id}/alerts/fragment")
async def alerts_fragment(
    request: Request,
    tenant_id: str,
    before: Annotated[float | None, Query(ge=0, le=1e11)] = None,
) -> Response:
    """What of it changes."""
    return page("_alerts.html", refreshed=True, **await _alerts(request, tenant_id, before))


async def _alerts(request: Request, tenant_id: str, before: float | None) -> dict[str, Any]:
    principal, name = await acting(request, tenant_id)
    parts = wiring(request)
    shown = await parts.dashboard.alerts(tenant_id, before=before, most=_HISTORY)
    frame = _frame(principal, name, "alerts", await parts.dashboard.firing(tenant_id))
    listed = [row.alert for row in (*shown.active, *shown.resolved)]
    about = await _about(parts, tenant_id, listed)
    return frame | about | {"a": shown, "before": before, "now": parts.clock.now()}


# What training measured, as a person would call it; the rest stands in the JSON.
_QUALITY = {
    "forecaster": "Forecast by",
    "forecast_error": "Forecast error",
    "forecast_coverage": "Inside its range",
}


def _level(series: Series, model: RowMapping | None) -> tuple[str, float] | None:
    """What the level is instead of what, and since when."""
    newest = None if model is None else newest_level(model["quality"])
    if newest is None:
        return None
    counter = series.metric_type is MetricType.COUNTER
    return instead(series.name, newest, counter=counter), newest.at


def _quality(model: RowMapping | None) -> list[tuple[str, str]]:
    found = []
    measured = model["quality"] if model is not None else {}
    for key, name in _QUALITY.items():
        value = measured.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append((name, words.percent(value) if "coverage" in key else words.figure(value)))
        elif isinstance(value, str) and value:
            found.append((name, value.replace("_", " ")))
    return found
