"""The worker: owns shards; keeps their samples, scores new points, judges rules.

Four loops share the head: `_hold` keeps the leases, `_store` applies the log, `_detect` scores
what came in, `_judge` evaluates the rules. A loop that fails is logged, waits and goes on; a shard
whose lease is lost is dropped at once.
"""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import numpy as np
import structlog

from service import telemetry
from service.alerts.outbound import Chart
from service.domain.errors import LostLease, OffbeatError
from service.domain.series import SCORE, Series
from service.rules.evaluator import SeriesIndex, evaluate
from service.storage import keys
from service.storage.columns import Columns
from service.storage.head import Head
from service.storage.lease import Leases
from service.storage.log import Entry
from service.storage.wake import wait_for
from service.wiring import Wiring

log = structlog.get_logger(__name__)

#: Entries of one shard that are applied together.
_ENTRIES_AT_ONCE = 200
#: Real time between two passes of the loops when nothing wakes them.
_BLOCK_MS = 200
_RETRY_SECONDS = 0.5
_DAY_MS = 86_400_000
_SERIES_AT_ONCE = 500
#: Samples in the picture of a notification.
_CHART_POINTS = 288


class Worker:
    """One worker process. `run` returns when `stop` is set and everything is given back."""

    def __init__(self, wiring: Wiring) -> None:
        self._w = wiring
        name = f"{socket.gethostname()}-{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._leases = Leases(wiring.redis, name, wiring.settings.worker_lease_seconds)
        self.head = Head(wiring.settings.metrics_buffer_size)
        self._epochs: dict[int, int] = {}
        self._positions: dict[int, bytes] = {}
        self._held_until: dict[int, float] = {}
        self._tenants: dict[int, set[str]] = {}
        # Shards whose log was read to its end since they were taken: a head that is behind
        # would make silence of what only waits.
        self._caught_up: set[int] = set()
        self._dirty: dict[str, set[int]] = {}
        self._scored: dict[tuple[str, int], int] = {}
        self._index = SeriesIndex()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._rules_changed = asyncio.Event()

    @property
    def shards(self) -> list[int]:
        """The shards that this worker owns now."""
        return sorted(self._epochs)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then release the shards so that another can take them at once."""
        await self._w.check_layout()
        self._stop = stop
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(self._repeat(step, name))
                for step, name in (
                    (self._hold, "leases"),
                    (self._store, "store"),
                    (self._detect, "detection"),
                    (self._judge, "rules"),
                )
            ]
            hearing = [
                group.create_task(self._w.wake.forward(self._rules_changed, "rules")),
                group.create_task(self._hear_models()),
            ]
            await asyncio.wait(loops)
            for task in hearing:
                task.cancel()
        await self._give_back()

    async def _repeat(self, step: Callable[[], Awaitable[None]], name: str) -> None:
        """Take steps until told to stop; each is finished, none is cut short."""
        while not self._stop.is_set():
            try:
                await step()
            except OffbeatError as error:
                log.warning(f"{name} interrupted", reason=str(error))
                await self._pause(_RETRY_SECONDS)
            except Exception:
                log.exception(f"{name} failed")
                await self._pause(_RETRY_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    # leases

    async def _hold(self) -> None:
        """Renew the own shards, take free ones up to a fair share, give back what is over it."""
        begun = time.monotonic()
        workers = await self._leases.workers()
        share = -(-self._w.settings.log_shards // max(1, workers))
        for shard in self.shards[share:]:
            self._drop(shard)
            await self._leases.release(shard)
        for shard in range(self._w.settings.log_shards):
            if shard not in self._epochs and len(self._epochs) >= share:
                continue
            epoch = await self._leases.acquire(shard)
            if epoch and self._epochs.get(shard) != epoch:
                await self._take(shard, epoch)
            elif not epoch and shard in self._epochs:
                log.warning("shard lost", shard=shard)
                self._drop(shard)
            if epoch:
                self._held_until[shard] = begun + self._leases.seconds
        await self._pause(self._leases.seconds / 4)

    async def _take(self, shard: int, epoch: int) -> None:
        """Own a shard: read its newest samples into the head, then follow its log."""
        position = await self._w.log.position(shard)
        tenants = await self._w.registry.tenants(shard)
        for tenant in tenants:
            await self._restore(tenant)
        self._tenants[shard] = set(tenants)
        self._positions[shard] = position
        self._epochs[shard] = epoch
        log.info("shard taken", shard=shard, epoch=epoch, tenants=len(tenants))

    async def _restore(self, tenant: str) -> None:
        series = await self._w.registry.all(tenant)
        self.head.drop(tenant)
        self.head.add_series(tenant, series)
        own = [i for i, s in series.items() if not s.is_derived]
        derived = [i for i, s in series.items() if s.is_derived]
        buckets = self._w.retention_ms // self._w.bucket_ms + 1
        reach = 2
        # What models wrote is needed only to know up to when they have written.
        await self._load(tenant, derived, reach, enough=1)
        while own and reach < buckets:
            own = await self._load(tenant, own, reach, self._w.settings.metrics_buffer_size)
            reach *= 4
        await self._load(tenant, own, buckets, enough=1)
        self._dirty.setdefault(tenant, set()).update(series)
        self._changed.set()

    async def _load(self, tenant: str, ids: list[int], buckets: int, enough: int) -> list[int]:
        """Read the newest buckets of series into the head; those with less than `enough`."""
        now_ms = round(self._w.clock.now() * 1000)
        start, ahead = now_ms - buckets * self._w.bucket_ms, now_ms + _DAY_MS
        short = []
        for first in range(0, len(ids), _SERIES_AT_ONCE):
            part = ids[first : first + _SERIES_AT_ONCE]
            found = await self._w.chunks.read(tenant, part, start, ahead)
            for i, (t, v) in found.items():
                if len(t) < enough:
                    short.append(i)
                else:
                    self.head.extend(tenant, np.full(len(t), i, np.int64), t, v)
        return short

    def _drop(self, shard: int) -> None:
        self._epochs.pop(shard, None)
        self._positions.pop(shard, None)
        self._held_until.pop(shard, None)
        self._caught_up.discard(shard)
        for tenant in self._tenants.pop(shard, set()):
            self.head.drop(tenant)
            self._dirty.pop(tenant, None)
            self._w.engine.forget(tenant)
            self._index.forget(tenant)
            self._scored = {k: v for k, v in self._scored.items() if k[0] != tenant}

    def _shard_of(self, tenant: str) -> int:
        return keys.shard_of(tenant, self._w.settings.log_shards)

    def _owns(self, tenant: str) -> bool:
        shard = self._shard_of(tenant)
        return shard in self._epochs and self._held_until.get(shard, 0) > time.monotonic()

    async def _give_back(self) -> None:
        with contextlib.suppress(OffbeatError):
            for shard in self.shards:
                await self._leases.release(shard)
            await self._leases.sign_out()

    # store

    async def _store(self) -> None:
        if not self._epochs:
            await self._pause(0.05)
            return
        positions = dict(self._positions)
        found = await self._w.log.read(positions, count=_ENTRIES_AT_ONCE, block_ms=_BLOCK_MS)
        at_end = {s for s in positions if len(found.get(s, ())) < _ENTRIES_AT_ONCE}
        for shard, entries in found.items():
            if shard not in self._epochs:
                continue  # given back while we waited
            try:
                await self._w.chunk_writer.apply(shard, self._epochs[shard], entries)
            except LostLease as error:
                log.warning("shard lost", shard=shard, reason=str(error))
                self._drop(shard)
                continue
            self._positions[shard] = entries[-1].id
            await self._show(shard, entries)
            telemetry.SAMPLES_STORED.inc(sum(len(e.batch.id) for e in entries))
            telemetry.LOG_BACKLOG.labels(shard=str(shard)).set(
                (await self._w.log.backlog([shard]))[shard]
                if len(entries) == _ENTRIES_AT_ONCE
                else 0
            )
        self._caught_up |= at_end & self._epochs.keys()

    async def _show(self, shard: int, entries: list[Entry]) -> None:
        """Add applied entries to the head and mark what is to be scored."""
        for entry in entries:
            ids, t, v = entry.batch
            if unknown := self.head.unknown(entry.tenant, ids):
                self.head.add_series(
                    entry.tenant, await self._w.registry.lookup(entry.tenant, unknown)
                )
                self._tenants[shard].add(entry.tenant)
            touched = self.head.extend(entry.tenant, ids, t, v)
            self._dirty.setdefault(entry.tenant, set()).update(touched)
        self._changed.set()

    # detection

    async def _hear_models(self) -> None:
        async for _, payload in self._w.wake.listen("models"):
            tenant, _, series_hex = payload.partition("/")
            self._w.scorer.refresh(tenant, series_hex)

    async def _detect(self) -> None:
        if not await wait_for(self._changed, 1.0):
            return
        dirty, self._dirty = self._dirty, {}
        for tenant, ids in dirty.items():
            known = self.head.series(tenant)
            work = [known[i] for i in ids if i in known and not known[i].is_derived]
            if not work or not self._owns(tenant):
                continue
            begun = time.perf_counter()
            written = await asyncio.to_thread(self._score, tenant, work)
            telemetry.SCORING_SECONDS.observe(time.perf_counter() - begun)
            if written:
                await self._w.writer.write(tenant, written)

    def _score(self, tenant: str, work: list[Series]) -> list[tuple[Series, Columns]]:
        written: list[tuple[Series, Columns]] = []
        for series in work:
            context = self.head.columns(tenant, series.id)
            if not len(context.t):
                continue
            since = self._scored_until(tenant, series)
            if since >= context.t[-1]:
                continue
            found = self._w.scorer.score(tenant, series, context, since)
            if found:
                written += found
                self._scored[tenant, series.id] = int(context.t[-1])
                telemetry.POINTS_SCORED.inc(len(found[0][1].t))
        return written

    def _scored_until(self, tenant: str, series: Series) -> int:
        """Up to when the series is scored: as remembered, else as its score series says."""
        known = self._scored.get((tenant, series.id))
        if known is not None:
            return known
        scores = self.head.columns(tenant, series.derived(SCORE).id)
        return int(scores.t[-1]) if len(scores.t) else 0

    # rules

    async def _judge(self) -> None:
        await self._w.rules_file.reload_if_changed()
        now = self._w.clock.now()
        for tenant in self.head.tenants():
            if self._owns(tenant) and self._shard_of(tenant) in self._caught_up:
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
        errors: dict[str, str] = {}
        for rule in rules:
            try:
                judgements = evaluate(
                    rule,
                    tenant,
                    self.head,
                    now,
                    lookback_seconds=self._w.settings.series_lookback_seconds,
                    anomaly_threshold=self._w.settings.anomaly_detection_threshold,
                    index=self._index,
                )
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
            await asyncio.sleep(0)  # others of the event loop go on between two rules
        await self._w.engine.retire(tenant, {rule.id for rule in rules}, now)
        await self._w.rule_health.report(tenant, errors)

    def _chart(self, tenant: str, series: Series) -> Chart | None:
        """The newest samples, for the picture in a notification."""
        t, v = self.head.columns(tenant, series.id)
        if not len(t):
            return None
        return {"t": t[-_CHART_POINTS:].tolist(), "v": v[-_CHART_POINTS:].tolist()}
