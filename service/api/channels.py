"""Where a tenant's alerts go."""

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import allow, tenant_of, wiring
from service.domain.clock import iso
from service.domain.errors import NotFound
from service.domain.notifications import Notification, NotificationKind
from service.domain.tenants import Permission, Principal
from service.notify.store import ChannelView, check_name

router = APIRouter(prefix="/alerts/channels", tags=["channels"])

Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]
Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Name = Annotated[str, Path(description="What rules call it: a-z, 0-9, - and _", max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SlackBody(_Body):
    """Slack, or whatever takes its incoming webhooks."""

    type: Literal["slack"]
    webhook_url: str = Field(
        max_length=2048, examples=["https://hooks.slack.com/services/T01234567/B01234567/secret"]
    )


class EmailBody(_Body):
    """Mail through the platform's server."""

    type: Literal["email"]
    to: list[str] | str = Field(
        description="addresses, as a list or by comma", examples=[["night@acme.example"]]
    )


class WebhookBody(_Body):
    """Alertmanager's payload, version 4."""

    type: Literal["webhook"]
    url: str = Field(max_length=2048, examples=["https://acme.example/alerts"])
    secret: str | None = Field(
        None,
        max_length=512,
        description="whsec_ and base64; signs each call as Standard Webhooks says",
    )


ChannelBody = Annotated[SlackBody | EmailBody | WebhookBody, Field(discriminator="type")]


class ChannelShown(BaseModel):
    """A channel. Of secrets, the last four characters are shown."""

    name: str
    type: str
    platform: bool = Field(description="whether it is the platform's, for every tenant")
    config: dict[str, Any]
    created_at: str | None
    updated_at: str | None


class ChannelList(BaseModel):
    """Every channel that rules can name."""

    items: list[ChannelShown]


class Queued(BaseModel):
    """The notification that is on its way; follow it under `/alerts/notifications/{id}`."""

    id: str


@router.get("", summary="List channels")
async def listing(request: Request, principal: Reader) -> ChannelList:
    """The tenant's own and the platform's, by name; an own one hides the platform's."""
    found = await wiring(request).channels.list(tenant_of(principal))
    return ChannelList(items=[_shown(view) for view in found])


@router.put("/{name}", summary="Create or replace a channel")
async def put(
    request: Request, response: Response, principal: Operator, name: Name, body: ChannelBody
) -> ChannelShown:
    """201 for a new one, 200 for a change; the same twice changes nothing."""
    view, new = await wiring(request).channels.put(
        tenant_of(principal), name, body.model_dump(exclude_none=True), actor=principal.actor
    )
    response.status_code = 201 if new else 200
    return _shown(view)


@router.delete("/{name}", status_code=204, summary="Remove a channel")
async def delete(request: Request, principal: Operator, name: Name) -> None:
    """What is still in the outbox for it fails, and says so."""
    await wiring(request).channels.delete(tenant_of(principal), name, actor=principal.actor)


@router.post("/{name}/test", status_code=202, summary="Send a test message")
async def test(request: Request, principal: Operator, name: Name) -> Queued:
    """Goes the way of every notification, retries included."""
    parts, tenant = wiring(request), tenant_of(principal)
    check_name(name)
    if not await parts.channels.exists(tenant, name):
        raise NotFound(f"there is no channel {name[:64]!r}")
    notification = Notification(
        id=uuid.uuid4().hex,
        tenant=tenant,
        alert_id=None,
        kind=NotificationKind.TEST,
        channel=name,
        payload={"message": f"{principal.actor} asked for it."},
    )
    await parts.outbox.add(notification, actor=principal.actor)
    await parts.wake.publish("outbox")
    return Queued(id=notification.id)


def _shown(view: ChannelView) -> ChannelShown:
    config = dict(view.config)
    return ChannelShown(
        name=view.name,
        type=str(config.pop("type")),
        platform=view.platform,
        config=config,
        created_at=iso(view.created_at),
        updated_at=iso(view.updated_at),
    )
