"""Decides which series are due, has them trained and published, and keeps a record of each."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import structlog

from service import telemetry
from service.detection.fitting import FitOptions, Spans, trusted
from service.detection.pool import FittingPool
from service.detection.publishing import Publisher, SampleWriter, Wake
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.registry import ModelRegistry
from service.domain.clock import Clock
from service.domain.series import DERIVED, MetricType, Series
from service.settings import Settings
from service.storage.columns import Columns
from service.storage.sql.engine import Database

log = structlog.get_logger(__name__)

_DAY_MS = 86_400_000
#: Series that are read, trained and stored together.
_AT_ONCE = 64


class SampleReader(Protocol):
    """Where samples come from."""

    async def read(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int
    ) -> dict[int, Columns]:
        """Samples of each series with `start_ms <= t <= end_ms`."""
        ...


class SeriesSource(Protocol):
    """Which series there are."""

    async def all(self, tenant: str) -> dict[int, Series]:
        """Every series of the tenant by id."""
        ...


class Incidents(Protocol):
    """What nothing is to be learned from."""

    async def left_out(
        self, tenant: str, since: float, series: Sequence[Series]
    ) -> Mapping[str, Sequence[tuple[float, float]]]:
        """From and to (Unix seconds) of what ended after `since`, by series (16 hex digits).

        `series` are those that are to be trained.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What became of the series: trained, failed, cold (too few samples), skipped (not due).

    `seconds` is the CPU time that trainings took.
    """

    trained: int = 0
    failed: int = 0
    cold: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def __add__(self, other: "TrainingReport") -> "TrainingReport":
        return TrainingReport(
            self.trained + other.trained,
            self.failed + other.failed,
            self.cold + other.cold,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
        )


#: Called with the series done so far and their total.
Progress = Callable[[int, int], None]


class Trainer:
    """Keeps every series' model fresh. One `run` at a time."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        models: ModelRegistry,
        *,
        series: SeriesSource,
        reader: SampleReader,
        writer: SampleWriter,
        wake: Wake,
        incidents: Incidents,
    ) -> None:
        self._settings = settings
        self._records = ModelRecords(database)
        self._clock = clock
        self._models = models
        self._series = series
        self._reader = reader
        self._publisher = Publisher(models, writer, wake)
        self._incidents = incidents
        self._pool = FittingPool(settings.parallel_workers)

    async def run(self, tenants: Sequence[str], progress: Progress | None = None) -> TrainingReport:
        """Train what is due; one series' failure is its own."""
        work: list[tuple[str, Series, ModelRecord | None]] = []
        report = TrainingReport()
        for tenant in tenants:
            known = await self._records.all(tenant)
            own = [s for s in (await self._series.all(tenant)).values() if not s.is_derived]
            await self._forget(tenant, known.keys() - {series.hex for series in own})
            for series in own:
                record = known.get(series.hex)
                if self._is_due(tenant, series, record):
                    work.append((tenant, series, record))
                else:
                    report += TrainingReport(skipped=1)
        done = 0
        for tenant in tenants:
            due = [(series, record) for name, series, record in work if name == tenant]
            left_out = await self._left_out(tenant, [s for s, _ in due]) if due else {}
            for start in range(0, len(due), _AT_ONCE):
                part = due[start : start + _AT_ONCE]
                report += await self._train(tenant, part, left_out)
                done += len(part)
                if progress is not None:
                    progress(done, len(work))
        return report

    def close(self) -> None:
        """End the pool's processes, also those that are training."""
        self._pool.close()

    async def _forget(self, tenant: str, deleted: Collection[str]) -> None:
        """Remove the models of series that were deleted."""
        if deleted:
            for series_hex in deleted:
                await asyncio.to_thread(self._models.remove, tenant, series_hex)
            await self._records.delete(tenant, deleted)

    def _is_due(self, tenant: str, series: Series, record: ModelRecord | None) -> bool:
        if record is None or record.trained_at is None:
            return True
        age = self._clock.now() - record.trained_at
        if age >= self._settings.ml_model_retrain_frequency:
            return True
        lost = self._models.changed_at(tenant, series.hex) is None
        return lost and record.state is ModelState.READY

    async def _left_out(self, tenant: str, series: Sequence[Series]) -> dict[str, Spans]:
        """What nothing is to be learned from, in milliseconds, by series."""
        since = self._clock.now() - self._settings.retention_seconds
        found = await self._incidents.left_out(tenant, since, series)
        return {
            name: tuple((round(begin * 1000), round(end * 1000)) for begin, end in times)
            for name, times in found.items()
        }

    async def _train(
        self,
        tenant: str,
        work: list[tuple[Series, ModelRecord | None]],
        left_out: Mapping[str, Spans],
    ) -> TrainingReport:
        samples = await self._read(tenant, [series.id for series, _ in work])
        results = await asyncio.gather(
            *(
                self._train_one(
                    tenant,
                    series,
                    record,
                    samples.get(series.id, Columns.empty()),
                    _of_series(series, left_out),
                )
                for series, record in work
            )
        )
        await self._records.put([record for record, _ in results if record is not None])
        return sum((report for _, report in results), TrainingReport())

    async def _read(self, tenant: str, ids: list[int]) -> dict[int, Columns]:
        """The newest `training_max_rows` samples; beyond a day's only where those are too few."""
        now_ms = round(self._clock.now() * 1000)
        limit = self._settings.training_max_rows
        found = await self._reader.read(tenant, ids, now_ms - _DAY_MS, now_ms)
        short = [i for i in ids if i not in found or len(found[i].t) < limit]
        if short:
            kept_ms = round(self._settings.retention_seconds * 1000)
            found = {**found, **await self._reader.read(tenant, short, now_ms - kept_ms, now_ms)}
        return {i: Columns(c.t[-limit:], c.v[-limit:]) for i, c in found.items()}

    async def _train_one(
        self,
        tenant: str,
        series: Series,
        before: ModelRecord | None,
        samples: Columns,
        left_out: Spans,
    ) -> tuple[ModelRecord | None, TrainingReport]:
        """The record to store, None where nothing changed."""
        now = self._clock.now()
        record = before or ModelRecord(tenant, series.hex, ModelState.COLD)
        finite = np.isfinite(samples.v)
        rows = int((finite & trusted(samples.t, left_out) if left_out else finite).sum())
        if rows < self._settings.training_min_rows:
            if record.version:  # retention has taken most of it; the model stays in use
                return None, TrainingReport(skipped=1)
            return replace(record, state=ModelState.COLD, rows=rows), TrainingReport(cold=1)
        newest = float(samples.t[-1]) / 1000
        has_file = self._models.changed_at(tenant, series.hex) is not None
        if has_file and record.trained_to is not None and newest <= record.trained_to:
            return None, TrainingReport(skipped=1)
        try:
            options = FitOptions(
                horizon=self._settings.trend_forecast_horizon,
                counter=series.metric_type is MetricType.COUNTER,
                left_out=left_out,
            )
            trained = await self._pool.fit(samples, options)
            record = await self._publisher.publish(tenant, series, record, trained, now)
        except Exception as error:
            telemetry.MODELS_FAILED.inc()
            reason = str(error) or type(error).__name__
            log.warning("training failed", tenant=tenant, series=series.hex, reason=reason)
            failed = replace(
                record, state=ModelState.FAILED, trained_at=now, rows=rows, error=reason[:500]
            )
            return failed, TrainingReport(failed=1)
        telemetry.MODELS_TRAINED.inc()
        telemetry.TRAINING_SECONDS.observe(trained.seconds)
        return record, TrainingReport(trained=1, seconds=trained.seconds)


def _of_series(series: Series, left_out: Mapping[str, Spans]) -> Spans:
    """What is left out of a series: alerts on what models say of it are alerts on it."""
    if not left_out:
        return ()
    names = [series.hex, *(series.derived(suffix).hex for suffix in DERIVED)]
    return tuple(span for name in names for span in left_out.get(name, ()))
