"""Reading: the trend of a slow metric, weeks ahead."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from service.api.analytics_models import SeriesId
from service.api.deps import allow, tenant_of, wiring
from service.api.reading import series_number
from service.domain.clock import iso
from service.domain.tenants import Permission, Principal
from service.insights.trends import WEEKS, WEEKS_MAX

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrendChange(_Answer):
    """A change that the trend assumes. Of kind `slope`: the change a week; `level`: the level."""

    at: str | None
    kind: str = Field(examples=["slope", "level"])
    before: float
    after: float


class SeriesTrend(_Answer):
    """By day, or by week where samples are weekly; of a counter the increase, else the mean."""

    series: SeriesId
    made_at: str | None = Field(description="A trend is kept for a day")
    days: int = Field(description="Days of history behind it")
    counter: bool
    slope: float = Field(description="Change a week at the end of the history")
    growth: float = Field(description="The same as a share of the level; 0 where that is 0")
    since: str | None = Field(description="When it last changed, or the history begins")
    error: float = Field(description="Mean absolute error, tried on the past")
    changes: list[TrendChange]
    t: list[int] = Field(description="milliseconds, ascending: the days ahead")
    value: list[float]
    lower: list[float] = Field(description="90 % of values lie between this and `upper`")
    upper: list[float]
    past_t: list[int] = Field(description="milliseconds, ascending: the days of the history")
    trend: list[float] = Field(description="at `past_t`, without the days of the week")


@router.get("/analytics/series/{series_id}/trend", summary="Say where a series goes in weeks")
async def trend(
    request: Request,
    principal: Reader,
    series_id: str,
    weeks: Annotated[int, Query(ge=1, le=WEEKS_MAX)] = WEEKS,
) -> SeriesTrend:
    """A straight trend that bends and jumps at the change points that it names, with the days of
    the week, from at least four weeks of history. 404 with less."""
    parts, tenant = wiring(request), tenant_of(principal)
    found = await parts.source.get(tenant, series_number(series_id))
    if found.is_derived:
        found = await parts.source.get(tenant, found.base.id)
    told = await parts.trends.of(tenant, found, weeks)
    said = told.outlook
    return SeriesTrend(
        series=found.hex,
        made_at=iso(told.at),
        days=told.days,
        counter=told.counter,
        slope=said.slope,
        growth=said.growth,
        since=iso(said.since_ms / 1000),
        error=said.error,
        changes=[
            TrendChange(
                at=iso(change.t_ms / 1000),
                kind=str(change.kind),
                before=change.before,
                after=change.after,
            )
            for change in said.changes
        ],
        t=said.t_ms.tolist(),
        value=said.value.tolist(),
        lower=said.lower.tolist(),
        upper=said.upper.tolist(),
        past_t=said.past_t_ms.tolist(),
        trend=said.trend.tolist(),
    )
