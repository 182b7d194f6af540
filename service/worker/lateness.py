"""How late a worker is: its event loop, and the points that it has to judge.

Leases are renewed and logs are followed on the loop: what holds it up for long costs the shards.
How long points wait is told to Redis: training, which can wait, does so while they do.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from service import telemetry
from service.domain.errors import OffbeatError

#: Seconds between two looks; how long the longest wait is told, at least.
_LOOK, _TOLD = 0.05, 60.0
#: Seconds between two messages of how long points wait; each is of that time and the one before.
_TELL = 1.0


class Lateness:
    """Watches the loop, and how long points wait from the head to their score.

    `tell(seconds)` is called every second with the longest wait of the last two.
    """

    def __init__(self, tell: Callable[[float], Awaitable[None]]) -> None:
        self._tell = tell
        self._arrived: float | None = None
        self._judging: float | None = None
        self._longest = 0.0

    def arrived(self) -> None:
        """Points are in the head and wait for the next look."""
        if self._arrived is None:
            self._arrived = time.monotonic()

    def begins(self) -> None:
        """A look begins; it takes all that wait."""
        self._judging, self._arrived = self._arrived or time.monotonic(), None

    def ends(self) -> None:
        """The look is over: what it took is judged."""
        if self._judging is not None:
            self._longest = max(self._longest, time.monotonic() - self._judging)
            self._judging = None

    def _waiting(self, now: float) -> float:
        begun = (self._judging, self._arrived)
        return max((now - since for since in begun if since is not None), default=0.0)

    async def watch(self) -> None:
        """Until cancelled."""
        before, longest, since = 0.0, 0.0, time.monotonic()
        last, told = 0.0, time.monotonic()
        while True:
            due = time.monotonic() + _LOOK
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            if now - since >= _TOLD:
                before, longest, since = longest, 0.0, now
            longest = max(longest, now - due)
            telemetry.WORKER_LATE.set(max(before, longest))
            self._longest = max(self._longest, now - due, self._waiting(now))
            if now - told >= _TELL:
                lag, last, self._longest, told = max(last, self._longest), self._longest, 0.0, now
                telemetry.JUDGING_LAG.set(lag)
                with contextlib.suppress(OffbeatError):  # without the store there is no training
                    await self._tell(lag)
