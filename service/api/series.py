"""Labels of a tenant's series, and deleting a series."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel

from service.api.deps import allow, tenant_of, wiring
from service.api.reading import series_number
from service.domain.series import Series
from service.domain.tenants import Permission, Principal
from service.query.selector import parse_selector
from service.security import audit

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]

_Match = Annotated[
    str | None,
    Query(description='Only of these series, e.g. `plays{region="eu"}`', max_length=2048),
]
_Cursor = Annotated[str | None, Query(max_length=2048)]
_Limit = Annotated[int, Query(ge=1, le=1000)]


class TextPage(BaseModel):
    """Some names or values, sorted; `next` is the cursor of the page that follows, or null."""

    items: list[str]
    next: str | None


@router.get("/analytics/labels", summary="List label names")
async def labels(
    request: Request,
    principal: Reader,
    match: _Match = None,
    cursor: _Cursor = None,
    limit: _Limit = 100,
) -> TextPage:
    """Every label that a series has; the metric's name is the label `__name__`.

    Without `match`, what models wrote is left out.
    """
    found = await _series(request, principal, match)
    return _page({name for series in found for name, _ in series.labels}, cursor, limit)


@router.get("/analytics/labels/{name}/values", summary="List the values of a label")
async def values(
    request: Request,
    principal: Reader,
    name: Annotated[str, Path(max_length=128, examples=["region"])],
    match: _Match = None,
    cursor: _Cursor = None,
    limit: _Limit = 100,
) -> TextPage:
    """Every value that a series has for it; none for a label that no series has.

    `/analytics/labels/__name__/values` lists the metrics.
    """
    found = await _series(request, principal, match)
    return _page({series.label(name) for series in found} - {""}, cursor, limit)


@router.delete("/analytics/series/{series_id}", status_code=204, summary="Delete a series")
async def delete(request: Request, principal: Operator, series_id: str) -> None:
    """With all its samples and what models say about it; a sample sent later makes it anew."""
    parts, tenant = wiring(request), tenant_of(principal)
    number = series_number(series_id)
    series = await parts.source.get(tenant, number)
    async with parts.database.begin() as connection:
        await audit.record(
            connection,
            tenant=tenant,
            actor=principal.actor,
            action="series.deleted",
            subject=series.hex,
            detail={"series": str(series)[:1000]},
            at=parts.clock.now(),
        )
        # Last, for it cannot be taken back.
        await parts.deletion.series(tenant, series)


async def _series(request: Request, principal: Principal, match: str | None) -> list[Series]:
    selector = None if match is None else parse_selector(match)
    found = await wiring(request).source.select(tenant_of(principal), selector)
    return found if selector else [series for series in found if not series.is_derived]


def _page(found: Iterable[str], cursor: str | None, limit: int) -> TextPage:
    rest = sorted(text for text in found if cursor is None or text > cursor)
    items = rest[:limit]
    return TextPage(items=items, next=items[-1] if len(rest) > limit else None)
