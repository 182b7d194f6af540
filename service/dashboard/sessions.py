"""Who looks at a page: the session in the cookie, and what it may see."""

import re

from fastapi import Request
from starlette.responses import Response

from service.domain.errors import Forbidden, NotFound, Unauthenticated
from service.domain.tenants import PLATFORM, TENANT_ID, Permission, Principal, Role
from service.wiring import Wiring

COOKIE = "offbeat_session"
SECONDS = 7 * 86400.0

# A path of ours, so that a link cannot send anybody elsewhere after the login.
_PATH = re.compile(r"/(?:[A-Za-z0-9_~.%-][A-Za-z0-9_~.%/?&=-]*)?(?:#[A-Za-z0-9_-]*)?")


def wiring(request: Request) -> Wiring:
    """All that the composition root made."""
    made: Wiring = request.app.state.wiring
    return made


async def viewer(request: Request) -> Principal:
    """Whose session it is; `Unauthenticated` without a valid one."""
    token = request.cookies.get(COOKIE)
    if token is None:
        raise Unauthenticated("please log in")
    parts = wiring(request)
    principal = parts.sessions.verify(token)
    if not await parts.keys.live(principal.key_id):
        raise Unauthenticated("your session has ended, because its key was revoked")
    return principal


async def acting(request: Request, tenant_id: str) -> tuple[Principal, str]:
    """The viewer, acting for the tenant of the path, and the tenant's name.

    `NotFound` for another's tenant just as for none; `Forbidden` for a key that may not read.
    """
    principal = await viewer(request)
    if not principal.may(Permission.READ):
        raise Forbidden("this key may send metrics and not read; log in with another one")
    missing = NotFound(f"there is no tenant {tenant_id[:64]!r}")
    if principal.tenant != tenant_id:
        if principal.role is not Role.ADMIN or tenant_id == PLATFORM:
            raise missing
        if not TENANT_ID.fullmatch(tenant_id):
            raise missing
        principal = Principal(principal.key_id, principal.name, principal.role, tenant_id)
    tenant = await wiring(request).tenants.get(tenant_id)
    return principal, tenant.name


def begin(request: Request, response: Response, principal: Principal) -> None:
    """Set the cookie of a new session."""
    response.set_cookie(
        COOKIE,
        wiring(request).sessions.issue(principal, SECONDS),
        max_age=int(SECONDS),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def end(response: Response) -> None:
    """Remove the cookie."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def safe_path(path: str | None) -> str:
    """`path` if it is one of ours, else the start page."""
    return path if path and _PATH.fullmatch(path) else "/"


def home(principal: Principal) -> str:
    """Where a viewer starts."""
    return f"/dashboard/{principal.tenant}" if principal.tenant else "/"


def from_elsewhere(request: Request) -> bool:
    """Whether a page of another site sent the browser here; then strict cookies stay at home."""
    return request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
