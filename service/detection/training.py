"""Decides which series are due, has them trained and published, and keeps a record of each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import structlog

from models.base import Arrays
from service import telemetry
from service.detection.catalogue import Catalogue
from service.detection.due import Due, Reason, failures_of, in_order, look_again, reason_of
from service.detection.fitting import FitOptions, train_series
from service.detection.gate import Labels
from service.detection.pool import Executor
from service.detection.progress import Progress
from service.detection.publishing import Publisher, SampleWriter, Wake
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.registry import ModelRegistry
from service.detection.spans import Spans, trusted
from service.detection.thorough import Foreseen, asked
from service.domain.clock import Clock
from service.domain.errors import LostLease, Unavailable
from service.domain.series import DERIVED, MetricType, Selector, Series
from service.settings import Settings
from service.storage.columns import Columns
from service.storage.sql.engine import Database

log = structlog.get_logger(__name__)

_DAY_MS = 86_400_000
#: Series that are read together, and that are in memory at a time to be trained.
_READ_AT_ONCE = 16
_AT_ONCE = 64
#: Real seconds after which a run begins no more of what can wait, so that new series come first.
_RUN_SECONDS = 300.0


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

    async def labelled(
        self, tenant: str, since: float
    ) -> Mapping[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]]:
        """From and to of alerts that people spoke of: the useful ones, and the others."""
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


#: Whether this process may still publish what it has trained.
Permission = Callable[[], Awaitable[bool]]


async def _always() -> bool:
    return True


class Trainer:
    """Keeps every series' model fresh. One `run` at a time."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        models: ModelRegistry,
        catalogue: Catalogue,
        executor: Executor,
        *,
        series: SeriesSource,
        reader: SampleReader,
        writer: SampleWriter,
        wake: Wake,
        incidents: Incidents,
        foreseen: Foreseen,
        paused: Callable[[], str] = str,
    ) -> None:
        self._settings = settings
        self._records = ModelRecords(database)
        self._clock = clock
        self._models, self._catalogue = models, catalogue
        self._executor = executor
        self._series = series
        self._reader = reader
        self._publisher = Publisher(models, self._records, catalogue, clock, writer, wake)
        self._incidents = incidents
        self._foreseen_by = foreseen
        self._foreseen: dict[str, Sequence[Selector]] = {}
        self._labels: dict[str, dict[str, Labels]] = {}
        # Series that need no look before a time: nothing new is to be expected of them.
        self._not_before: dict[tuple[str, str], float] = {}
        self._may_publish: Permission = _always
        #: What the run that is under way has done so far.
        self.progress = Progress(clock, paused, lambda: executor.place, lambda: executor.running)

    async def run(
        self, tenants: Sequence[str], may_publish: Permission = _always
    ) -> TrainingReport:
        """Train what is due; one series' failure is its own.

        `may_publish` is asked before a model is made known; LostLease if it says no. Unavailable
        while a store is down: what is not done yet stays due.
        """
        self._may_publish = may_publish
        due, skipped = await self._due(tenants)
        self.progress.begin(due)
        reports = [TrainingReport(skipped=skipped)]
        left_out: dict[str, dict[str, Spans]] = {}
        room = asyncio.Semaphore(_AT_ONCE)
        begun = time.monotonic()

        async def train(one: Due, samples: Columns, spans: Spans) -> None:
            try:
                reports.append(await self._train_one(one, samples, spans))
            finally:
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                for start in range(0, len(due), _READ_AT_ONCE):
                    part = due[start : start + _READ_AT_ONCE]
                    if part[0].reason > Reason.LOST and time.monotonic() - begun > _RUN_SECONDS:
                        break  # series that have a model wait for the next run
                    for one in part:
                        if one.tenant not in left_out:
                            own = [d.series for d in due if d.tenant == one.tenant]
                            left_out[one.tenant] = await self._left_out(one.tenant, own)
                            self._foreseen[one.tenant] = await self._foreseen_by(one.tenant)
                    samples = await self._read_all(part)
                    for one in part:
                        await room.acquire()
                        spans = _of_series(one.series, left_out[one.tenant])
                        columns = samples.get((one.tenant, one.series.id), Columns.empty())
                        group.create_task(train(one, columns, spans))
        except ExceptionGroup as errors:  # each series' own are caught; these end the run
            raise errors.exceptions[0] from None
        return sum(reports, TrainingReport())

    def close(self) -> None:
        """End what is training."""
        self._executor.close()

    async def _due(self, tenants: Sequence[str]) -> tuple[list[Due], int]:
        """What is to be trained, in order, and how many series are not."""
        now = self._clock.now()
        self._not_before = {name: at for name, at in self._not_before.items() if at > now}
        found: list[Due] = []
        skipped = 0
        for tenant in tenants:
            known = await self._records.all(tenant)
            own = [s for s in (await self._series.all(tenant)).values() if not s.is_derived]
            await self._forget(tenant, known.keys() - {series.hex for series in own})
            await self._catalogue.fresh(tenant)
            stored = await asyncio.to_thread(self._models.trained, tenant)
            for series in own:
                record = known.get(series.hex)
                reason = reason_of(
                    series.hex,
                    record,
                    now,
                    self._settings.ml_model_retrain_frequency,
                    has_file=series.id in stored,
                )
                if reason is None or (tenant, series.hex) in self._not_before:
                    skipped += 1
                else:
                    found.append(Due(tenant, series, record, reason))
        return in_order(found), skipped

    async def _forget(self, tenant: str, deleted: Collection[str]) -> None:
        """Remove the models of series that were deleted."""
        if deleted:
            self._catalogue.gone(tenant, [int(series_hex, 16) for series_hex in deleted])
            await self._records.delete(tenant, deleted)

    async def _left_out(self, tenant: str, series: Sequence[Series]) -> dict[str, Spans]:
        """What nothing is to be learned from, in milliseconds, by series."""
        since = self._clock.now() - self._settings.retention_seconds
        found = await self._incidents.left_out(tenant, since, series)
        told = await self._incidents.labelled(tenant, since)
        self._labels[tenant] = {
            name: Labels(_in_ms(useful), _in_ms(noise)) for name, (useful, noise) in told.items()
        }
        return {name: _in_ms(times) for name, times in found.items()}

    async def _read_all(self, part: Sequence[Due]) -> dict[tuple[str, int], Columns]:
        found: dict[tuple[str, int], Columns] = {}
        for tenant in dict.fromkeys(one.tenant for one in part):
            ids = [one.series.id for one in part if one.tenant == tenant]
            for series, columns in (await self._read(tenant, ids)).items():
                found[tenant, series] = columns
        return found

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

    async def _train_one(self, one: Due, samples: Columns, left_out: Spans) -> TrainingReport:
        """What became of a series; its record says so too."""
        now = self._clock.now()
        record = one.record or ModelRecord(one.tenant, one.series.hex, ModelState.COLD)
        finite = np.isfinite(samples.v)
        rows = int((finite & trusted(samples.t, left_out) if left_out else finite).sum())
        missing = self._settings.training_min_rows - rows
        if missing > 0:
            self._wait(one, samples, missing)
            if record.version:  # retention has taken most of it; the model stays in use
                return self._left(one, TrainingReport(skipped=1))
            if one.record is None or record.rows != rows:
                cold = replace(record, state=ModelState.COLD, rows=rows)
                await self._records.replace(cold, record.version)
            return self._left(one, TrainingReport(cold=1))
        newest = float(samples.t[-1]) / 1000
        if (
            one.reason is not Reason.LOST
            and record.trained_to is not None
            and (newest <= record.trained_to)
        ):
            self._wait(one, samples, 1)
            return self._left(one, TrainingReport(skipped=1))
        try:
            with self._publisher.coming():
                report = await self._publish(one, record, samples, left_out, now)
        except (LostLease, Unavailable):  # it stays due
            raise
        except Exception as error:
            telemetry.MODELS_FAILED.inc()
            reason = str(error) or type(error).__name__
            log.warning("training failed", tenant=one.tenant, series=one.series.hex, reason=reason)
            failed = replace(
                record,
                state=ModelState.FAILED,
                trained_at=now,
                rows=rows,
                error=reason[:500],
                quality={**record.quality, "failures": failures_of(record) + 1},
            )
            await self._records.replace(failed, record.version)
            report = TrainingReport(failed=1)
        return self._left(one, report)

    async def _publish(
        self, one: Due, record: ModelRecord, samples: Columns, left_out: Spans, now: float
    ) -> TrainingReport:
        options = FitOptions(
            horizon=self._settings.trend_forecast_horizon,
            counter=one.series.metric_type is MetricType.COUNTER,
            thorough=asked(one.series, record, self._foreseen.get(one.tenant, ())),
            left_out=left_out,
            before=await self._in_use(one),
            refusals=int(record.quality.get("gate", {}).get("refusals", 0)),
            labels=_labels_of(one.series, self._labels.get(one.tenant, {})),
        )
        trained = await self._executor.run(train_series, samples.t, samples.v, options)
        if not await self._may_publish():
            raise LostLease("another scheduler leads by now; it trains what is not done")
        made = await self._publisher.publish(one.tenant, one.series, record, trained, now)
        if made is None:
            log.warning("model published elsewhere", tenant=one.tenant, series=one.series.hex)
            return TrainingReport(skipped=1)
        telemetry.MODELS_TRAINED.inc()
        telemetry.TRAINING_SECONDS.observe(trained.seconds)
        return TrainingReport(trained=1, seconds=trained.seconds)

    async def _in_use(self, one: Due) -> Arrays | None:
        """The model that the new one is compared with."""
        if self._models.version(one.tenant, one.series.id) is None:
            return None
        return await asyncio.to_thread(self._models.arrays, one.tenant, one.series.hex)

    def _wait(self, one: Due, samples: Columns, missing: int) -> None:
        """Leave a series out of the next looks, until as many rows more may have come."""
        step_ms = float(np.median(np.diff(samples.t))) if len(samples.t) > 1 else 0.0
        wait = look_again(missing, step_ms, self._settings.training_interval)
        self._not_before[one.tenant, one.series.hex] = self._clock.now() + wait

    def _left(self, one: Due, report: TrainingReport) -> TrainingReport:
        outcomes = ("trained", "failed", "cold", "skipped")
        self.progress.left(one, next(name for name in outcomes if getattr(report, name)))
        return report


def _of_series(series: Series, left_out: Mapping[str, Spans]) -> Spans:
    """What is left out of a series: alerts on what models say of it are alerts on it."""
    if not left_out:
        return ()
    return tuple(span for name in _names(series) for span in left_out.get(name, ()))


def _labels_of(series: Series, labels: Mapping[str, Labels]) -> Labels:
    """What people said of alerts on a series, or on what models say of it."""
    own = [labels[name] for name in _names(series) if name in labels] if labels else []
    return Labels(
        tuple(span for one in own for span in one.useful),
        tuple(span for one in own for span in one.noise),
    )


def _names(series: Series) -> list[str]:
    return [series.hex, *(series.derived(suffix).hex for suffix in DERIVED)]


def _in_ms(times: Sequence[tuple[float, float]]) -> Spans:
    return tuple((round(begin * 1000), round(end * 1000)) for begin, end in times)
