"""Makes a trained model known: stored, written about, announced.

Models that are trained at about the same time are stored together: a segment for those of each
shard, and one transaction.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from service import telemetry
from service.detection.catalogue import Catalogue
from service.detection.derived import Samples, forecast_samples, score_samples
from service.detection.fitting import Trained
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.registry import Made, ModelRegistry
from service.domain.clock import Clock
from service.domain.series import MetricType, Series
from service.storage.columns import Columns

log = structlog.get_logger(__name__)

#: Models that are stored together at most, and how long (real seconds) the first waits for others.
TOGETHER = 64
_WAIT_SECONDS = 2.0


class SampleWriter(Protocol):
    """Where what models say goes."""

    async def write(self, tenant: str, samples: Sequence[tuple[Series, Columns]]) -> None:
        """Record samples of derived series."""
        ...


class Wake(Protocol):
    """Tells others to look now."""

    async def publish(self, topic: str, payload: str = "") -> None:
        """Wake whoever listens to the topic."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A model that is to be stored: its record, and the version that was in use before."""

    model: Made
    record: ModelRecord
    before: int
    said: Samples
    done: "asyncio.Future[bool]"


class Publisher:
    """Replaces models of series by new ones."""

    def __init__(
        self,
        models: ModelRegistry,
        records: ModelRecords,
        catalogue: Catalogue,
        clock: Clock,
        writer: SampleWriter,
        wake: Wake,
    ) -> None:
        self._models, self._records, self._catalogue = models, records, catalogue
        self._clock, self._writer, self._wake = clock, writer, wake
        self._coming = 0
        self._waiting: list[_Waiting] = []
        self._more = asyncio.Event()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """A model is being trained, and `publish` is called within: others wait a little for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._more.set()

    async def publish(
        self, tenant: str, series: Series, before: ModelRecord, trained: Trained, now: float
    ) -> ModelRecord | None:
        """Store the model, write what it says, tell the workers; what SQL says of it then.

        If the gate is shut, the model before stays, and its record says why. None, and nothing has
        changed, if another version is in use by now, or it was pinned.
        """
        if not trained.gate.is_open:
            return await self._kept(before, trained, now)
        version = before.newest + 1
        judged_until = before.quality.get("judged_until_ms", trained.to_ms)
        quality: dict[str, Any] = {**trained.quality, "judged_until_ms": judged_until}
        manifest = {
            "tenant": tenant,
            "series": series.hex,
            "labels": [list(pair) for pair in series.labels],
            "version": version,
            "trained_at": now,
            "trained_from_ms": trained.from_ms,
            "trained_to_ms": trained.to_ms,
            "judged_until_ms": judged_until,
            "rows": trained.rows,
            "features": list(trained.features),
            "counter": series.metric_type is MetricType.COUNTER,
            "quality": quality,
        }
        said: Samples = forecast_samples(series, trained.forecast)
        if before.newest == 0:  # later, the history holds what was said at the time
            said = score_samples(series, trained.holdout) + said
        record = ModelRecord(
            tenant,
            series.hex,
            ModelState.READY,
            version=version,
            newest=version,
            trained_at=now,
            trained_from=trained.from_ms / 1000,
            trained_to=trained.to_ms / 1000,
            rows=trained.rows,
            seconds=trained.seconds,
            quality=quality,
        )
        made = Made(tenant, series.hex, trained.arrays, manifest)
        done = asyncio.get_running_loop().create_future()
        one = _Waiting(made, record, before.version, said, done)
        return record if await self._stored(one) else None

    async def _kept(self, before: ModelRecord, trained: Trained, now: float) -> ModelRecord | None:
        telemetry.MODELS_KEPT.inc()
        log.warning(
            "model not taken",
            tenant=before.tenant,
            series=before.series_id,
            reason=trained.gate.why,
        )
        known = {name: v for name, v in before.quality.items() if name != "failures"}
        record = replace(
            before,
            state=ModelState.READY,
            trained_at=now,
            quality=known | {"gate": trained.gate.plain()},
            error=None,
        )
        return record if await self._records.replace(record, before.version) else None

    async def _stored(self, one: _Waiting) -> bool:
        """Store a model with those that come at about the same time; whether it is in use."""
        self._waiting.append(one)
        self._more.set()
        if len(self._waiting) > 1:  # the first one stores them all
            return await one.done
        batch: list[_Waiting] = []
        try:
            await self._gather()
            batch, self._waiting = self._waiting, []
            await self._store(batch)
        except BaseException as error:
            for other in batch or self._waiting:
                if other is not one and not other.done.done():
                    cancelled = isinstance(error, asyncio.CancelledError)
                    other.done.cancel() if cancelled else other.done.set_exception(error)
            if not batch:
                self._waiting = []
            raise
        return one.done.result()

    async def _gather(self) -> None:
        """Wait a while for models that are being trained, unless there are none or enough."""
        until = time.monotonic() + _WAIT_SECONDS
        while len(self._waiting) < min(TOGETHER, self._coming):
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), max(0.0, until - time.monotonic()))
            except TimeoutError:
                return

    async def _store(self, batch: list[_Waiting]) -> None:
        now = self._clock.now()
        made = [one.model for one in batch]
        places = await asyncio.to_thread(self._models.save_all, made, round(now * 1000))
        for one in batch:
            await self._writer.write(one.model.tenant, one.said)
        told = [
            (replace(one.record, changed_at=now), place, one.before)
            for one, place in zip(batch, places, strict=True)
        ]
        stored = await self._records.publish(told)
        for one, done in zip(batch, stored, strict=True):
            if done:
                await self._wake.publish("models", f"{one.model.tenant}/{one.model.series}")
                self._catalogue.stale(one.model.tenant)
            if not one.done.done():
                one.done.set_result(done)
