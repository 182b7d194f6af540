"""Makes a trained model known: stored, written about, announced."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from service.detection.derived import Samples, forecast_samples, score_samples
from service.detection.fitting import Trained
from service.detection.records import ModelRecord, ModelState
from service.detection.registry import ModelRegistry
from service.domain.series import MetricType, Series
from service.storage.columns import Columns


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


class Publisher:
    """Replaces the model of a series by a new one."""

    def __init__(self, models: ModelRegistry, writer: SampleWriter, wake: Wake) -> None:
        self._models, self._writer, self._wake = models, writer, wake

    async def publish(
        self, tenant: str, series: Series, before: ModelRecord, trained: Trained, now: float
    ) -> ModelRecord:
        """Store the model, write what it says, tell the workers. The record to keep of it."""
        first_time = before.version == 0
        judged_until = before.quality.get("judged_until_ms", trained.to_ms)
        quality: dict[str, Any] = {**trained.quality, "judged_until_ms": judged_until}
        manifest = {
            "tenant": tenant,
            "series": series.hex,
            "labels": [list(pair) for pair in series.labels],
            "version": before.version + 1,
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
        if first_time:  # later, the history holds what was said at the time
            said = score_samples(series, trained.holdout) + said
        await asyncio.to_thread(self._models.save, tenant, series.hex, trained.arrays, manifest)
        await self._writer.write(tenant, said)
        await self._wake.publish("models", f"{tenant}/{series.hex}")
        return ModelRecord(
            tenant,
            series.hex,
            ModelState.READY,
            version=before.version + 1,
            trained_at=now,
            trained_from=trained.from_ms / 1000,
            trained_to=trained.to_ms / 1000,
            rows=trained.rows,
            seconds=trained.seconds,
            quality=quality,
        )
