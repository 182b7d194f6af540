"""When a training may begin: never while points wait to be judged."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from service import telemetry
from service.domain.errors import Unavailable

log = structlog.get_logger(__name__)

#: Seconds between two looks at how long points wait.
_LOOK_SECONDS = 0.5
#: Part of the bound under which trainings go on.
_WELL = 0.75
#: While points wait, one training begins each so many seconds all the same: if it is not training
#: that burdens the workers, series must not be left without models for ever.
_TRICKLE_SECONDS = 30.0


class Budget:
    """Holds trainings back while `lag()` is over `lag_max` (seconds), until it is well below."""

    def __init__(self, lag: Callable[[], Awaitable[float]], lag_max: float) -> None:
        self._lag, self._lag_max = lag, lag_max
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._last = time.monotonic()
        self._why = ""

    @property
    def why(self) -> str:
        """Why trainings wait at present, empty if they do not."""
        return self._why

    async def turn(self) -> None:
        """Return when a training may begin."""
        while True:
            await self._look()
            now = time.monotonic()
            if not self._why or now - self._last >= _TRICKLE_SECONDS:
                self._last = now
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        async with self._looking:
            if time.monotonic() - self._looked < _LOOK_SECONDS:
                return
            try:
                lag = await self._lag()
            except Unavailable as error:
                self._set(f"the store: {error}")
                self._last = time.monotonic()  # nothing could be published
            else:
                bound = self._lag_max * (_WELL if self._why else 1.0)
                self._set(f"points wait {lag:.1f} s to be judged" if lag > bound else "")
            self._looked = time.monotonic()

    def _set(self, why: str) -> None:
        if why and not self._why:
            log.info("training pauses", reason=why)
        elif self._why and not why:
            log.info("training goes on after a pause")
        self._why = why
        telemetry.TRAINING_PAUSED.set(1 if why else 0)
