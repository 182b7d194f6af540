"""Reading: what is forecast of a series, and how likely it crosses a threshold."""

import math
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from models.crossing import crossing, passing
from service.api.analytics_models import SeriesId
from service.api.deps import allow, tenant_of, wiring
from service.api.reading import series_number
from service.domain.clock import iso
from service.domain.durations import parse_duration
from service.domain.errors import InvalidInput, NotFound
from service.domain.series import FORECAST, FORECAST_LOWER, FORECAST_UPPER
from service.domain.tenants import Permission, Principal
from service.insights import records
from service.storage.columns import Columns, Times, Values

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]

#: The share of values that stored intervals hold.
STORED_LEVEL = 0.9
_DAY_MS = 86_400_000
_AHEAD_MS = 30 * _DAY_MS


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Forecaster(_Answer):
    """The model that forecasts, as its training measured it on data that it had not seen."""

    version: int
    trained_at: str | None
    heaviest: str | None = Field(examples=["autoregressive"])
    weights: dict[str, float] = Field(description="Of the members that are asked; they sum to 1")
    errors: dict[str, float] = Field(description="Mean absolute error of each member")
    error: float | None = Field(description="Of the members together")
    coverage: float | None = Field(
        description="Share of values inside the interval, which should hold 0.9"
    )
    fell_back: bool | None = Field(
        description="Whether members left all reason at the training, and what stayed, or the last "
        "value, stood in for them"
    )


class Threshold(_Answer):
    """How likely a threshold is crossed. Times are null where the forecast ends before."""

    threshold: float
    above: bool
    probability: list[float] = Field(description="At each step: that it is crossed by then")
    early_at: str | None = Field(description="By then with a probability of 10 %")
    likely_at: str | None = Field(description="By then with a probability of 50 %")
    late_at: str | None = Field(description="By then with a probability of 90 %")


class SeriesForecast(_Answer):
    """The newest forecast, in columns of the steps after now."""

    series: SeriesId
    made_from: str | None = Field(description="The newest sample that the forecast knew")
    ends_at: str | None = Field(description="How far it reaches, whatever the horizon asked for")
    step_seconds: float
    level: float
    t: list[int] = Field(description="milliseconds, ascending")
    value: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    model: Forecaster | None
    crossing: Threshold | None


@router.get("/analytics/series/{series_id}/forecast", summary="Say what comes next of a series")
async def forecast(
    request: Request,
    principal: Reader,
    series_id: str,
    horizon: Annotated[
        str | None,
        Query(
            description="How far ahead: seconds, or `6h`; as far as the forecast reaches if absent",
            max_length=32,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        Query(description="Also say how likely this is crossed", allow_inf_nan=False),
    ] = None,
    above: Annotated[bool, Query(description="Crossed upwards; false: downwards")] = True,
    level: Annotated[
        float, Query(description="The share of values that the interval holds", ge=0.5, le=0.99)
    ] = STORED_LEVEL,
) -> SeriesForecast:
    """The newest that was stored, so what rules and pages go by. Intervals of another level than
    0.9 are those of two halves of a normal distribution. 404 if nothing is forecast."""
    parts, tenant = wiring(request), tenant_of(principal)
    found = (await parts.source.get(tenant, series_number(series_id))).base
    now_ms = round(parts.clock.now() * 1000)
    until = now_ms + (_AHEAD_MS if horizon is None else _milliseconds(horizon))
    ids = [found.derived(suffix).id for suffix in (FORECAST, FORECAST_LOWER, FORECAST_UPPER)]
    read = await parts.source.read(tenant, ids, now_ms - _DAY_MS, now_ms + _AHEAD_MS)
    everything = read[ids[0]]
    ahead = everything.between(now_ms + 1, until)
    if not len(everything.t) or int(everything.t[-1]) <= now_ms:
        raise NotFound(f"nothing is forecast of series {found.hex}")
    if not len(ahead.t):
        first = iso(float(everything.between(now_ms + 1, until + _AHEAD_MS).t[0]) / 1000)
        raise InvalidInput(f"ends before the first step, which is at {first}", where="horizon")
    lower, upper = (read[i].at(ahead.t) for i in ids[1:])
    step_ms, made_from = _made(everything, parts.settings.trend_forecast_horizon)
    async with parts.database.read() as connection:
        row = (await records.models_of(connection, tenant, [found.hex])).get(found.hex)
    told = None
    if threshold is not None:
        told = _crossing(ahead.t, ahead.v, lower, upper, threshold, above)
    wider = NormalDist().inv_cdf(0.5 + level / 2) / NormalDist().inv_cdf(0.5 + STORED_LEVEL / 2)
    if level != STORED_LEVEL:
        lower, upper = (ahead.v + (side - ahead.v) * wider for side in (lower, upper))
    return SeriesForecast(
        series=found.hex,
        made_from=iso(made_from / 1000),
        ends_at=iso(float(everything.t[-1]) / 1000),
        step_seconds=step_ms / 1000,
        level=level,
        t=ahead.t.tolist(),
        value=_numbers(ahead.v),
        lower=_numbers(lower),
        upper=_numbers(upper),
        model=None if row is None or not row["version"] else _forecaster(dict(row)),
        crossing=told,
    )


def _milliseconds(text: str) -> int:
    try:
        seconds = parse_duration(text)
    except InvalidInput as error:
        raise InvalidInput(str(error), where="horizon") from error
    if not 0 < seconds * 1000 <= _AHEAD_MS:
        raise InvalidInput("is longer than 0 and at most 30d", where="horizon")
    return round(seconds * 1000)


def _made(stored: Columns, steps: int) -> tuple[float, float]:
    """The forecast's step, and when the newest sample came that it knew, in milliseconds."""
    newest = stored.t[-steps:]
    step = float(np.median(np.diff(newest))) if len(newest) > 1 else 0.0
    return step, float(stored.t[-1]) - steps * step


def _crossing(
    t: Times, value: Values, lower: Values, upper: Values, threshold: float, above: bool
) -> Threshold:
    crossed = crossing(value, lower, upper, threshold, above, inclusive=True)
    early, likely, late = (
        None if step is None else iso(float(t[step]) / 1000) for step in passing(crossed)
    )
    return Threshold(
        threshold=threshold,
        above=above,
        probability=[round(p, 4) for p in crossed.tolist()],
        early_at=early,
        likely_at=likely,
        late_at=late,
    )


def _forecaster(row: dict[str, Any]) -> Forecaster:
    quality = row["quality"]
    return Forecaster(
        version=row["version"],
        trained_at=iso(row["trained_at"]),
        heaviest=quality.get("forecaster"),
        weights=quality.get("forecast_weights", {}),
        errors=quality.get("forecast_errors", {}),
        error=quality.get("forecast_error"),
        coverage=quality.get("forecast_coverage"),
        fell_back=quality.get("forecast_fell_back"),
    )


def _numbers(values: Values) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in values.tolist()]
