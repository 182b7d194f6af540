"""What was sent, what is on its way, and what could not be delivered."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from service.api.deps import allow, tenant_of, wiring
from service.domain.clock import iso
from service.domain.notifications import DeliveryState, NotificationKind
from service.domain.tenants import Permission, Principal
from service.notify.rows import WAITING, Delivery, DeliveryFilter

router = APIRouter(prefix="/alerts/notifications", tags=["notifications"])

Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]
Reader = Annotated[Principal, Depends(allow(Permission.READ))]


class NotificationShown(BaseModel):
    """One message to one channel."""

    id: str
    alert_id: str | None
    kind: NotificationKind
    step: int = Field(description="of the escalation; 0 for the first message")
    channel: str
    state: DeliveryState
    attempts: int
    created_at: str | None
    due_at: str | None = Field(description="when it is tried next, if it is pending or retried")
    sent_at: str | None
    last_error: str | None = Field(description="why it failed, waits, or was not sent")


class NotificationPage(BaseModel):
    """Some notifications; `next` is the cursor of the page that follows, or null."""

    items: list[NotificationShown]
    next: str | None


@router.get("", summary="List notifications")
async def listing(
    request: Request,
    principal: Reader,
    alert_id: Annotated[str | None, Query(max_length=64)] = None,
    state: DeliveryState | None = None,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> NotificationPage:
    """Newest first."""
    found, following = await wiring(request).outbox.list(
        tenant_of(principal), DeliveryFilter(alert_id, state), cursor, limit
    )
    return NotificationPage(items=[_shown(delivery) for delivery in found], next=following)


@router.get("/{notification_id}", summary="Show a notification")
async def show(request: Request, principal: Reader, notification_id: str) -> NotificationShown:
    """What became of it."""
    return _shown(await wiring(request).outbox.get(tenant_of(principal), notification_id))


@router.post("/{notification_id}/replay", summary="Send a dead notification once more")
async def replay(request: Request, principal: Operator, notification_id: str) -> NotificationShown:
    """As if it were new, retries included; 409 unless it is dead."""
    parts = wiring(request)
    delivery = await parts.outbox.replay(
        tenant_of(principal), notification_id, actor=principal.actor
    )
    await parts.wake.publish("outbox")
    return _shown(delivery)


def _shown(delivery: Delivery) -> NotificationShown:
    waits = delivery.state in WAITING
    return NotificationShown(
        id=delivery.id,
        alert_id=delivery.alert_id,
        kind=delivery.kind,
        step=delivery.step,
        channel=delivery.channel,
        state=delivery.state,
        attempts=delivery.attempts,
        created_at=iso(delivery.created_at),
        due_at=iso(delivery.due_at) if waits else None,
        sent_at=iso(delivery.sent_at),
        last_error=delivery.last_error,
    )
