"""Where the time comes from. Unix seconds, UTC, everywhere inside.

The system's clock in production, a time lapse in the demo (every timer, lease and window of the
service runs along with it), a clock moved by hand in tests.
"""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
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
    """A clock that is `lag` seconds behind real time, until its signal; then it catches up.

    The signal is a file that holds the real time of the start: processes that share the path share
    the clock. From then on it runs `speed` times as fast until it shows real time, and stays there.
    """

    #: Longest real pause between looks for the signal.
    LOOK = 0.1

    def __init__(self, lag: float, speed: float, signal: Path) -> None:
        if speed <= 1 or lag < 0:
            raise ValueError("a time lapse is behind real time and runs faster")
        self.lag, self.speed, self.signal = lag, speed, signal
        self._started: float | None = None

    @classmethod
    def parse(cls, text: str) -> "TimeLapse":
        """From `lag:speed:path`."""
        lag, speed, path = text.split(":", 2)
        return cls(float(lag), float(speed), Path(path))

    def __str__(self) -> str:
        return f"{self.lag:g}:{self.speed:g}:{self.signal}"

    def start(self) -> None:
        """Give the signal."""
        draft = self.signal.with_suffix(".new")
        draft.write_text(repr(time.time()))
        draft.replace(self.signal)

    def now(self) -> float:
        """Unix seconds of the story."""
        real = time.time()
        if self._started is None and self.signal.exists():
            self._started = float(self.signal.read_text())
        if self._started is None:
            return real - self.lag
        return min(real, self._started - self.lag + self.speed * (real - self._started))

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of the story."""
        target = self.now() + seconds
        # The signal comes from another process, so there is no event to wait for.
        while (rest := target - self.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(self.LOOK, max(0.001, rest / self.speed)))


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
