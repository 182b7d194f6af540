"""The model of a series: its card, going back to a version before, forgetting it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from models.features import FEATURES
from models.members import LABELS
from service.api.analytics_models import SeriesId
from service.api.deps import allow, tenant_of, wiring
from service.api.reading import series_number
from service.detection.card import Budget, Card, card_of
from service.detection.records import Version
from service.domain.budgets import format_budget
from service.domain.clock import iso
from service.domain.series import Series
from service.domain.tenants import Permission, Principal
from service.security import audit
from service.wiring import Wiring

router = APIRouter(tags=["analytics"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Operator = Annotated[Principal, Depends(allow(Permission.CONFIGURE))]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GateSaid(_Answer):
    """Whether a training's model was taken into use, and why."""

    decision: str = Field(description="`first`, `taken` or `kept`: the version before stayed")
    why: str
    refusals: int = Field(description="how many trainings in a row were not taken")
    figures: dict[str, float | None]


class VersionKept(_Answer):
    """A version of the model. `seconds` is CPU time of its training."""

    version: int
    current: bool
    trained_at: str | None
    trained_from: str | None
    trained_to: str | None
    rows: int
    seconds: float
    coverage: float | None = Field(description="share of held-out values in their expected range")
    forecaster: str | None = Field(description="the heaviest member of the forecast")
    forecast_error: float | None = Field(description="mean absolute error, out of sample")
    forecast_coverage: float | None
    refused: str | None = Field(description="why it is not used: changed on disk, or not ours")


class BudgetOf(_Answer):
    """A rule of this series with a budget of alerts, which all of its series share."""

    rule: str
    budget: str = Field(examples=["2/week"])


class ModelCard(_Answer):
    """What is known of the model of a series, and of those before it, the newest first."""

    series: SeriesId
    state: str
    version: int = Field(description="the one in use; 0 is none")
    pinned: bool = Field(description="no training replaces it")
    versions: list[VersionKept]
    last_training: str | None
    age_seconds: float | None = Field(description="since the newest row that it knows")
    members: list[str]
    features: list[str]
    forecast_weights: dict[str, float]
    forecast_errors: dict[str, float]
    change_points: list[dict[str, Any]]
    quality: dict[str, Any]
    confidence: float
    drift: float | None = Field(
        description="0 fits as it did when it was trained, 1 not at all; null if not known yet"
    )
    lately: dict[str, float | None] = Field(
        description="of the last day: `coverage` and `points`, those judged"
    )
    alerts_last_week: int
    budgets: list[BudgetOf]
    gate: GateSaid | None
    failures: int = Field(description="trainings in a row that failed")
    error: str | None


class Rollback(BaseModel):
    """To which version; pinned, until another rollback says otherwise or the model is deleted."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, le=2**31 - 1, strict=True)
    pin: bool = False


@router.get("/analytics/series/{series_id}/model", summary="Show the card of a series' model")
async def card(request: Request, principal: Reader, series_id: str) -> ModelCard:
    """Versions, what each was trained on and how good it is, drift, alerts against budgets, what
    the last training came to. 404 if there is no model yet."""
    parts, tenant = wiring(request), tenant_of(principal)
    series = await _series(parts, tenant, series_id)
    return await _card(parts, tenant, series)


@router.post(
    "/analytics/series/{series_id}/model/rollback", summary="Use a version of before again"
)
async def rollback(
    request: Request, principal: Operator, series_id: str, body: Rollback
) -> ModelCard:
    """Workers use it within seconds. It holds until a training makes a model that does no worse;
    pinned, until another rollback or the model is deleted. 404 for a version that is not kept,
    409 for one that cannot be trusted."""
    parts, tenant = wiring(request), tenant_of(principal)
    series = await _series(parts, tenant, series_id)
    now = parts.clock.now()
    async with parts.database.begin() as connection:
        before = await parts.model_records.roll_back(
            connection, tenant, series.hex, body.version, pin=body.pin, now=now
        )
        await _note(
            parts,
            connection,
            principal,
            series,
            "model.rolled_back",
            {
                "version": body.version,
                "before": before,
                "pin": body.pin,
            },
        )
    await parts.wake.publish("models", f"{tenant}/{series.hex}")
    return await _card(parts, tenant, series)


@router.delete(
    "/analytics/series/{series_id}/model", status_code=204, summary="Forget a series' model"
)
async def forget(request: Request, principal: Operator, series_id: str) -> None:
    """With all its versions; the series is trained anew. What was said of its past stays."""
    parts, tenant = wiring(request), tenant_of(principal)
    series = await _series(parts, tenant, series_id)
    async with parts.database.begin() as connection:
        before = await parts.model_records.forget(connection, tenant, series.hex, parts.clock.now())
        await _note(parts, connection, principal, series, "model.deleted", {"before": before})
    await parts.wake.publish("models", f"{tenant}/{series.hex}")


async def _series(parts: Wiring, tenant: str, series_id: str) -> Series:
    found = await parts.source.get(tenant, series_number(series_id))
    return found.base


async def _note(
    parts: Wiring,
    connection: AsyncConnection,
    principal: Principal,
    series: Series,
    action: str,
    detail: Mapping[str, Any],
) -> None:
    await audit.record(
        connection,
        tenant=tenant_of(principal),
        actor=principal.actor,
        action=action,
        subject=series.hex,
        detail={"series": str(series)[:1000], **detail},
        at=parts.clock.now(),
    )


async def _card(parts: Wiring, tenant: str, series: Series) -> ModelCard:
    await parts.rules_file.reload_if_changed()
    rules = await parts.rules.all_for(tenant, parts.rules_file.book)
    found = await card_of(
        tenant, series, parts.model_records, parts.database, parts.source, rules, parts.clock.now()
    )
    return _shown(found)


def _shown(found: Card) -> ModelCard:
    record, quality = found.record, found.record.quality
    known = ("change_points", "members", "forecast_errors", "forecast_weights", "gate", "failures")
    gate = quality.get("gate")
    return ModelCard(
        series=record.series_id,
        state=str(record.state),
        version=record.version,
        pinned=record.pinned,
        versions=[_version(one, record.version) for one in found.versions],
        last_training=iso(record.trained_at),
        age_seconds=found.age,
        members=list(quality.get("members", LABELS)),
        features=list(FEATURES),
        forecast_weights=quality.get("forecast_weights", {}),
        forecast_errors=quality.get("forecast_errors", {}),
        change_points=quality.get("change_points", []),
        quality={name: value for name, value in quality.items() if name not in known},
        confidence=round(found.confidence, 3),
        drift=record.drift,
        lately={"coverage": found.coverage, "points": found.points},
        alerts_last_week=found.alerts,
        budgets=[_budget(one) for one in found.budgets],
        gate=GateSaid(**gate) if gate else None,
        failures=int(quality.get("failures", 0)),
        error=record.error,
    )


def _version(one: Version, current: int) -> VersionKept:
    return VersionKept(
        version=one.version,
        current=one.version == current,
        trained_at=iso(one.trained_at),
        trained_from=iso(one.trained_from),
        trained_to=iso(one.trained_to),
        rows=one.rows,
        seconds=one.seconds,
        coverage=one.quality.get("coverage"),
        forecaster=one.quality.get("forecaster"),
        forecast_error=one.quality.get("forecast_error"),
        forecast_coverage=one.quality.get("forecast_coverage"),
        refused=one.refused,
    )


def _budget(one: Budget) -> BudgetOf:
    return BudgetOf(rule=one.rule, budget=format_budget(one.per_week))
