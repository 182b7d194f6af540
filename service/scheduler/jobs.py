"""Jobs that one scheduler at a time runs, each slot of time once.

The leader holds a lease in Redis; what a job does in a slot begins with taking that slot
(`service.storage.ticks`), which only the leader can. A leader that lost its lease stops its jobs.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from service import telemetry
from service.domain.errors import OffbeatError
from service.storage.lease import Leases
from service.storage.ticks import Tick, Ticks

log = structlog.get_logger(__name__)

#: Looks for a slot in the time of one, and seconds between two of them at most.
_LOOKS = 4
_LOOK_SECONDS = 5.0
#: Seconds between two tries to lead at most, for one that does not.
_TRY_SECONDS = 1.0

#: Runs a step and says in the log what went wrong under a name; whether it went well.
Guard = Callable[[Callable[[], Awaitable[object]], str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Job:
    """`step` once every `seconds`; `label` is what the log calls it."""

    name: str
    seconds: float
    step: Callable[[], Awaitable[object]]
    label: str


class Jobs:
    """Leads where it can, and runs jobs while it leads. Slots missed are run once, together."""

    def __init__(self, leases: Leases, ticks: Ticks, jobs: Sequence[Job], guard: Guard) -> None:
        self._leases, self._ticks, self._jobs, self._guard = leases, ticks, jobs, guard
        self._epoch = 0
        self._until = 0.0
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled; jobs that are under way end with it, their slots unfinished."""
        timer = AsyncIOScheduler()
        for job in self._jobs:
            timer.add_job(
                self._look,
                IntervalTrigger(seconds=min(job.seconds / _LOOKS, _LOOK_SECONDS)),
                args=[job],
                id=job.name,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
        timer.start()
        try:
            while True:
                await self._guard(self._lead, "leadership")
                if time.monotonic() >= self._until:
                    await self._led_by(0)
                pause = self._leases.seconds / 3
                await asyncio.sleep(pause if self._epoch else min(pause, _TRY_SECONDS))
        finally:
            timer.shutdown(wait=False)
            await self._stop()

    async def still_leads(self) -> bool:
        """Whether what is done now is done by the leader."""
        return bool(self._epoch) and await self._leases.leads()

    async def _lead(self) -> None:
        asked = time.monotonic()
        epoch = await self._leases.lead()
        self._until = asked + self._leases.seconds if epoch else 0.0
        await self._led_by(epoch)

    async def _led_by(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        if self._epoch:
            log.info("leads no longer", epoch=self._epoch)
        self._epoch = epoch
        await self._stop()
        if epoch:
            log.info("leads", epoch=epoch)

    async def _look(self, job: Job) -> None:
        """Run a job if a slot of it is due; it is not waited for."""
        if self._epoch and job.name not in self._running:
            await self._guard(lambda: self._begin(job), "leadership")

    async def _begin(self, job: Job) -> None:
        tick = await self._ticks.take(job.name, job.seconds, self._epoch)
        if tick is not None and job.name not in self._running:
            if tick.again:
                log.info("a job that was left unfinished begins again", job=job.name)
            self._running[job.name] = task = asyncio.create_task(self._run(job, tick))
            # not at the end of `_run`: one that is cancelled at once never begins
            task.add_done_callback(lambda _: self._running.pop(job.name, None))

    async def _run(self, job: Job, tick: Tick) -> None:
        await self._guard(job.step, job.label)
        telemetry.JOBS_RUN.labels(job.name).inc()
        with contextlib.suppress(OffbeatError):  # the next slot says so as well
            await self._ticks.finish(tick, job.seconds)

    async def _stop(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=5)
