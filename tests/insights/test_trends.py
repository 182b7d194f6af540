"""Weeks ahead: which trends are told, of which series, from how much history."""

import numpy as np
import pytest

from service.domain.clock import ManualClock
from service.domain.errors import NotFound
from service.domain.rules import Condition, Rule, Severity
from service.domain.series import MetricType, Series
from service.insights import trends
from service.insights.finding import Finding, Kind
from service.insights.findings import Findings
from service.insights.trends import Trends, clear, trend_of
from service.query.selector import parse_selector
from service.settings import Settings
from service.storage.columns import Columns
from service.storage.rollups import aggregate
from tests.insights.conftest import NOW
from tests.support.seed import Seed, times

REVENUE = Series.of("revenue", {})
DAYS = 60
HOUR = 3600.0
WEEKLY = 0.021
LIMIT = Rule("r1", "acme", "Plan", parse_selector("revenue"), Condition.GTE, 1300.0, Severity.LOW)


def hourly(growth: float, days: int = DAYS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds until now, and values at 1,000 now that grow by a share a week."""
    t = times(NOW, days * 24, HOUR)
    rng = np.random.default_rng(seed)
    day = 0.2 * np.sin(t / 86_400 * 2 * np.pi)
    return t, 1200 * np.exp(growth * (t - NOW) / 604_800 + day + 0.02 * rng.normal(size=len(t)))


def told(t: np.ndarray, v: np.ndarray, **how: bool) -> trends.Trend | None:
    rows = aggregate(Columns(np.round(t * 1000).astype(np.int64), v), 3_600_000)
    return trend_of(rows, how.get("counter", False), 4, NOW)


def test_a_trend_is_clear_where_most_of_the_interval_leads_elsewhere() -> None:
    for growth, expected in ((WEEKLY, True), (-WEEKLY, True), (0.0, False), (0.002, False)):
        trend = told(*hourly(growth))
        assert trend is not None
        assert clear(trend) is expected
        assert trend.outlook.growth == pytest.approx(growth, abs=0.004)


def test_of_a_counter_it_is_the_increase_a_day() -> None:
    t, each = hourly(WEEKLY)
    total = np.cumsum(each)
    total[700:] -= total[699]  # it began anew
    trend = told(t, total, counter=True)
    assert trend is not None
    assert trend.outlook.growth == pytest.approx(WEEKLY, abs=0.004)
    assert trend.outlook.trend[-1] == pytest.approx(24 * each[-240:].mean(), rel=0.1)


def test_less_than_four_weeks_are_no_trend() -> None:
    assert told(*hourly(WEEKLY, 20)) is None
    assert told(*(each[:1] for each in hourly(WEEKLY))) is None
    assert told(times(NOW, 24 * 60, HOUR), np.full(24 * 60, np.nan)) is None
    freak = hourly(WEEKLY)
    freak[1][5] = np.inf
    assert told(*freak) is not None


def test_a_trend_by_the_week() -> None:
    t = NOW - 604_800 * np.arange(40, 0, -1.0)
    trend = told(t, 100 * np.exp(0.03 * np.arange(40)))
    assert trend is not None
    assert len(trend.outlook.t_ms) == 4
    assert clear(trend)


async def of(seed: Seed, clock: ManualClock, settings: Settings, *rules: Rule) -> list[Finding]:
    async def rules_of(tenant: str) -> tuple[Rule, ...]:
        return rules

    kept = Trends(seed.source, clock, settings.rollup_retention_seconds)
    found = Findings(seed.source, seed.database, clock, settings, rules_of, trends=kept)
    return [one for one in await found.for_tenant("acme") if one.kind is Kind.TREND]


async def test_a_clear_trend_says_how_fast_where_to_and_which_limit(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    await seed.put_all(
        [
            (REVENUE, *hourly(WEEKLY)),
            (Series.of("listeners"), *hourly(0.0)),
            (Series.of("young"), *hourly(0.1, 10)),
        ]
    )
    (found,) = await of(seed, clock, settings)
    assert found.title == "Revenue grows 2.1\u00a0% a week"
    assert found.severity is Severity.INFO
    assert found.text.startswith("for as long as is known, 9\u00a0weeks; 1,2")
    assert found.evidence["reaches"] is None
    assert found.evidence["lower"] < found.evidence["value"] < found.evidence["upper"]
    (found,) = await of(seed, clock, settings, LIMIT)
    assert found.severity is Severity.LOW
    assert "; reaches 1,300, the limit of “Plan”, in " in found.text
    assert "% likely within 4 weeks)" in found.text


async def test_a_trend_is_kept_for_a_day_and_a_few_are_new_at_a_time(
    seed: Seed, clock: ManualClock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [Series.of("revenue", {"shop": f"s{i}"}) for i in range(3)]
    await seed.put_all([(series, *hourly(WEEKLY, 30)) for series in many])
    kept = Trends(seed.source, clock, settings.rollup_retention_seconds)
    assert len(await kept.some("acme", many)) == trends.AT_ONCE
    first = await kept.of("acme", many[0])
    assert len(await kept.some("acme", many)) == 3
    assert await kept.of("acme", many[0]) is first
    assert (await kept.of("acme", many[0], 2)).outlook.t_ms[-1] < first.outlook.t_ms[-1]
    await clock.advance(trends.KEPT_SECONDS)
    assert await kept.of("acme", many[0]) is not first
    with pytest.raises(NotFound, match="28 whole days"):
        await kept.of("acme", Series.of("nothing", metric_type=MetricType.COUNTER))
    monkeypatch.setattr(trends, "_MEMORY", 1)
    await kept.of("acme", many[1], 3)
    assert len(kept._known) == 1
