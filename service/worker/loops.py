"""The worker's loops over the head they share.

`_hold` keeps the leases, a `Keeper` applies the logs, `_detect` scores what came in, `_judge`
evaluates the rules, `_seal` packs chunks that are over. A loop that fails is logged, waits and goes
on; a shard whose lease is lost is dropped at once.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import structlog

from service import telemetry
from service.alerts.outbound import Chart
from service.domain.errors import LostLease, NotFound, OffbeatError
from service.domain.rules import Rule
from service.domain.series import SCORE, Series, parse_series_id
from service.rules.evaluator import Judgement, SeriesIndex, evaluate
from service.rules.health import held, short
from service.storage.columns import Columns
from service.storage.head import Head
from service.storage.lag import Lags
from service.storage.wake import wait_for
from service.wiring import Wiring
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
#: Samples in the picture of a notification.
_CHART_POINTS = 288


class Worker:
    """One worker process. `run` returns when `stop` is set and everything is given back."""

    def __init__(self, wiring: Wiring) -> None:
        self._w = wiring
        self._shards = Shards(wiring, self._shown, self._forgotten)
        self._keeper = Keeper(wiring, self._shards, self._shown, self._erased)
        lags = Lags(wiring.redis)
        self._lateness = Lateness(lambda lag: lags.tell(self._shards.name, lag))
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._rules_changed = asyncio.Event()
        self._index = SeriesIndex()
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
                (self._judge, "rules"),
                (self._seal, "sealing"),
            ]
            for shard in range(self._w.settings.log_shards):
                # A shard each, so that none waits for another and no command touches two.
                steps.append((partial(self._keeper.follow, shard), "store"))
            loops = [group.create_task(self._repeat(step, name)) for step, name in steps]
            hearing = [
                group.create_task(self._lateness.watch()),
                group.create_task(self._hear_rules()),
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

    def _erased(self, tenant: str, ids: Iterable[int]) -> None:
        """These series were deleted."""
        gone = set(ids)
        for series in gone:
            self._dirty.get(tenant, set()).discard(series)
            self._scored.pop((tenant, series), None)
        self._w.standings.forget(tenant, gone)

    def _forgotten(self, tenant: str) -> None:
        self._dirty.pop(tenant, None)
        self._w.scorer.forget(tenant)
        self._w.engine.forget(tenant)
        self._index.forget(tenant)
        self._cold_again.pop(tenant, None)
        self._w.feedback.forget(tenant)
        self._w.cold_scorer.forget(tenant)
        self._w.standings.forget(tenant)
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
            self._w.scorer.refresh(tenant, series_hex)
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

    # rules

    async def _hear_rules(self) -> None:
        """Rules have changed, or what people say of alerts."""
        async for _, tenant in self._w.wake.listen("rules"):
            self._w.feedback.forget(tenant)
            self._rules_changed.set()

    async def _judge(self) -> None:
        await self._w.rules_file.reload_if_changed()
        now = self._w.clock.now()
        for tenant in self._shards.ready():
            try:
                await self._w.tenants.limits(tenant)
            except NotFound:
                self._shards.forget(tenant)  # deleted
            else:
                await self._judge_tenant(tenant, now)
        interval = self._w.settings.alert_evaluation_interval
        due = (now // interval + 1) * interval
        await self._first_of(
            self._w.clock.sleep(max(0.0, due - self._w.clock.now())),
            self._rules_changed.wait(),
            self._stop.wait(),
        )
        self._rules_changed.clear()

    @staticmethod
    async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
        """Return when one of the waits is over; the others are dropped."""
        waiting = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _judge_tenant(self, tenant: str, now: float) -> None:
        """Evaluate every rule of a tenant; one that fails is logged and stops no other."""
        book = self._w.rules_file.book
        rules = await self._w.rules.all_for(tenant, book)
        await self._w.feedback.refresh(tenant)
        confidence = await self._w.standings.of(tenant)
        errors: dict[str, str] = {}
        quiet: dict[str, str] = {}
        begun = time.perf_counter()
        for rule in rules:
            try:
                firing = await self._w.engine.firing(tenant, rule.id)
                judgements = await asyncio.to_thread(
                    self._evaluate, rule, tenant, now, confidence, firing
                )
                if why := held(judgements) or short(judgements):
                    quiet[rule.id] = why
                await self._w.engine.apply(
                    tenant,
                    rule,
                    judgements,
                    now,
                    policies=book.policies,
                    chart_of=lambda series: self._chart(tenant, series),
                )
            except OffbeatError:
                raise
            except Exception as error:
                errors[rule.id] = str(error) or type(error).__name__
                telemetry.RULE_ERRORS.inc()
                log.exception("rule failed", tenant=tenant, rule=rule.name)
            else:
                telemetry.RULES_EVALUATED.inc()
        telemetry.JUDGING_SECONDS.observe(time.perf_counter() - begun)
        await self._w.engine.retire(tenant, {rule.id for rule in rules}, now)
        told = quiet | self._w.engine.held(tenant) | errors
        await self._w.rule_health.report(tenant, told)

    def _evaluate(
        self,
        rule: Rule,
        tenant: str,
        now: float,
        confidence: Mapping[int, float],
        firing: Collection[str],
    ) -> list[Judgement]:
        return evaluate(
            rule,
            tenant,
            self.head,
            now,
            lookback_seconds=self._w.settings.series_lookback_seconds,
            anomaly_threshold=self._w.settings.anomaly_detection_threshold,
            index=self._index,
            factors=self._w.feedback.factors(tenant, rule.id),
            confidence=confidence,
            firing=firing,
        )

    def _chart(self, tenant: str, series: Series) -> Chart | None:
        """The newest samples, for the picture in a notification."""
        t, v = self.head.columns(tenant, series.id)
        if not len(t):
            return None
        return {"t": t[-_CHART_POINTS:].tolist(), "v": v[-_CHART_POINTS:].tolist()}


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks until they are done: a wait that is over at that moment loses it."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=1)
