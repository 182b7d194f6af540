"""Everything that is known of a series' model, in one place for people who ask."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select

from service.detection.drift import covered
from service.detection.records import ModelRecord, ModelRecords, Version
from service.detection.standing import confidence_of
from service.domain.errors import NotFound
from service.domain.rules import Rule
from service.domain.series import DERIVED, EXPECTED_LOWER, EXPECTED_UPPER, Series
from service.query.matchers import matches
from service.query.source import Source
from service.storage.sql.engine import Database
from service.storage.sql.tables import alerts

_WEEK, _DAY = 7 * 86_400.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """A rule of the series that may fire so often a week, over all its series."""

    rule: str
    per_week: float


@dataclass(frozen=True, slots=True)
class Card:
    """A model, its versions, and how it did of late.

    `age` is seconds since its newest row, `coverage` the share of the last day's `points` in their
    expected range, `alerts` those of the last week about the series or what models say of it.
    """

    record: ModelRecord
    versions: list[Version]
    confidence: float
    age: float | None
    coverage: float | None
    points: int
    alerts: int
    budgets: list[Budget]


async def card_of(
    tenant: str,
    series: Series,
    records: ModelRecords,
    database: Database,
    source: Source,
    rules: Iterable[Rule],
    now: float,
) -> Card:
    """The card; NotFound before the first training."""
    record = await records.one(tenant, series.hex)
    if record is None or record.newest == 0:
        raise NotFound(f"series {series.hex} has no model yet")
    band = [series.derived(EXPECTED_LOWER).id, series.derived(EXPECTED_UPPER).id]
    now_ms = round(now * 1000)
    read = await source.read(tenant, [series.id, *band], now_ms - round(_DAY * 1000), now_ms)
    coverage, points = covered(*(read[i] for i in (series.id, *band)))
    own = [series.hex, *(series.derived(suffix).hex for suffix in DERIVED)]
    query = (
        select(func.count())
        .select_from(alerts)
        .where(alerts.c.tenant == tenant, alerts.c.source.in_(own))
        .where(alerts.c.fired_at >= now - _WEEK)
    )
    async with database.read() as connection:
        fired = (await connection.execute(query)).scalar_one()
    return Card(
        record=record,
        versions=await records.versions(tenant, series.hex),
        confidence=confidence_of(record),
        age=None if record.trained_to is None else max(0.0, now - record.trained_to),
        coverage=coverage,
        points=points,
        alerts=fired,
        budgets=[
            Budget(rule.name, rule.alert_budget)
            for rule in rules
            if rule.alert_budget is not None and matches(rule.query, series)
        ],
    )
