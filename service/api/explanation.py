"""Reading: why a point has its score."""

import math
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from models.features import FEATURES
from models.members import LABELS
from service.api.analytics_models import SeriesId
from service.api.deps import allow, tenant_of, wiring
from service.api.reading import seconds, series_number
from service.domain.clock import iso
from service.domain.tenants import Permission, Principal

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MemberSaid(_Answer):
    """One member of the ensemble: how surprised it is, as −log10 of a probability."""

    name: str = Field(examples=["residual"])
    says: str = Field(examples=["forecast residual"])
    surprise: float


class FeatureSeen(_Answer):
    """One feature of the point, in units of what is usual for the series."""

    name: str = Field(examples=["day"])
    says: str = Field(examples=["compared with what was expected the day before"])
    z: float


class PointExplained(_Answer):
    """Why a point has its score. Members and features are in order, the oddest first.

    Of a counter `seen`, `expected`, `lower` and `upper` are rates, in increase per second.
    """

    series: SeriesId
    at: str | None
    score: float
    since: str | None = Field(
        description="When the odd stretch began; null if the point is not odd"
    )
    seen: float | None
    expected: float
    lower: float
    upper: float
    counter: bool
    version: int = Field(description="The training that is asked; it may have come after the point")
    sentence: str
    members: list[MemberSaid]
    features: list[FeatureSeen]


@router.get(
    "/analytics/series/{series_id}/explanation", summary="Say why a point of a series has its score"
)
async def explanation(
    request: Request,
    principal: Reader,
    series_id: str,
    at: Annotated[
        str | None,
        Query(description="Unix seconds or ISO 8601 with a zone; now if absent", max_length=64),
    ] = None,
) -> PointExplained:
    """Of the newest point at or before `at`: what was seen and expected, who found it unusual, by
    which feature, and since when. 404 if there is no model yet, or no point."""
    parts, tenant = wiring(request), tenant_of(principal)
    found = await parts.source.get(tenant, series_number(series_id))
    moment = parts.clock.now() if at is None else seconds(at, "at")
    told = await parts.explainer.explain(tenant, found.base, math.floor(moment * 1000))
    why = told.why
    return PointExplained(
        series=found.base.hex,
        at=iso(why.t_ms / 1000),
        score=why.score,
        since=iso(None if why.since_ms is None else why.since_ms / 1000),
        seen=why.seen if math.isfinite(why.seen) else None,
        expected=why.expected,
        lower=why.lower,
        upper=why.upper,
        counter=told.counter,
        version=told.version,
        sentence=why.sentence(),
        members=[
            MemberSaid(name=name, says=LABELS[name], surprise=surprise)
            for name, surprise in sorted(why.surprises.items(), key=lambda one: -one[1])
        ],
        features=[
            FeatureSeen(name=name, says=FEATURES[name], z=z)
            for name, z in sorted(why.features.items(), key=lambda one: -abs(one[1]))
        ],
    )
