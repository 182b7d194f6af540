"""Sends what the outbox holds: at once, fairly, and never twice while a lease holds.

Each (tenant, channel) is a lane of its own: a few messages at once, one after a failure, none
while its breaker rests. Rows are claimed only when there is room for them, so nothing waits in
memory and a slow or dead receiver delays no other lane. Any number of dispatchers may run.
"""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

import structlog

from service import telemetry
from service.domain.clock import Clock
from service.notify.outbox import Outbox
from service.notify.retry import GIVE_UP_AFTER, PAGE_FOR, Breaker
from service.notify.rows import LANE_CLAIM, Claim, Lane
from service.notify.stages import Outcome, Reason, deliver, judge
from service.notify.store import ChannelStore
from service.storage.wake import WakeUps, wait_for

log = structlog.get_logger(__name__)

_POLL_SECONDS = 1.0
#: Real seconds between counts of what waits.
_COUNT_SECONDS = 10.0
_RECORD_TRIES = 5
_LANES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is under way at once, and for how long. Seconds; `timeout` is real time."""

    per_lane: int = LANE_CLAIM
    in_flight: int = 256
    lease: float = 60.0
    timeout: float = 16.0


class Dispatcher:
    """Claims due notifications and sends them; `run` until told to stop, `drain` once."""

    def __init__(
        self,
        outbox: Outbox,
        channels: ChannelStore,
        clock: Clock,
        wake: WakeUps | None = None,
        *,
        public_url: str = "",
        limits: Limits | None = None,
    ) -> None:
        self._outbox = outbox
        self._channels = channels
        self._clock = clock
        self._wake = wake
        self._public_url = public_url
        self._limits = limits or Limits()
        self._look = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[Lane] = Counter()
        self._breakers: dict[Lane, Breaker] = {}

    def nudge(self) -> None:
        """Look at the outbox now."""
        self._look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set, then finish what is under way."""
        helpers = [
            asyncio.create_task(self._nudge_at(stop)),
            asyncio.create_task(self._measure()),
        ]
        if self._wake is not None:
            helpers.append(asyncio.create_task(self._wake.forward(self._look, "outbox")))
        interruption = telemetry.Interruption()
        try:
            while not stop.is_set():
                pause = _POLL_SECONDS
                try:
                    if await self._start():
                        continue
                    pause = await self._pause()
                except Exception as error:
                    # A database that is away comes back; what it holds goes out then.
                    if interruption.is_news(type(error).__name__):
                        log.warning("outbox unreachable", error=str(error)[:500])
                else:
                    if (seconds := interruption.over()) is not None:
                        log.info("outbox reachable", seconds=seconds)
                await wait_for(self._look, pause)
            await self._finish()
        finally:
            for task in (*helpers, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(*helpers, *self._tasks.values(), return_exceptions=True)

    async def drain(self) -> int:
        """Send all that is due now and wait for it; returns how many turns that took."""
        turns = 0
        while True:
            self._look.clear()
            started = await self._start()
            turns += started
            # Whoever finished during the claim has made room that it did not see.
            if not started and not self._tasks and not self._look.is_set():
                return turns
            if self._tasks:
                await self._look.wait()

    async def _start(self) -> int:
        """Claim what there is room for and start sending it; returns how many."""
        free = self._limits.in_flight - len(self._tasks)
        if free <= 0:
            return 0
        now = self._clock.now()
        claims = await self._outbox.claim(
            free,
            self._limits.lease,
            now,
            room=self._room,
            full=[lane for lane in self._busy if self._room(lane) <= 0],
            ours=list(self._tasks),
        )
        for claim in claims:
            self._busy[claim.lane] += 1
            task = asyncio.create_task(self._turn(claim))
            self._tasks[claim.notification.id] = task
            task.add_done_callback(partial(self._done, claim))
        return len(claims)

    def _room(self, lane: Lane) -> int:
        breaker = self._breakers.get(lane)
        # After a failure one at a time: a black hole must not take the place of the living.
        width = self._limits.per_lane if breaker is None else breaker.width or self._limits.per_lane
        return width - self._busy[lane]

    def _done(self, claim: Claim, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(claim.notification.id, None)
        self._busy[claim.lane] -= 1
        if self._busy[claim.lane] <= 0:
            del self._busy[claim.lane]
        self._look.set()

    async def _turn(self, claim: Claim) -> None:
        try:
            outcome = await self._send(claim)
            await self._record(claim, outcome)
        except Exception:
            # The lease runs out and the row is sent again, with the same id.
            log.exception("notification left to its lease", notification=claim.notification.id)

    async def _send(self, claim: Claim) -> Outcome:
        notification, lane = claim.notification, claim.lane
        now = self._clock.now()
        breaker = self._breakers.get(lane)
        if breaker is not None and breaker.resting(now):
            return self._held(claim, breaker, now)
        outcome = await judge(notification, self._outbox.alert_status, now)
        if outcome is not None:
            return outcome
        started = time.monotonic()
        outcome = await deliver(
            notification, self._channels.resolve, now, self._public_url, self._limits.timeout
        )
        telemetry.DELIVERY_SECONDS.labels(outcome.channel).observe(time.monotonic() - started)
        await self._learn(lane, outcome)
        return outcome

    def _held(self, claim: Claim, breaker: Breaker, now: float) -> Outcome:
        age = now - claim.notification.created_at
        if age > GIVE_UP_AFTER.get(breaker.channel, PAGE_FOR):
            return Outcome(
                Reason.DEAD,
                f"given up: the channel has failed for {age / 3600:.0f} h",
                channel=breaker.channel,
            )
        return Outcome(Reason.HELD, breaker.explanation, breaker.open_until - now, breaker.channel)

    async def _learn(self, lane: Lane, outcome: Outcome) -> None:
        """Tell the lane's breaker; if it opens, let all that waits in the lane wait with it."""
        if outcome.reason is not Reason.RETRY:
            self._breakers.pop(lane, None)
            return
        if len(self._breakers) >= _LANES_KEPT:
            self._breakers.pop(next(iter(self._breakers)))
        breaker = self._breakers.setdefault(lane, Breaker(outcome.channel))
        now = self._clock.now()
        if not breaker.failed(now):
            return
        tenant, channel = lane
        log.warning(
            "channel rests after failures",
            tenant=tenant,
            channel=channel,
            failures=breaker.failures,
            seconds=breaker.rest,
            error=outcome.explanation,
        )
        telemetry.BREAKERS_OPENED.labels(outcome.channel).inc()
        with contextlib.suppress(Exception):  # only saves claims: each would be held by itself
            await self._outbox.postpone(tenant, channel, breaker.open_until, breaker.explanation)

    async def _record(self, claim: Claim, outcome: Outcome) -> None:
        """Stage 5. Tried again while the database stumbles: an unrecorded send is sent twice."""
        telemetry.NOTIFICATIONS.labels(outcome.channel, outcome.reason).inc()
        for tried in range(1, _RECORD_TRIES + 1):
            try:
                ours = await self._mark(claim, outcome)
                break
            except Exception as error:
                if tried == _RECORD_TRIES:
                    raise
                log.warning("result not recorded yet", error=str(error)[:300], tried=tried)
                await asyncio.sleep(0.2 * 2**tried)
        notification = claim.notification
        facts = {
            "tenant": notification.tenant,
            "notification": notification.id,
            "alert": notification.alert_id,
            "channel": notification.channel,
            "kind": str(notification.kind),
            "attempt": notification.attempts + 1,
        }
        if not ours:
            log.warning("lease was lost before the result was recorded", **facts)
        elif outcome.reason is Reason.SENT:
            log.info("notification sent", **facts)
        elif outcome.reason is Reason.DEAD:
            log.error("notification not delivered", reason=outcome.explanation, **facts)
        elif outcome.reason is Reason.SILENCED:
            log.info("notification silenced", reason=outcome.explanation, **facts)
        else:
            log.warning(f"notification {outcome.reason}", reason=outcome.explanation, **facts)

    async def _mark(self, claim: Claim, outcome: Outcome) -> bool:
        now = self._clock.now()
        if outcome.reason is Reason.SENT:
            return await self._outbox.mark_sent(claim)
        if outcome.reason is Reason.RETRY:
            return await self._outbox.mark_retry(claim, now + outcome.delay, outcome.explanation)
        if outcome.reason is Reason.HELD:
            due_at = now + outcome.delay
            return await self._outbox.release(claim, due_at=due_at, reason=outcome.explanation)
        if outcome.quiet is not None:
            return await self._outbox.mark_silenced(claim, outcome.quiet)
        if outcome.cancels:
            return await self._outbox.mark_cancelled(claim, outcome.explanation)
        return await self._outbox.mark_dead(claim, outcome.explanation)

    async def _pause(self) -> float:
        """Seconds to wait when nothing could be claimed: until the next is due, at most a poll."""
        due = await self._outbox.next_due()
        left = _POLL_SECONDS if due is None else due - self._clock.now()
        # What is due but was not claimed waits for room, which `_done` announces.
        return min(left, _POLL_SECONDS) if left > 0 else _POLL_SECONDS

    async def _measure(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # whoever claims says that the database is away
                telemetry.OUTBOX_PENDING.set(await self._outbox.waiting())
            await asyncio.sleep(_COUNT_SECONDS)

    async def _nudge_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._look.set()

    async def _finish(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._limits.timeout + 2.0)
