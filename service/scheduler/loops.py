"""The scheduler: trains, keeps what was used, escalates, and sends what is in the outbox.

Training and usage are jobs of the scheduler that leads; the leader lock saves work and correctness
never depends on it. Escalations and the outbox are claimed row by row, so every scheduler takes
part.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from service import telemetry
from service.detection.progress import told
from service.domain.errors import OffbeatError
from service.scheduler.jobs import Job, Jobs
from service.storage.lease import Leases
from service.storage.ticks import Ticks
from service.storage.wake import wait_for
from service.wiring import Wiring

if TYPE_CHECKING:
    from service.detection.training import Trainer

log = structlog.get_logger(__name__)

#: Real seconds between looks at the timers when nothing wakes them.
_TIMERS_POLL = 1.0

#: Real seconds between copies of what tenants used to SQL.
_USAGE_SECONDS = 60.0

#: Real seconds between looks at the files that models lie in.
_COMPACT_SECONDS = 120.0

#: Real seconds between looks at how models do, each at a part of them.
_HEALTH_SECONDS = 300.0


class Scheduler:
    """One scheduler process. `run` returns when `stop` is set."""

    def __init__(self, wiring: Wiring) -> None:
        self._w = wiring
        name = f"{socket.gethostname()}-{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._leases = Leases(wiring.redis, name, wiring.settings.worker_lease_seconds)
        self._jobs = Jobs(
            self._leases,
            Ticks(wiring.redis, name),
            [
                Job("train", wiring.settings.training_interval, self._train, "training"),
                Job("usage", _USAGE_SECONDS, wiring.usage.keep, "usage"),
                Job("compact", _COMPACT_SECONDS, self._compact, "compaction"),
                Job("health", _HEALTH_SECONDS, self._look_after, "health of models"),
            ],
            self._guard,
        )
        self._trainer: Trainer | None = None
        self._timers_changed = asyncio.Event()
        self._interruptions: dict[str, telemetry.Interruption] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; what is in flight is finished or left to its lease."""
        if self._w.settings.dask_scheduler_address:
            from service.detection.dask_pool import check_installed

            check_installed()
        try:
            async with asyncio.TaskGroup() as group:
                dispatching = group.create_task(self._w.dispatcher.run(stop))
                escalating = group.create_task(self._escalate(stop))
                leading = group.create_task(self._jobs.run())
                hearing = group.create_task(
                    self._w.wake.forward(self._timers_changed, "timers", "outbox")
                )
                await stop.wait()
                hearing.cancel()
                leading.cancel()  # what training has not stored is trained again
                await asyncio.wait({dispatching, escalating}, timeout=20)
                dispatching.cancel()
                escalating.cancel()
        finally:
            if self._trainer is not None:
                await asyncio.to_thread(self._trainer.close)
            await self._guard(self._keep_usage_if_leading, "usage")
            await self._guard(self._leases.resign, "leadership")

    async def _train(self) -> None:
        # what it loads takes seconds, which are not the event loop's
        trainer = self._trainer = await asyncio.to_thread(lambda: self._w.trainer)
        tenants = [t.id for t in await self._w.tenants.every()]
        async with told(trainer.progress, self._w.training):
            done = await trainer.run(tenants, self._jobs.still_leads)
        if done.trained or done.failed:
            log.info(
                "training done",
                trained=done.trained,
                failed=done.failed,
                cold=done.cold,
                seconds=round(done.seconds, 2),
            )

    async def _compact(self) -> None:
        compactor = await asyncio.to_thread(lambda: self._w.compactor)
        await compactor.run()

    async def _look_after(self) -> None:
        await self._w.health.look([t.id for t in await self._w.tenants.every()])

    async def _keep_usage_if_leading(self) -> None:
        if await self._leases.lead():
            await self._w.usage.keep()

    async def _escalate(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._guard(self._escalate_due, "escalation")
            await wait_for(self._timers_changed, _TIMERS_POLL)

    async def _escalate_due(self) -> None:
        if await self._w.escalator.run_due(self._w.clock.now()):
            await self._w.wake.publish("outbox")

    async def _guard(self, step: Callable[[], Awaitable[object]], name: str) -> bool:
        interruption = self._interruptions.setdefault(name, telemetry.Interruption())
        try:
            await step()
        except OffbeatError as error:
            if interruption.is_news(str(error)):
                log.warning(f"{name} interrupted", reason=str(error))
            return False
        except Exception:
            log.exception(f"{name} failed")
            return False
        if (seconds := interruption.over()) is not None:
            log.info(f"{name} goes on", seconds=seconds)
        return True
