"""The audit log."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from service.api.deps import allow, wiring
from service.domain.clock import iso
from service.domain.tenants import PLATFORM, Permission, Principal
from service.security import audit

router = APIRouter(tags=["audit"])


class EntryView(BaseModel):
    """One change."""

    id: int
    at: str | None
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class EntryPage(BaseModel):
    """Some entries; `next` is the cursor of the page that follows, or null."""

    items: list[EntryView]
    next: str | None


@router.get("/audit", summary="Who changed what, when")
async def listing(
    request: Request,
    principal: Annotated[Principal, Depends(allow(Permission.CONFIGURE))],
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> EntryPage:
    """Newest first. An admin sees the tenant named in X-Tenant-ID, or else the platform's own."""
    entries, following = await audit.page(
        wiring(request).database, principal.tenant or PLATFORM, cursor, limit
    )
    items = [
        EntryView(
            id=entry.id,
            at=iso(entry.at),
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            detail=entry.detail,
        )
        for entry in entries
    ]
    return EntryPage(items=items, next=following)
