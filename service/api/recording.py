"""What the routes that record have in common, whichever protocol they speak."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from service import telemetry
from service.api import problems
from service.api.deps import authorize
from service.domain.tenants import Permission
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.intake import Limits

if TYPE_CHECKING:
    from service.wiring import Wiring


P = ParamSpec("P")
T = TypeVar("T")

#: Bodies from this size on, in bytes as sent, are read beside the event loop.
LARGE = 256 << 10


class Recorder(APIRoute):
    """A route that records. `service.api.direct` serves it without the framework."""

    async def take(self, request: Request) -> Response:
        """What the handler answers; it takes the request and who is asking."""
        principal = await authorize(request, Permission.RECORD)
        return cast(Response, await self.endpoint(request, principal))

    def refusal(self, error: Exception) -> Response:
        """The answer for an error."""
        return problems.of(error)


async def beside(size: int, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What reading a body of this size gives, without holding the others up if it is large."""
    if size < LARGE:
        return read(*args, **kwargs)
    return await asyncio.to_thread(read, *args, **kwargs)


async def admitted(parts: "Wiring", tenant: str) -> Limits:
    """The tenant's limits; `OverLimit` while it is over its rates, before its body is read."""
    parts.intake.admit(tenant)
    return Limits(await parts.tenants.quota(tenant), parts.settings.sample_max_ahead_seconds)


async def keep(
    parts: "Wiring", tenant: str, limits: Limits, decoded: Decoded, answer: Answer
) -> None:
    """Keep the good samples and count; `answer` then names the others."""
    await parts.intake.record(tenant, decoded, limits, answer)
    telemetry.SAMPLES_ACCEPTED.inc(answer.accepted)
    if answer.rejected:
        telemetry.SAMPLES_REJECTED.inc(answer.rejected)
