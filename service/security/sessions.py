"""Sessions of people at the dashboard, and the one-use tickets that start them.

Both are signed tokens (HS256) under a key of their own. Their time is the handed-in clock's.
That the key behind a session still lives is asked of the key ring at each request.
"""

import secrets
from typing import Any

import jwt
from redis.asyncio import Redis

from service.domain.clock import Clock
from service.domain.errors import Unauthenticated
from service.domain.tenants import Principal, Role
from service.security.crypto import derive
from service.storage import keys

TICKET_SECONDS = 600.0

_SESSION, _TICKET = "offbeat-session", "offbeat-ticket"


class Sessions:
    """Issues and checks session tokens and login tickets."""

    def __init__(self, key: bytes, clock: Clock, redis: Redis) -> None:
        self._key, self._clock, self._redis = derive(key, "sessions"), clock, redis

    def issue(self, principal: Principal, seconds: float) -> str:
        """A session token for `seconds`."""
        return self._sign(principal, _SESSION, seconds)

    def verify(self, token: str) -> Principal:
        """Whose session it is; `Unauthenticated` if it is not ours, was changed, or has ended."""
        return _principal(self._read(token, _SESSION, "session"))

    def issue_ticket(self, principal: Principal) -> str:
        """A token for a link that logs in once, within ten minutes."""
        return self._sign(principal, _TICKET, TICKET_SECONDS)

    async def redeem(self, ticket: str) -> Principal:
        """Who may log in; `Unauthenticated` if expired or used before, on any replica."""
        claims = self._read(ticket, _TICKET, "login link")
        # The clock never runs slower than real time, so the mark outlives the ticket.
        marked = await self._redis.set(
            keys.ticket(claims["jti"]), b"1", nx=True, ex=int(2 * TICKET_SECONDS)
        )
        if not marked:
            raise Unauthenticated("the login link was used already; ask for a new one")
        return _principal(claims)

    def _sign(self, principal: Principal, audience: str, seconds: float) -> str:
        claims = {
            "aud": audience,
            "exp": self._clock.now() + seconds,
            "jti": secrets.token_urlsafe(16),
            "sub": principal.key_id,
            "name": principal.name,
            "role": str(principal.role),
            "tenant": principal.tenant,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def _read(self, token: str, audience: str, what: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=audience,
                options={"require": ["exp", "aud", "sub", "jti"], "verify_exp": False},
            )
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Unauthenticated(f"the {what} is not valid; log in again") from error
        if self._clock.now() >= claims["exp"]:
            raise Unauthenticated(f"the {what} has expired; log in again")
        return claims


def _principal(claims: dict[str, Any]) -> Principal:
    return Principal(claims["sub"], claims["name"], Role(claims["role"]), claims["tenant"])
