"""Where the time comes from. Unix seconds, UTC, everywhere inside.

The system's clock in production, a time lapse in the demo (every timer, lease and window of the
service runs along with it), a clock moved by hand in tests.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a part of the service needs of time."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class TimeLapse:
    """A clock that starts in the past, runs `speed` times as fast, and joins real time.

    At the real time `started` it shows `story_start`; from the moment it has caught up it is the
    machine's clock. Speed must be above 1.
    """

    def __init__(self, started: float, story_start: float, speed: float) -> None:
        if speed <= 1 or story_start > started:
            raise ValueError("a time lapse starts in the past and runs faster than real time")
        self.started, self.story_start, self.speed = started, story_start, speed
        self.joins = (speed * started - story_start) / (speed - 1)

    @classmethod
    def parse(cls, text: str) -> "TimeLapse":
        """From `started:story_start:speed`, all numbers."""
        started, story_start, speed = (float(part) for part in text.split(":"))
        return cls(started, story_start, speed)

    def __str__(self) -> str:
        return f"{self.started}:{self.story_start}:{self.speed}"

    def now(self) -> float:
        """Unix seconds of the story."""
        real = time.time()
        if real >= self.joins:
            return real
        return self.story_start + self.speed * (real - self.started)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of the story."""
        target = self.now() + seconds
        real = time.time()
        if real < self.joins:
            fast = min(seconds / self.speed, self.joins - real)
            await asyncio.sleep(fast)
            seconds = max(0.0, target - self.now())
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that a test moves by hand; sleepers wake when it passes their time."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._moved = asyncio.Condition()

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    def set(self, now: float) -> None:
        """Jump to `now` without waking sleepers."""
        self._now = now

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds` and wake those whose time has come."""
        async with self._moved:
            self._now += seconds
            self._moved.notify_all()

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved by `seconds`."""
        target = self._now + seconds
        async with self._moved:
            await self._moved.wait_for(lambda: self._now >= target)


def iso(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC, milliseconds only where there are any."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    spec = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.isoformat(timespec=spec).replace("+00:00", "Z")
