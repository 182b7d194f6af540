"""Models as training leaves them: in a segment, and in SQL."""

from collections.abc import Mapping
from typing import Any

from service.detection.fitting import Trained
from service.detection.packs import Place
from service.detection.records import ModelRecord, ModelState
from service.detection.registry import Made
from service.domain.series import Series
from service.wiring import Wiring


async def put_model(
    parts: Wiring,
    series: Series,
    trained: Trained,
    manifest: Mapping[str, Any],
    *,
    tenant: str = "acme",
    before: int = 0,
) -> Place:
    """Take a model into use, as the version that its manifest names."""
    (place,) = parts.models.save_all([Made(tenant, series.hex, trained.arrays, manifest)])
    now = parts.clock.now()
    record = ModelRecord(
        tenant,
        series.hex,
        ModelState.READY,
        version=place.version,
        newest=place.version,
        trained_at=now,
        trained_from=trained.from_ms / 1000,
        trained_to=trained.to_ms / 1000,
        rows=trained.rows,
        seconds=trained.seconds,
        quality=trained.quality,
        changed_at=now,
    )
    assert await parts.model_records.publish([(record, place, before)]) == [True]
    return place
