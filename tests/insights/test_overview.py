"""What the overview says in one sentence and shows at a glance."""

import numpy as np
import pytest
from redis.asyncio import Redis

from service.alerts.silences import Silences
from service.detection.progress import Board
from service.domain.clock import ManualClock
from service.domain.rules import Condition, Rule
from service.domain.series import Matcher, MatchType, Series, series_id
from service.domain.silences import Draft
from service.insights.overview import Overview, OverviewPage
from service.query.promql.budget import Limits
from service.query.promql.stored import Stored
from service.query.queries import Queries
from service.settings import Settings
from service.storage.sql.engine import Database
from tests.insights.conftest import NOW, engine
from tests.support.judging import rule_on
from tests.support.seed import BUCKET_MS, Seed, times


@pytest.fixture
def seed(redis: Redis, database: Database) -> Seed:
    """On both databases."""
    return Seed(redis, database, NOW)


def overview_of(
    seed: Seed, clock: ManualClock, settings: Settings, rules: tuple[Rule, ...] = ()
) -> Overview:
    """The overview of the tenant of `seed`, which has these rules."""
    stored = Stored(
        seed.source,
        clock,
        bucket_ms=BUCKET_MS,
        retention_ms=35 * 86_400_000,
        rollup_retention_ms=400 * 86_400_000,
    )
    return Overview(
        seed.source,
        seed.database,
        clock,
        settings,
        engine(seed, clock, settings, rules),
        Board(seed.redis),
        Queries(stored, Limits(), at_once=2, each=2),
    )


@pytest.fixture
def overview(seed: Seed, clock: ManualClock, settings: Settings) -> Overview:
    return overview_of(seed, clock, settings)


async def calm(seed: Seed, name: str, **tags: str) -> Series:
    t = times(NOW)
    level = np.full(len(t), 100.0)
    return await seed.modelled(Series.of(name, tags), t, level, level)


def why(page: OverviewPage) -> dict[str, str]:
    return {r.head: r.text.replace("\u00a0", " ") for r in page.alerts[0].why}


async def test_calm(overview: Overview, seed: Seed) -> None:
    for name in ("a", "b"):
        await calm(seed, name)
    page = await overview.for_tenant("acme")
    assert page.state.level == "good"
    assert page.state.text == "2\u00a0series are as expected."
    assert [t.note for t in page.tiles] == ["as expected", "as expected"]


async def test_an_acknowledged_alert_needs_nobody(overview: Overview, seed: Seed) -> None:
    series = await calm(seed, "plays", region="eu")
    alert = await seed.alert(
        "Low", series, acknowledged_at=NOW - 60, acknowledged_by="responder:Mira"
    )
    await seed.notified(alert, "slack", NOW - 780)
    await seed.timer(alert, NOW + 60, {"channels": ["sms"]})
    page = await overview.for_tenant("acme")
    assert page.state.lead == "1\u00a0alert is being looked after."
    assert page.state.text == "Acknowledged by Mira. Everything else is normal."
    assert why(page)["Who"] == (
        "slack was told 13 minutes ago; no further escalation, it is acknowledged"
    )


async def test_a_silenced_alert_needs_nobody_and_hides_none(
    overview: Overview, seed: Seed, clock: ManualClock
) -> None:
    eu, us = await calm(seed, "plays", region="eu"), await calm(seed, "plays", region="us")
    hushed = await seed.alert("Low", eu)
    await seed.notified(hushed, "slack", NOW - 780)
    silences = Silences(seed.database, clock, 0.0)
    region = Matcher("region", MatchType.EQUAL, "eu")
    made = await silences.create("acme", Draft((region,), NOW + 7200, "a move"), "responder:Mira")
    page = await overview.for_tenant("acme")
    assert page.state.lead == "1\u00a0alert is silenced."
    assert page.state.text.replace("\u00a0", " ") == (
        "By Mira, for another 2 hours. Everything else is normal."
    )
    assert why(page)["Who"] == (
        "slack was told 13 minutes ago; nobody is told for another 2 hours, it is silenced"
    )
    assert page.alerts[0].quiet is not None
    assert page.alerts[0].quiet.ids == [made.id]
    taken = await seed.alert("Odd", us, acknowledged_at=NOW, acknowledged_by="responder:Jon")
    page = await overview.for_tenant("acme")
    assert page.state.lead == "2\u00a0alerts are being looked after."
    assert page.state.text.replace("\u00a0", " ").startswith(
        "Acknowledged by Jon. 1 of them silenced by Mira, for another 2 hours."
    )
    needs = await seed.alert("Slow", us, severity="low")
    page = await overview.for_tenant("acme")
    assert page.state.lead == "1\u00a0alert needs you."
    assert [card.alert.id for card in page.alerts] == [needs, hushed, taken]


async def test_what_could_not_be_delivered_is_said_with_the_reason(
    overview: Overview, seed: Seed
) -> None:
    alert = await seed.alert("Low", await calm(seed, "plays"))
    await seed.notified(
        alert, "pager", NOW - 600, state="dead", sent_at=None, last_error="connection refused"
    )
    page = await overview.for_tenant("acme")
    assert why(page)["Who"] == "pager could not be reached: connection refused"
    assert "1\u00a0notification could not be delivered" in page.state.text
    (trouble,) = page.undelivered
    assert (trouble.channel, trouble.count, trouble.error) == ("pager", 1, "connection refused")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"state": "retry", "sent_at": None}, "slack is being told"),
        ({"state": "summarised", "sent_at": None}, "held back by the hourly limit"),
        ({"state": "cancelled", "sent_at": None}, "nobody was told"),
    ],
)
async def test_who_knows(
    overview: Overview, seed: Seed, more: dict[str, object], text: str
) -> None:
    alert = await seed.alert("Low", await calm(seed, "plays"))
    await seed.notified(alert, "slack", NOW - 60, **more)
    assert why(await overview.for_tenant("acme"))["Who"].startswith(text)


async def test_the_worst_unanswered_alert_comes_first(overview: Overview, seed: Seed) -> None:
    series = await calm(seed, "plays")
    taken = await seed.alert("a", series, acknowledged_at=NOW - 1, acknowledged_by="x")
    pending = await seed.alert("b", series, state="pending", fired_at=None)
    low = await seed.alert("c", series, severity="low")
    critical = await seed.alert("d", series)
    page = await overview.for_tenant("acme")
    assert [c.alert.id for c in page.alerts] == [critical, low, taken, pending]
    assert page.state.lead == "2\u00a0alerts need you."


async def test_an_alert_without_a_series_is_shown_all_the_same(
    overview: Overview, seed: Seed
) -> None:
    await calm(seed, "plays")
    await seed.alert("Something", None, source="")
    page = await overview.for_tenant("acme")
    assert page.alerts[0].chart is None
    assert page.state.text.startswith("Something, for 14\u00a0minutes.")


async def test_an_alert_of_an_expression_shows_what_is_compared(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)[-120:]
    for host in "ab":
        await seed.put(Series.of("load", {"job": "web", "host": host}), t, np.arange(len(t)))
    rule = rule_on("load", Condition.EXPR, id="r7", expr="sum by (job) (load) > 100")
    answer = Series(series_id((("job", "web"),)), (("job", "web"),))
    await seed.alert("Odd", answer, rule_id="r7", value=238.0, expectation="above 100")
    page = await overview_of(seed, clock, settings, (rule,)).for_tenant("acme")
    (card,) = page.alerts
    assert card.place == "web"
    assert (card.why[0].head, card.why[0].text) == ("What", "238, above 100")
    assert card.chart is not None
    assert card.chart.threshold == 100.0
    assert card.chart.v[-1] == 2.0 * (len(t) - 1)
    assert card.chart.title == "Odd (web)"


async def test_tiles_fill_whole_rows_and_keep_what_is_unusual(
    overview: Overview, seed: Seed
) -> None:
    for name in "abcdefg":
        await calm(seed, name)
    t = times(NOW)
    late, level = t > NOW - 1200, np.full(len(t), 100.0)
    await seed.modelled(Series.of("z"), t, np.where(late, 300, level), level, unusual=late)
    page = await overview.for_tenant("acme")
    assert [t.label for t in page.tiles] == ["A", "B", "C", "D", "Z"]
    assert [t.warn for t in page.tiles] == [False, False, False, False, True]
    assert page.tiles[-1].note == "×3, unusual"
    assert page.state.text == "1\u00a0series is unusual."
    assert page.counts.unusual == 1
