"""A tenant's API keys; under `/tenants/-/keys`, the admins'."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.deps import allow, tenant_in_path, wiring
from service.domain.clock import iso
from service.domain.errors import NotFound
from service.domain.tenants import PLATFORM, Permission, Principal, Role
from service.security.keys import ApiKey

router = APIRouter(prefix="/tenants/{tenant_id}/keys", tags=["keys"])

Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]


class NewKey(BaseModel):
    """A key to be."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(description="admin only under /tenants/-/keys, and only admin there")
    name: str = Field(min_length=1, max_length=200, examples=["ingest of the web players"])


class MadeKey(BaseModel):
    """A key as it is shown once."""

    id: str
    key: str


class KeyView(BaseModel):
    """A key as it is listed."""

    id: str
    name: str
    role: Role
    created_at: str | None
    revoked_at: str | None


class KeyList(BaseModel):
    """A tenant's keys."""

    items: list[KeyView]


@router.post("", status_code=201, summary="Make a key")
async def create(
    request: Request, response: Response, principal: Operator, tenant_id: str, body: NewKey
) -> MadeKey:
    """The key is shown this once and cannot be shown again."""
    owner = _owner(principal, tenant_id)
    key_id, key = await wiring(request).keys.create(owner, body.role, body.name, principal.actor)
    response.headers["Location"] = f"/tenants/{owner}/keys/{key_id}"
    return MadeKey(id=key_id, key=key)


@router.get("", summary="List keys")
async def listing(request: Request, principal: Operator, tenant_id: str) -> KeyList:
    """Oldest first, revoked ones included."""
    found = await wiring(request).keys.list(_owner(principal, tenant_id))
    return KeyList(items=[_shown(key) for key in found])


@router.get("/{key_id}", summary="Show a key")
async def show(request: Request, principal: Operator, tenant_id: str, key_id: str) -> KeyView:
    """Everything but the key itself."""
    for key in await wiring(request).keys.list(_owner(principal, tenant_id)):
        if key.id == key_id:
            return _shown(key)
    raise NotFound(f"there is no key {key_id[:32]!r}")


@router.delete("/{key_id}", status_code=204, summary="Revoke a key")
async def revoke(request: Request, principal: Operator, tenant_id: str, key_id: str) -> None:
    """Ends it, and the sessions that it began, within a second; it cannot be undone."""
    await wiring(request).keys.revoke(_owner(principal, tenant_id), key_id, principal.actor)


def _owner(principal: Principal, tenant_id: str) -> str:
    if tenant_id == PLATFORM and principal.may(Permission.ADMINISTER):
        return PLATFORM
    return tenant_in_path(principal, tenant_id)


def _shown(key: ApiKey) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        role=key.role,
        created_at=iso(key.created_at),
        revoked_at=iso(key.revoked_at),
    )
