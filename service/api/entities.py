"""Reading: several metrics of one entity judged together."""

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from service.api.analytics_models import SeriesId
from service.api.deps import allow, tenant_of, wiring
from service.api.reading import series_number
from service.domain.clock import iso
from service.domain.tenants import Permission, Principal
from service.insights import together

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]

#: Rows of the joint score that are shown.
ROWS_SHOWN = 2000


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EntityMetric(_Answer):
    """One metric of an entity with its own anomaly score at that moment."""

    series: SeriesId
    name: str
    score: float | None = Field(description="null if it has none then")


class EntityScore(_Answer):
    """The metrics that have a series' labels, and what they are together.

    `score` is 1 − p of all of them at once, on the entity's own past; null with fewer than two
    metrics that have anomaly scores.
    """

    labels: dict[str, str]
    at: str | None = Field(description="when the newest row of scores is from")
    score: float | None = Field(examples=[0.9993])
    metrics: list[EntityMetric]
    rows: int = Field(description="rows of scores that were learned from")
    t: list[int] = Field(description="milliseconds, ascending; the newest 2,000 rows")
    scores: list[float]


@router.get(
    "/analytics/series/{series_id}/entity", summary="Judge the metrics of one entity together"
)
async def entity(request: Request, principal: Reader, series_id: str) -> EntityScore:
    """The metrics with the same labels as the series, such as those of one host: several that are
    each a little odd at once stand out here. From the scores of the last three days."""
    parts, tenant = wiring(request), tenant_of(principal)
    found = await parts.source.get(tenant, series_number(series_id))
    known = await parts.source.all(tenant)
    metrics = together.metrics_of(known, found)
    joint = await together.judge(parts.source, tenant, known, metrics, parts.clock.now())
    if joint is None or not len(joint.t_ms):
        silent = [EntityMetric(series=s.hex, name=s.name, score=None) for s in metrics]
        return EntityScore(
            labels=found.base.tags, at=None, score=None, metrics=silent, rows=0, t=[], scores=[]
        )
    newest = {
        s.id: float(v)
        for s, v in zip(joint.series, joint.each[-1], strict=True)
        if math.isfinite(v)
    }
    return EntityScore(
        labels=found.base.tags,
        at=iso(float(joint.t_ms[-1]) / 1000),
        score=float(joint.score[-1]),
        metrics=[EntityMetric(series=s.hex, name=s.name, score=newest.get(s.id)) for s in metrics],
        rows=len(joint.t_ms),
        t=joint.t_ms[-ROWS_SHOWN:].tolist(),
        scores=joint.score[-ROWS_SHOWN:].tolist(),
    )
