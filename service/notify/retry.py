"""When a failed delivery is tried again, and when a receiver that keeps failing is left to rest."""

from dataclasses import dataclass

from service.notify.channels.base import RETRY_AFTER_MAX, ChannelType

#: When a page is tried, in seconds after the first attempt; then every five minutes for a day.
PAGE_AT = (0.0, 5.0, 15.0, 30.0, 60.0, 120.0)
PAGE_EVERY = 300.0
PAGE_FOR = 86_400.0

#: How long a webhook waits before each further attempt, as Standard Webhooks recommends.
WEBHOOK_DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)

#: A row that was held back all this time is given up, whatever it counts.
GIVE_UP_AFTER: dict[str, float] = {
    ChannelType.SLACK: PAGE_FOR,
    ChannelType.EMAIL: PAGE_FOR,
    ChannelType.WEBHOOK: sum(WEBHOOK_DELAYS),
}


def retry_delay(kind: ChannelType, attempts: int, retry_after: float | None = None) -> float | None:
    """Seconds from the failure of attempt number `attempts` (from 1) to the next; None: give up.

    A receiver that asks for more patience gets it, up to an hour; never less than the schedule.
    """
    delay = _webhook(attempts) if kind is ChannelType.WEBHOOK else _page(attempts)
    if delay is None or retry_after is None:
        return delay
    return max(delay, min(retry_after, RETRY_AFTER_MAX))


def _webhook(attempts: int) -> float | None:
    return WEBHOOK_DELAYS[attempts - 1] if attempts <= len(WEBHOOK_DELAYS) else None


def _page(attempts: int) -> float | None:
    if attempts < len(PAGE_AT):
        return PAGE_AT[attempts] - PAGE_AT[attempts - 1]
    next_at = PAGE_AT[-1] + PAGE_EVERY * (attempts - len(PAGE_AT) + 1)
    return PAGE_EVERY if next_at <= PAGE_FOR else None


OPENS_AFTER = 5
REST_SECONDS = 30.0
REST_MAX = 300.0


@dataclass(slots=True)
class Breaker:
    """Rests after five failures in a row, then lets one attempt through to see.

        closed ──5 failures──▶ open ──rest over──▶ half-open ──success──▶ closed
                                 ▲                     │
                                 └──failure, rests twice as long (at most five minutes)

    One serves one tenant's channel; closing it means dropping it. Times are Unix seconds.
    """

    channel: str = "unknown"  # its type
    failures: int = 0
    open_until: float = 0.0
    rest: float = REST_SECONDS

    def resting(self, now: float) -> bool:
        """Open: nothing may be tried yet."""
        return now < self.open_until

    @property
    def width(self) -> int | None:
        """How many attempts may be under way at once: one after a failure, else no opinion."""
        return 1 if self.failures else None

    @property
    def explanation(self) -> str:
        """What the rows that wait keep as their reason."""
        return f"held back: the channel failed {self.failures} times in a row"

    def failed(self, now: float) -> bool:
        """Count a failure; True if it opened (again)."""
        self.failures += 1
        if self.failures < OPENS_AFTER or self.resting(now):
            return False
        if self.failures > OPENS_AFTER:
            self.rest = min(self.rest * 2, REST_MAX)
        self.open_until = now + self.rest
        return True
