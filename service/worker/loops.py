"""The worker's loops over the head they share.

`_hold` keeps the leases, a `Keeper` applies the logs, `_detect` scores what came in, `Judging`
evaluates the rules, `_seal` packs chunks that are over. A loop that fails is logged, waits and goes
on; a shard whose lease is lost is dropped at once.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from service import telemetry
from service.domain.errors import LostLease, OffbeatError
from service.domain.series import SCORE, Series, parse_series_id
from service.storage.columns import Columns
from service.storage.head import Head
from service.storage.lag import Lags
from service.storage.wake import wait_for
from service.wiring import Wiring
from service.worker.judging import Judging
from service.worker.keeper import Keeper
from service.worker.lateness import Lateness
from service.worker.shards import Shards

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5
#: Chunks of a shard that are sealed together, and real time between two looks for some.
_SEALED_AT_ONCE = 32
_SEAL_SECONDS = 5.0
#: Of one look at new points, the time for series whose models have to be read first, and the time
#: for forecasts that are due.
_SPARE_SECONDS = 2.0
#: Of the time, what judging a tenant's series without a model takes at most.
_COLD_SHARE = 0.2
#: Series that are written together: what is done for more would hold up the event loop.
_WRITTEN_AT_ONCE = 4000


class Worker:
    """One worker process. `run` returns when `stop` is set and everything is given back."""

    def __init__(self, wiring: Wiring) -> None:
        self._w = wiring
        self._shards = Shards(wiring, self._shown, self._forgotten)
        self._keeper = Keeper(wiring, self._shards, self._shown, self._erased)
        lags = Lags(wiring.redis)
        self._lateness = Lateness(lambda lag: lags.tell(self._shards.name, lag))
        self._stop = asyncio.Event()
        self._judging = Judging(wiring, self._shards)
        self._changed = asyncio.Event()
        self._dirty: dict[str, set[int]] = {}
        self._scored: dict[tuple[str, int], int] = {}
        self._cold_again: dict[str, float] = {}

    @property
    def shards(self) -> list[int]:
        """The shards that this worker owns now."""
        return sorted(self._shards.epochs)

    @property
    def head(self) -> Head:
        """Their newest samples."""
        return self._shards.head

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then release the shards so that another can take them at once."""
        await self._w.check_layout()
        self._stop = stop
        # What models need takes most of a second to load; leases and logs do not wait for it.
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        async with asyncio.TaskGroup() as group:
            steps: list[tuple[Callable[[], Awaitable[None]], str]] = [
                (self._hold, "leases"),
                (partial(self._detect, loading), "detection"),
                (partial(self._judging.step, stop), "rules"),
                (self._seal, "sealing"),
            ]
            for shard in range(self._w.settings.log_shards):
                # A shard each, so that none waits for another and no command touches two.
                steps.append((partial(self._keeper.follow, shard), "store"))
            loops = [group.create_task(self._repeat(step, name)) for step, name in steps]
            hearing = [
                group.create_task(self._lateness.watch()),
                group.create_task(self._judging.hear()),
                group.create_task(self._hear_models()),
            ]
            await asyncio.wait(loops)
            await _cancelled(hearing)
        await self._keeper.finish()
        await self._shards.give_back()

    async def _repeat(self, step: Callable[[], Awaitable[None]], name: str) -> None:
        """Take steps until told to stop; each is finished, none is cut short."""
        interruption = telemetry.Interruption()
        while not self._stop.is_set():
            try:
                await step()
            except OffbeatError as error:
                if interruption.is_news(str(error)):
                    log.warning(f"{name} interrupted", reason=str(error))
                await self._pause(_RETRY_SECONDS)
            except Exception:
                log.exception(f"{name} failed")
                await self._pause(_RETRY_SECONDS)
            else:
                if (seconds := interruption.over()) is not None:
                    log.info(f"{name} goes on", seconds=seconds)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _hold(self) -> None:
        await self._shards.hold()
        await self._pause(self._shards.renewal)

    def _shown(self, tenant: str, ids: Iterable[int]) -> None:
        """Samples of these series are in the head."""
        self._dirty.setdefault(tenant, set()).update(ids)
        self._lateness.arrived()
        self._changed.set()
        self._judging.arrived(tenant, ids)

    def _erased(self, tenant: str, ids: Iterable[int]) -> None:
        """These series were deleted."""
        gone = set(ids)
        for series in gone:
            self._dirty.get(tenant, set()).discard(series)
            self._scored.pop((tenant, series), None)
        self._w.standings.forget(tenant, gone)
        self._w.catalogue.gone(tenant, gone)

    def _forgotten(self, tenant: str) -> None:
        self._dirty.pop(tenant, None)
        self._w.scorer.forget(tenant)
        self._w.engine.forget(tenant)
        self._judging.forget(tenant)
        self._cold_again.pop(tenant, None)
        self._w.feedback.forget(tenant)
        self._w.cold_scorer.forget(tenant)
        self._w.standings.forget(tenant)
        self._w.catalogue.forget(tenant)
        self._scored = {key: t for key, t in self._scored.items() if key[0] != tenant}

    # sealing

    async def _seal(self) -> None:
        """Seal chunks that are due, few at a time and half of the time: the logs come first."""
        begun = time.monotonic()
        more = False
        for shard, epoch in list(self._shards.epochs.items()):
            now_ms = round(self._w.clock.now() * 1000)
            try:
                due = await self._w.sealer.seal_due(shard, epoch, now_ms, _SEALED_AT_ONCE)
            except LostLease as error:
                if self._shards.epochs.get(shard) == epoch:
                    log.warning("shard lost", shard=shard, reason=str(error))
                    self._shards.drop(shard)
                continue
            more = more or due == _SEALED_AT_ONCE
        await self._pause(time.monotonic() - begun if more else _SEAL_SECONDS)

    # detection

    async def _hear_models(self) -> None:
        async for _, payload in self._w.wake.listen("models"):
            tenant, _, series_hex = payload.partition("/")
            self._w.catalogue.stale(tenant)
            number = parse_series_id(series_hex)
            if number is not None and number in self.head.series(tenant):
                self._shown(tenant, [number])

    def _load(self) -> None:
        """Import what scores, and make the scorers."""
        _ = self._w.scorer, self._w.cold_scorer

    async def _detect(self, loading: asyncio.Task[None]) -> None:
        await loading
        await wait_for(self._changed, 1.0)
        dirty, self._dirty = self._dirty, {}
        self._lateness.begins()
        while dirty:
            tenant = next(iter(dirty))
            ids = dirty.pop(tenant)
            try:
                await self._score_tenant(tenant, ids)
            except BaseException:
                for later in (dirty, {tenant: ids}):  # not scored; it is tried again, as the last
                    for name, waiting in later.items():
                        self._dirty.setdefault(name, set()).update(waiting)
                raise
        self._lateness.ends()

    async def _score_tenant(self, tenant: str, ids: set[int]) -> None:
        changed = await self._w.catalogue.fresh(tenant)
        ids |= {series for series in changed if series in self.head.series(tenant)}
        trained, work, cold = await asyncio.to_thread(self._due, tenant, ids)
        if not work and not cold:
            return
        if not self._shards.owns(tenant):  # for now; if it is gone for good, so is its head
            self._dirty.setdefault(tenant, set()).update(ids)
            return
        begun = time.perf_counter()
        written, scored, waiting = await asyncio.to_thread(self._score, tenant, work)
        if time.monotonic() < self._cold_again.get(tenant, 0.0):
            # for the next look, which comes no sooner for that
            self._dirty.setdefault(tenant, set()).update(series.id for series in cold)
        else:
            turn = time.monotonic()
            for series, found in await asyncio.to_thread(self._score_cold, tenant, cold, trained):
                written += found
                scored[tenant, series.id] = int(found[0][1].t[-1])
                telemetry.POINTS_SCORED.inc(len(found[0][1].t))
            self._cold_again[tenant] = time.monotonic() + (time.monotonic() - turn) / _COLD_SHARE
        telemetry.SCORING_SECONDS.observe(time.perf_counter() - begun)
        for first in range(0, len(written), _WRITTEN_AT_ONCE):
            await self._w.writer.write(tenant, written[first : first + _WRITTEN_AT_ONCE])
        self._scored.update(scored)
        if waiting:
            self._shown(tenant, waiting)

    def _due(self, tenant: str, ids: set[int]) -> tuple[frozenset[int], list[Series], list[Series]]:
        """The series of a tenant that have models, and which of these ids are, and are not yet."""
        known = self.head.series(tenant)
        trained = self._w.scorer.trained(tenant)
        work = [known[i] for i in ids & trained if i in known]
        return trained, work, self._w.cold_scorer.candidates(tenant, ids - trained, known)

    def _score(
        self, tenant: str, work: list[Series]
    ) -> tuple[list[tuple[Series, Columns]], dict[tuple[str, int], int], list[int]]:
        """What models say about new points, up to when each series is scored then, and those that
        wait for another look."""
        written: list[tuple[Series, Columns]] = []
        scored: dict[tuple[str, int], int] = {}
        new: list[tuple[Series, Columns, int]] = []
        for series in work:
            context = self.head.columns(tenant, series.id)
            since = self._scored_until(tenant, series)
            if len(context.t) and since < context.t[-1]:
                new.append((series, context, since))
        newest = {series.id: int(context.t[-1]) for series, context, _ in new}
        told = self._w.scorer.score_all(tenant, new, _SPARE_SECONDS)
        for series, found in told.found:
            written += found
            scored[tenant, series.id] = newest[series.id]
            telemetry.POINTS_SCORED.inc(len(found[0][1].t))
        return written, scored, [series.id for series in told.waiting]

    def _score_cold(
        self, tenant: str, cold: list[Series], trained: frozenset[int]
    ) -> list[tuple[Series, list[tuple[Series, Columns]]]]:
        """What can be said about new points of series that have no model yet."""
        since = partial(self._scored_until, tenant)
        return list(self._w.cold_scorer.score(tenant, self.head, cold, trained, since))

    def _scored_until(self, tenant: str, series: Series) -> int:
        """Up to when the series is scored: as remembered, else as its score series says."""
        known = self._scored.get((tenant, series.id))
        if known is not None:
            return known
        scores = self.head.columns(tenant, series.derived(SCORE).id)
        return int(scores.t[-1]) if len(scores.t) else 0


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks until they are done: a wait that is over at that moment loses it."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=1)
