"""Who is asking, for which tenant, and may they: the dependencies of every route.

A key comes as `Authorization: Bearer …` or `X-API-Key`, a person's session as the cookie of the
dashboard. A tenant's key acts for its tenant; an admin's key for the one named in `X-Tenant-ID`
or in the path. Another tenant's id is answered exactly as one that does not exist.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, cast

import structlog
from fastapi import Header, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from service.domain.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from service.domain.tenants import PLATFORM, TENANT_ID, Permission, Principal, Role

if TYPE_CHECKING:
    from service.wiring import Wiring

SESSION_COOKIE = "offbeat_session"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# These two only describe the scheme in the OpenAPI document; `identify` reads the headers.
_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key")
_API_KEY = APIKeyHeader(
    name="X-API-Key", auto_error=False, scheme_name="apiKey", description="An API key"
)

PrincipalDependency = Callable[..., Awaitable[Principal]]


def wiring(request: Request) -> "Wiring":
    """All that the composition root made."""
    return cast("Wiring", request.app.state.wiring)


async def identify(request: Request, presented: str | None = None) -> Principal:
    """Who is asking; `tenant` as in the key or session. `Unauthenticated` without a valid one.

    `presented` is a key that the route found elsewhere than in the usual headers.
    """
    presented = presented or _presented_key(request)
    parts = wiring(request)
    if presented is not None:
        return await parts.keys.verify(presented)
    token = request.cookies.get(SESSION_COOKIE)
    if token is None:
        raise Unauthenticated(
            "send an API key as 'Authorization: Bearer <key>' or in the header X-API-Key"
        )
    principal = parts.sessions.verify(token)
    if not await parts.keys.live(principal.key_id):
        raise Unauthenticated("the session has ended: its key was revoked")
    if request.method not in _SAFE_METHODS and request.headers.get("x-requested-with") != "offbeat":
        raise Forbidden("changes made with a session need the header X-Requested-With: offbeat")
    return principal


async def authorize(
    request: Request, permission: Permission, presented: str | None = None
) -> Principal:
    """Who is asking, with the tenant resolved, if they may; else 401, 403 or 404, in this order."""
    principal = await identify(request, presented)
    if not principal.may(permission):
        raise Forbidden(
            f"this needs the permission {permission!s}, which the role {principal.role!s} lacks"
        )
    principal = await _acting(request, principal)
    structlog.contextvars.bind_contextvars(tenant=principal.tenant or PLATFORM)
    return principal


def allow(permission: Permission, *, basic: bool = False) -> PrincipalDependency:
    """A dependency that gives the `Principal` if its role has `permission`.

    With `basic`, the key may also be the password of basic authentication.
    """

    async def principal(
        request: Request,
        _bearer: Annotated[object, Security(_BEARER)],
        _api_key: Annotated[object, Security(_API_KEY)],
        _tenant: Annotated[
            str | None,
            Header(alias="X-Tenant-ID", description="The tenant that an admin key acts for."),
        ] = None,
    ) -> Principal:
        return await authorize(request, permission, basic_password(request) if basic else None)

    return principal


def basic_password(request: Request) -> str | None:
    """The password of basic authentication, None for another scheme; `Unauthenticated`."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        found = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        raise Unauthenticated("the basic authentication cannot be read") from None
    if not found:
        raise Unauthenticated("Authorization: Basic comes without an API key")
    if request.headers.get("x-api-key", found).strip() != found:
        raise Unauthenticated("Authorization and X-API-Key carry different keys; send one")
    return found


def tenant_of(principal: Principal) -> str:
    """The tenant that the principal acts for; `InvalidInput` for an admin who named none."""
    if principal.tenant is None:
        raise InvalidInput("name the tenant in X-Tenant-ID", where="X-Tenant-ID")
    return principal.tenant


def tenant_in_path(principal: Principal, tenant_id: str) -> str:
    """The tenant of the path, if the principal acts for it; else `NotFound`.

    Where the path's parameter is called `tenant_id`, `allow` has let an admin act for it already.
    """
    if principal.tenant != tenant_id:
        raise no_tenant(tenant_id)
    return tenant_id


def no_tenant(tenant_id: str) -> NotFound:
    """The one error for a tenant that is missing and for one that is somebody else's."""
    return NotFound(f"there is no tenant {tenant_id[:64]!r}")


def _presented_key(request: Request) -> str | None:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else None
    header = request.headers.get("x-api-key")
    if bearer and header and bearer != header.strip():
        raise Unauthenticated("Authorization and X-API-Key carry different keys; send one")
    if bearer is None and header is None and scheme:
        raise Unauthenticated(
            "Authorization takes the scheme Bearer: 'Authorization: Bearer <key>'"
        )
    return bearer if bearer is not None else header and header.strip()


async def _acting(request: Request, principal: Principal) -> Principal:
    """The principal with the tenant that the request names, if it may act for it."""
    named = request.headers.get("x-tenant-id")
    in_path = request.path_params.get("tenant_id")
    wanted = in_path if named is None else named
    if in_path is not None and wanted != in_path:
        raise no_tenant(in_path)
    if wanted is None or wanted == principal.tenant or (named is None and wanted == PLATFORM):
        return principal
    if principal.role is not Role.ADMIN or not TENANT_ID.fullmatch(wanted):
        raise no_tenant(wanted)
    await wiring(request).tenants.get(wanted)
    return Principal(principal.key_id, principal.name, principal.role, wanted)
