"""Tenants and their quotas: for the platform's operators."""

from dataclasses import asdict
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import allow, tenant_in_path, wiring
from service.domain.clock import iso
from service.domain.errors import Unprocessable
from service.domain.tenants import TENANT_ID, Permission, Principal, Tenant
from service.security.tenants import TenantStore
from service.storage.usage import as_csv

router = APIRouter(prefix="/tenants", tags=["tenants"])

Administrator = Annotated[Principal, Depends(allow(Permission.ADMINISTER))]
Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]


class NewTenant(BaseModel):
    """A tenant to be."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = Field(pattern=f"^{TENANT_ID.pattern}$", examples=["acme"])
    name: str = Field(min_length=1, max_length=200, examples=["Acme Streaming"])


class TenantChange(BaseModel):
    """What can be changed of a tenant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200, examples=["Acme Streaming"])


class Quota(BaseModel):
    """Limits to set, any of them; null returns one to the shipped default."""

    # Unknown names are let through to the store, whose error lists the known ones.
    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={"additionalProperties": False, "minProperties": 1},
    )

    samples_per_second: float | None = Field(
        None, ge=1, allow_inf_nan=False, description="Samples taken a second, on average."
    )
    requests_per_second: float | None = Field(
        None, ge=1, allow_inf_nan=False, description="Recording requests a second, on average."
    )
    series: int | None = Field(None, ge=1, description="Series the tenant may have.")
    new_series_per_minute: int | None = Field(
        None, ge=1, description="Series the tenant may add a minute, on average."
    )
    rules: int | None = Field(None, ge=1, description="Rules the tenant may make.")
    active_alerts: int | None = Field(
        None, ge=1, description="Pending and firing alerts the tenant may have."
    )
    sample_age_seconds: float | None = Field(
        None, ge=1, allow_inf_nan=False, description="Oldest sample taken."
    )


class Limits(BaseModel):
    """The limits in force, shipped defaults included."""

    samples_per_second: float
    requests_per_second: float
    series: int
    new_series_per_minute: int
    rules: int
    active_alerts: int
    sample_age_seconds: float


class TenantView(BaseModel):
    """A tenant as it is shown."""

    id: str
    name: str
    created_at: str | None
    quota: Limits


class DayUsed(BaseModel):
    """What a tenant used on a UTC day."""

    day: date
    samples: int = Field(description="Samples kept")
    requests: int = Field(description="Recording requests taken")
    refused: int = Field(description="Recording requests refused over the quota")
    series: int = Field(description="The most series seen that day")
    notifications: int = Field(description="Notifications sent")


class UsagePage(BaseModel):
    """The days on which something was used, oldest first; `next` is always null."""

    items: list[DayUsed]
    next: str | None


_DAYS_MAX = 400
_DAYS = 30
_USAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "As JSON, or as CSV if the request accepts text/csv",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


class TenantPage(BaseModel):
    """Some tenants; `next` is the cursor of the page that follows, or null."""

    items: list[TenantView]
    next: str | None


@router.post("", status_code=201, summary="Make a tenant")
async def create(
    request: Request, response: Response, principal: Administrator, body: NewTenant
) -> TenantView:
    """409 if there is one of that id."""
    parts = wiring(request)
    tenant = await parts.tenants.create(body.id, body.name, principal.actor)
    response.headers["Location"] = f"/tenants/{tenant.id}"
    return _shown(tenant, parts.tenants)


@router.get("", summary="List tenants")
async def listing(
    request: Request,
    principal: Administrator,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> TenantPage:
    """By id, a page at a time."""
    parts = wiring(request)
    found, following = await parts.tenants.list(cursor, limit)
    items = [_shown(tenant, parts.tenants) for tenant in found]
    return TenantPage(items=items, next=following)


@router.get("/{tenant_id}", summary="Show a tenant and its quota")
async def show(request: Request, principal: Operator, tenant_id: str) -> TenantView:
    """Operators see their own."""
    parts = wiring(request)
    tenant = await parts.tenants.get(tenant_in_path(principal, tenant_id))
    return _shown(tenant, parts.tenants)


@router.patch("/{tenant_id}", summary="Rename a tenant")
async def rename(
    request: Request, principal: Administrator, tenant_id: str, body: TenantChange
) -> TenantView:
    """The id never changes."""
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    return _shown(await parts.tenants.rename(tenant, body.name, principal.actor), parts.tenants)


@router.put("/{tenant_id}/quota", summary="Set a tenant's limits")
async def set_quota(
    request: Request, principal: Administrator, tenant_id: str, body: Quota
) -> TenantView:
    """Sets those that are sent and leaves the others."""
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    quota = body.model_dump(exclude_unset=True)
    return _shown(await parts.tenants.set_quota(tenant, quota, principal.actor), parts.tenants)


@router.get(
    "/{tenant_id}/usage",
    summary="What a tenant used, by day",
    response_model=UsagePage,
    responses=_USAGE,
)
async def usage(
    request: Request,
    principal: Operator,
    tenant_id: str,
    first: Annotated[str | None, Query(alias="from", pattern=_DATE)] = None,
    last: Annotated[str | None, Query(alias="to", pattern=_DATE)] = None,
) -> Response:
    """From one UTC day to another, both included; the last 30 days if none is named.

    Today is exact as of now. Days on which nothing was used are left out.
    """
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    end = _day(last, "to") or parts.usage.today
    begin = _day(first, "from") or end - min(end - date.min, timedelta(days=_DAYS - 1))
    if begin > end:
        raise Unprocessable(f"from ({begin}) is later than to ({end})", where="from")
    if end - begin >= timedelta(days=_DAYS_MAX):
        raise Unprocessable(f"ask for {_DAYS_MAX} days at most", where="from")
    days = await parts.usage.of(tenant, begin, end)
    accepted = request.headers.get("accept", "").split(",")
    if any(kind.partition(";")[0].strip().lower() == "text/csv" for kind in accepted):
        name = f"usage-{tenant}-{begin}-{end}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response("".join(as_csv(days)), 200, headers, "text/csv")
    page = UsagePage(items=[DayUsed(**asdict(day)) for day in days], next=None)
    return JSONResponse(page.model_dump(mode="json"))


@router.delete("/{tenant_id}", status_code=204, summary="Delete a tenant with all its data")
async def remove(request: Request, principal: Administrator, tenant_id: str) -> None:
    """Its keys end first; then its samples, rules, alerts and everything else is removed."""
    parts, tenant = wiring(request), tenant_in_path(principal, tenant_id)
    await parts.tenants.delete(tenant, principal.actor)
    parts.keys.forget_tenant(tenant)


def _shown(tenant: Tenant, store: TenantStore) -> TenantView:
    return TenantView(
        id=tenant.id,
        name=tenant.name,
        created_at=iso(tenant.created_at),
        quota=Limits.model_validate(store.quota_of(tenant), from_attributes=True),
    )


def _day(text: str | None, where: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Unprocessable(f"{text} is no day; write YYYY-MM-DD", where=where) from error
