"""The scheduler: trains, keeps what was used, escalates, and sends what is in the outbox.

Training and usage run on the scheduler that leads; the leader lock saves work and correctness never
depends on it. Escalations and the outbox are claimed row by row, so every scheduler takes part.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from service import telemetry
from service.domain.errors import OffbeatError
from service.storage.lease import Leases
from service.storage.wake import wait_for
from service.wiring import Wiring

log = structlog.get_logger(__name__)

#: Real seconds between looks at the timers when nothing wakes them.
_TIMERS_POLL = 1.0

#: Real seconds between copies of what tenants used to SQL.
_USAGE_SECONDS = 60.0

#: Real seconds between looks at the files that models lie in.
_COMPACT_SECONDS = 120.0


class Scheduler:
    """One scheduler process. `run` returns when `stop` is set."""

    def __init__(self, wiring: Wiring) -> None:
        self._w = wiring
        name = f"{socket.gethostname()}-{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._leases = Leases(wiring.redis, name, wiring.settings.worker_lease_seconds)
        self._timers_changed = asyncio.Event()
        self._training: asyncio.Task[None] | None = None
        self._interruptions: dict[str, telemetry.Interruption] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; what is in flight is finished or left to its lease."""
        jobs = AsyncIOScheduler()
        jobs.add_job(
            self._train,
            IntervalTrigger(seconds=self._w.settings.training_interval),
            id="train",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        jobs.add_job(
            self._keep_usage,
            IntervalTrigger(seconds=_USAGE_SECONDS),
            id="usage",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        jobs.add_job(
            self._compact,
            IntervalTrigger(seconds=_COMPACT_SECONDS),
            id="compact",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        jobs.start()
        try:
            async with asyncio.TaskGroup() as group:
                dispatching = group.create_task(self._w.dispatcher.run(stop))
                escalating = group.create_task(self._escalate(stop))
                hearing = group.create_task(
                    self._w.wake.forward(self._timers_changed, "timers", "outbox")
                )
                await stop.wait()
                hearing.cancel()
                await asyncio.wait({dispatching, escalating}, timeout=20)
                dispatching.cancel()
                escalating.cancel()
        finally:
            jobs.shutdown(wait=False)
            if self._training is not None:  # what it has not stored is trained again
                self._training.cancel()
                await asyncio.wait({self._training}, timeout=5)
            await asyncio.to_thread(self._w.trainer.close)
            await self._keep_usage()
            await self._guard(self._leases.resign, "leadership")

    async def _train(self) -> None:
        self._training = asyncio.create_task(self._guard(self._train_if_leading, "training"))
        try:
            await asyncio.wait({self._training})
        finally:
            self._training = None

    async def _train_if_leading(self) -> None:
        if not await self._leases.lead():
            return
        renewing = asyncio.create_task(self._keep_leading())
        try:
            tenants = [t.id for t in await self._w.tenants.every()]
            report = await self._w.trainer.run(tenants)
            if report.trained or report.failed:
                log.info(
                    "training done",
                    trained=report.trained,
                    failed=report.failed,
                    cold=report.cold,
                    seconds=round(report.seconds, 2),
                )
        finally:
            renewing.cancel()

    async def _keep_usage(self) -> None:
        await self._guard(self._keep_usage_if_leading, "usage")

    async def _keep_usage_if_leading(self) -> None:
        if await self._leases.lead():
            await self._w.usage.keep()

    async def _compact(self) -> None:
        await self._guard(self._compact_if_leading, "compaction")

    async def _compact_if_leading(self) -> None:
        if await self._leases.lead():
            await self._w.compactor.run()

    async def _keep_leading(self) -> None:
        while True:
            await asyncio.sleep(self._leases.seconds / 3)
            await self._guard(self._leases.lead, "leadership")

    async def _escalate(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._guard(self._escalate_due, "escalation")
            await wait_for(self._timers_changed, _TIMERS_POLL)

    async def _escalate_due(self) -> None:
        if await self._w.escalator.run_due(self._w.clock.now()):
            await self._w.wake.publish("outbox")

    async def _guard(self, step: Callable[[], Awaitable[object]], name: str) -> None:
        interruption = self._interruptions.setdefault(name, telemetry.Interruption())
        try:
            await step()
        except OffbeatError as error:
            if interruption.is_news(str(error)):
                log.warning(f"{name} interrupted", reason=str(error))
        except Exception:
            log.exception(f"{name} failed")
        else:
            if (seconds := interruption.over()) is not None:
                log.info(f"{name} goes on", seconds=seconds)
