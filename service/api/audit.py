"""The audit log."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from service.api.deps import allow, wiring
from service.domain.clock import iso
from service.domain.tenants import PLATFORM, Permission, Principal
from service.security import audit

router = APIRouter(tags=["audit"])


@router.get("/audit", summary="Who changed what, when")
async def listing(
    request: Request,
    principal: Annotated[Principal, Depends(allow(Permission.CONFIGURE))],
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Newest first. An admin sees the tenant named in X-Tenant-ID, or else the platform's own."""
    entries, following = await audit.page(
        wiring(request).database, principal.tenant or PLATFORM, cursor, limit
    )
    items = [
        {
            "id": entry.id,
            "at": iso(entry.at),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": entry.detail,
        }
        for entry in entries
    ]
    return {"items": items, "next": following}
