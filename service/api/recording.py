"""What the routes that record have in common, whichever protocol they speak."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from service import telemetry
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.intake import Limits

if TYPE_CHECKING:
    from service.wiring import Wiring


P = ParamSpec("P")
T = TypeVar("T")

#: Bodies from this size on, in bytes as sent, are read beside the event loop.
LARGE = 256 << 10


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
    telemetry.SAMPLES_REJECTED.inc(answer.rejected)
