"""Reading: the overview, findings, series and their samples."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import RowMapping

from service.api import analytics_models as answers
from service.api.deps import allow, tenant_in_path, tenant_of, wiring
from service.api.reading import seconds, series_number
from service.domain.clock import iso
from service.domain.durations import format_duration, parse_duration
from service.domain.errors import InvalidInput
from service.domain.series import Series, parse_series_id
from service.domain.tenants import Permission, Principal
from service.insights import records
from service.insights.standings import standings_of
from service.query.matchers import select as select_series
from service.query.selector import parse_selector
from service.storage.columns import Columns
from service.storage.rollups import STEP_MS, aggregate
from service.storage.sql.engine import Database

if TYPE_CHECKING:
    from service.wiring import Wiring

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]

SAMPLES_MAX = 50_000
ROWS_MAX = 11_000
_DAY = 86400.0
_AHEAD = 30 * _DAY
_STEP_MAX_MS = 31 * 86_400_000
_Time = Annotated[
    str | None,
    Query(description="Unix seconds, or ISO 8601 with a zone", max_length=64),
]


@router.get("/analytics/dashboard/{tenant_id}", summary="Everything the overview page shows")
async def dashboard(request: Request, principal: Reader, tenant_id: str) -> answers.Overview:
    """State in a sentence, active alerts with chart and reasons, tiles, findings, what is ahead."""
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    limits = await parts.tenants.quota(tenant)
    page = await parts.dashboard.for_tenant(tenant, series_limit=limits.series)
    return answers.Overview.model_validate(page)


@router.get("/analytics/insights/{tenant_id}", summary="Findings in plain language")
async def insights(request: Request, principal: Reader, tenant_id: str) -> answers.Insights:
    """What is unusual, where, since when, what comes next; the most important first."""
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    now = parts.clock.now()
    found = await parts.insights.for_tenant(tenant, now)
    return answers.Insights.model_validate({"tenant": tenant, "at": now, "findings": found})


@router.get("/analytics/training", summary="Where training stands")
async def training(request: Request, principal: Reader) -> answers.Training:
    """Series of the tenant that wait for a model, how many are done, and how long it will take."""
    found = await wiring(request).training.of(tenant_of(principal))
    return answers.Training.model_validate(found)


@router.get("/analytics/series", summary="List series")
async def series(
    request: Request,
    principal: Reader,
    match: Annotated[
        str | None,
        Query(description='A selector, e.g. `plays{region="eu"}`', max_length=2048),
    ] = None,
    cursor: Annotated[str | None, Query(max_length=16)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> answers.SeriesPage:
    """By name and labels. Without `match`, what models wrote is left out."""
    parts, tenant = wiring(request), tenant_of(principal)
    selector = None if match is None else parse_selector(match)
    found = select_series((await parts.source.all(tenant)).values(), selector)
    if selector is None:
        found = [s for s in found if not s.is_derived]
    start = _after(found, cursor)
    page = found[start : start + limit]
    more = start + limit < len(found)
    return answers.SeriesPage(
        items=await _items(parts, tenant, page),
        next=page[-1].hex if more and page else None,
    )


@router.get("/analytics/series/{series_id}", summary="Show a series and its model")
async def card(request: Request, principal: Reader, series_id: str) -> answers.SeriesCard:
    """Its newest value, the model's state, training range, quality and error, its change points."""
    parts, tenant = wiring(request), tenant_of(principal)
    found = await parts.source.get(tenant, series_number(series_id))
    (item,) = await _items(parts, tenant, [found])
    row = (await _models(parts.database, tenant, [found])).get(found.hex)
    model = answers.Model.model_validate(_model(row)) if row else None
    changes = row["quality"].get("change_points", []) if row else []
    return answers.SeriesCard(**item.model_dump(), model=model, change_points=changes)


@router.get(
    "/analytics/series/{series_id}/samples",
    summary="Samples of a series",
    response_model=answers.Samples | answers.Rows,
)
async def samples(
    request: Request,
    principal: Reader,
    series_id: str,
    start: _Time = None,
    end: _Time = None,
    step: Annotated[
        str | None,
        Query(description="Sum samples up by so much: seconds, or `5m`, `1h`", max_length=32),
    ] = None,
) -> Response:
    """In columns, ascending; the last six hours unless told otherwise, at most 50,000.

    With `step` lowest, highest, mean and count of each step that the range touches, at most
    11,000. Steps that are a multiple of five minutes reach back as far as roll-ups are kept.
    """
    parts, tenant = wiring(request), tenant_of(principal)
    step_ms = None if step is None else _step(step)
    found = await parts.source.get(tenant, series_number(series_id))
    now = parts.clock.now()
    until = now if end is None else seconds(end, "end")
    since = until - 21_600 if start is None else seconds(start, "start")
    if since > until:
        raise InvalidInput("start lies after end", where="start")
    kept = parts.settings.retention_seconds
    if step_ms is not None and step_ms % STEP_MS == 0:
        kept = max(kept, parts.settings.rollup_retention_seconds)
    elif step_ms is not None and since < now - kept - _DAY:
        raise InvalidInput(
            f"samples are kept for {format_duration(kept)}; before that there are five-minute "
            "roll-ups: take a step that is a multiple of 5m",
            where="step",
        )
    # Nothing is kept outside these bounds, so nothing is asked for there.
    since = max(since, now - kept - _DAY)
    until = min(until, now + _AHEAD)
    start_ms, end_ms = math.ceil(since * 1000), math.floor(until * 1000)
    body: dict[str, Any]
    if step_ms is None:
        body = await _raw(parts, tenant, found, start_ms, end_ms)
    else:
        body = await _rows(parts, tenant, found, start_ms, end_ms, step_ms)
    return Response(msgspec.json.encode(body), media_type="application/json")  # NaN is null


async def _raw(
    parts: "Wiring", tenant: str, series: Series, start_ms: int, end_ms: int
) -> dict[str, Any]:
    columns = Columns.empty()
    if start_ms <= end_ms:
        columns = (await parts.source.read(tenant, [series.id], start_ms, end_ms))[series.id]
    t, v = columns
    return {
        "series": series.hex,
        "t": t[-SAMPLES_MAX:].tolist(),
        "v": v[-SAMPLES_MAX:].tolist(),
        "truncated": len(t) > SAMPLES_MAX,
    }


async def _rows(
    parts: "Wiring", tenant: str, series: Series, start_ms: int, end_ms: int, step_ms: int
) -> dict[str, Any]:
    count = end_ms // step_ms - start_ms // step_ms + 1
    if count > ROWS_MAX:
        least = math.ceil((end_ms - start_ms) / (ROWS_MAX - 2) / STEP_MS) * STEP_MS
        raise InvalidInput(
            f"these are {count:,} steps, and an answer has {ROWS_MAX:,} at most; take a shorter "
            f"range, or a step of {format_duration(least / 1000)}",
            where="step",
        )
    rows = aggregate(Columns.empty(), step_ms)
    if start_ms <= end_ms:
        found = await parts.source.aggregate(tenant, [series.id], start_ms, end_ms, step_ms)
        rows = found[series.id]
    with np.errstate(all="ignore"):
        mean = rows.sum / rows.count
    return {
        "series": series.hex,
        "resolution": "5m" if rows.rolled_up else "raw",
        "step": step_ms,
        "t": rows.t.tolist(),
        "min": rows.min.tolist(),
        "max": rows.max.tolist(),
        "mean": mean.tolist(),
        "count": rows.count.tolist(),
    }


@router.post("/dashboard/{tenant_id}/link", summary="Make a link to the dashboard")
async def link(request: Request, principal: Reader, tenant_id: str) -> answers.Link:
    """It logs in once, within ten minutes, with what the key may do."""
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    acting = Principal(principal.key_id, principal.name, principal.role, tenant)
    ticket = parts.sessions.issue_ticket(acting)
    base = parts.settings.external_url or str(request.base_url)
    return answers.Link(url=f"{base.rstrip('/')}/login/{ticket}")


def _after(found: Sequence[Series], cursor: str | None) -> int:
    if cursor is None:
        return 0
    wanted = parse_series_id(cursor)
    for position, each in enumerate(found):
        if each.id == wanted:
            return position + 1
    raise InvalidInput("cursor is none that this list gave", where="cursor")


def _step(text: str) -> int:
    try:
        step_ms = round(parse_duration(text) * 1000)
    except InvalidInput as error:
        raise InvalidInput(str(error), where="step") from error
    if not 1 <= step_ms <= _STEP_MAX_MS:
        raise InvalidInput("a step lies between a millisecond and 31 days", where="step")
    return step_ms


async def _items(parts: "Wiring", tenant: str, page: Sequence[Series]) -> list[answers.SeriesItem]:
    now_ms = round(parts.clock.now() * 1000)
    ids = [s.id for s in page]
    read = await parts.source.read(tenant, ids, now_ms - round(_DAY * 1000), now_ms)
    rows = {s.id: int(np.isfinite(read[s.id].v).sum()) for s in page if not s.is_derived}
    known = await parts.source.all(tenant) if rows else {}
    async with parts.database.read() as connection:
        standings = await standings_of(connection, tenant, rows, known)
    items = []
    for s in page:
        t, v = read[s.id]
        stands = standings.get(s.id)
        last = float(v[-1]) if len(v) and math.isfinite(v[-1]) else None
        items.append(
            answers.SeriesItem(
                id=s.hex,
                name=s.name,
                labels=s.tags,
                metric_type=str(s.metric_type),
                last_value=last,
                last_at=iso(float(t[-1]) / 1000) if len(t) else None,
                model_state="none" if stands is None else str(stands.state),
                confidence=0.0 if stands is None else round(stands.confidence, 3),
            )
        )
    return items


async def _models(database: Database, tenant: str, page: Sequence[Series]) -> dict[str, RowMapping]:
    async with database.read() as connection:
        return await records.models_of(connection, tenant, [s.hex for s in page])


def _model(row: RowMapping) -> dict[str, Any]:
    told = {k: v for k, v in row.items() if k in answers.Model.model_fields}
    quality = {k: v for k, v in row["quality"].items() if k != "change_points"}
    return told | {"quality": quality}
