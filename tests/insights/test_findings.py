"""What the findings say, on real stores."""

import time

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.rules import Condition, Rule, Severity
from service.domain.series import MetricType, Series
from service.insights.finding import Finding, Kind
from service.query.selector import parse_selector
from service.settings import Settings
from service.storage.sql.engine import Database
from tests.insights.conftest import NOW, engine, findings
from tests.support.seed import Seed, ahead, times

RNG = np.random.default_rng(7)


def rule(query: str, threshold: float, condition: Condition = Condition.GT) -> Rule:
    return Rule(
        id="file:limit",
        tenant=None,
        name="Disk nearly full",
        query=parse_selector(query),
        condition=condition,
        threshold=threshold,
        severity=Severity.HIGH,
    )


def of_kind(found: list[Finding], kind: Kind) -> list[Finding]:
    return [f for f in found if f.kind is kind]


async def test_a_calm_tenant_has_nothing_to_tell(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    await seed.modelled(Series.of("plays"), t, np.full(len(t), 100.0), np.full(len(t), 100.0))
    assert await findings(seed, clock, settings) == []


async def test_what_too_little_is_known_of_is_shown_and_alarms_nobody(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, hours=1, step=60)
    plays, late = Series.of("play_starts"), t > NOW - 300
    said = (
        (plays, np.where(late, 10.0, 1000.0)),
        (plays.derived(":expected"), np.full(len(t), 1000.0)),
        (plays.derived(":anomaly_score"), np.where(late, 0.9995, 0.3)),
    )
    await seed.put_all([(series, t, v) for series, v in said])
    (found,) = await findings(seed, clock, settings)
    assert (found.kind, found.severity) == (Kind.UNUSUAL, Severity.LOW)
    assert found.text.endswith("; too little is known of it yet to alert anybody")
    assert found.evidence["model_state"] == "cold"
    assert found.evidence["confidence"] == pytest.approx(0.2, abs=0.01)


async def test_an_unusual_series_is_told_against_its_expectation_and_since_when(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    late = t > NOW - 840
    usual = np.full(len(t), 1000.0)
    plays = Series.of("play_starts", {"region": "eu-west"})
    await seed.modelled(plays, t, np.where(late, 690.0, usual), usual, unusual=late)
    (found,) = await findings(seed, clock, settings)
    assert found.kind is Kind.UNUSUAL
    assert found.title == "Play starts far below expectation"
    assert found.text == (
        "eu-west: 31 % under expectation for 10 minutes, 690 instead of 1,000".replace(
            "31 %", "31\u00a0%"
        ).replace("10 minutes", "10\u00a0minutes")
    )
    assert found.since == t[late][0]
    assert found.evidence["share"] == pytest.approx(-0.31)
    assert found.series == (plays.hex,)


async def test_the_label_value_that_holds_most_of_a_drop_explains_it(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    late = t > NOW - 1800
    total, whole = np.zeros(len(t)), Series.of("play_starts")
    for cdn in ("edge-1", "edge-2", "edge-7"):
        for platform in ("mobile", "web"):
            level = np.full(len(t), 100.0)
            hurt = cdn == "edge-7"
            v = np.where(late & hurt, 20.0, 100.0)
            part = Series.of("play_starts", {"cdn": cdn, "platform": platform})
            await seed.modelled(part, t, v, level, unusual=late & hurt)
            total += v
    await seed.modelled(whole, t, total, np.full(len(t), 600.0), unusual=late)
    (found,) = of_kind(await findings(seed, clock, settings), Kind.UNUSUAL)
    assert "cdn=edge-7 explains 100\u00a0% of the drop; mobile and web alike" in found.text
    assert found.series[0] == whole.hex


async def test_among_peers_the_one_that_deviates_is_named(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    late = t > NOW - 3600
    for host in ("a", "b", "c"):
        hurt = host == "b"
        level = np.full(len(t), 33.0)
        series = Series.of("cpu_utilization_percent", {"host": host})
        await seed.modelled(
            series, t, np.where(late & hurt, 99.0, 33.0), level, unusual=late & hurt
        )
    (found,) = of_kind(await findings(seed, clock, settings), Kind.UNUSUAL)
    assert "3 times expected" in found.text
    assert "only host=b; the other 2 are as expected" in found.text


async def test_what_moved_before_it_is_told_with_its_lead(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, step=60)
    late, earlier = t > NOW - 1200, t > NOW - 1320
    noise = RNG.normal(0, 1, len(t))
    level = np.full(len(t), 100.0)
    errors = Series.of("errors", {"region": "eu"})
    await seed.modelled(
        errors, t, np.where(late, 900.0, 100.0) + noise, level, unusual=late, width=5
    )
    buffer = Series.of("buffer_health", {"region": "eu"})
    await seed.modelled(buffer, t, np.where(earlier, 78.0, 100.0) + noise, level, width=5)
    other = Series.of("buffer_health", {"region": "us"})
    await seed.modelled(other, t, np.where(earlier, 50.0, 100.0) + noise, level, width=5)
    (found,) = of_kind(await findings(seed, clock, settings), Kind.UNUSUAL)
    assert "with it Buffer health\u00a0↓\u00a022\u00a0%, 2\u00a0minutes earlier" in found.text
    assert "9 times expected" in found.text


async def test_a_forecast_that_reaches_a_rules_limit_is_told_before_it_does(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, step=3600, hours=200)
    v = 60 + 0.1 * np.arange(len(t))
    disk = Series.of("disk_used_percent", {"host": "ingest-2"})
    f = ahead(NOW, 20, 3600)
    await seed.modelled(disk, t, v, v, width=0.5, forecast=(f, v[-1] + 1.0 * np.arange(1, 21)))
    found = await findings(seed, clock, settings, (rule("disk_used_percent", 90.0),))
    (coming,) = of_kind(found, Kind.AHEAD)
    assert coming.title == "Disk used (ingest-2) reaches 90\u00a0%"
    assert "in 11\u00a0hours (10 to 11\u00a0hours), over 99\u00a0% likely; the" in coming.text
    assert coming.severity is Severity.MEDIUM
    assert coming.evidence["probability"] > 0.99
    assert coming.evidence["early"] <= coming.evidence["at"] <= coming.evidence["late"]
    assert of_kind(await findings(seed, clock, settings), Kind.AHEAD) == []


async def test_what_is_used_up_within_a_day_is_told_without_a_rule(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, step=3600, hours=48)
    v = np.full(len(t), 80.0)
    f = ahead(NOW, 20, 3600)
    for name, slope in (("disk_used_percent", 1.5), ("cpu_usage_percent", 1.5)):
        await seed.modelled(
            Series.of(name), t, v, v, width=0.5, forecast=(f, 80 + slope * (f - NOW) / 3600)
        )
    (coming,) = of_kind(await findings(seed, clock, settings), Kind.AHEAD)
    assert coming.title == "Disk used reaches 100\u00a0%"
    assert coming.text.startswith("in 14\u00a0hours")
    assert "then there is no more; 80\u00a0% now" in coming.text
    assert coming.evidence["rule"] is None


async def test_a_series_that_stopped_is_silent(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW - 3600, step=60, hours=4)
    await seed.put(Series.of("queue_length", {"host": "a"}), t, np.ones(len(t)))
    (found,) = await findings(seed, clock, settings)
    assert found.title == "Queue length fell silent"
    assert found.text == "a: nothing for 1\u00a0hour; it used to report every 1\u00a0minute"


async def test_a_level_unlike_yesterday_and_last_week_has_changed(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, hours=24 * 8)
    v = np.where(t > NOW - 7 * 3600, 138.0, 100.0) + RNG.normal(0, 1, len(t))
    await seed.put(Series.of("listeners"), t, v)
    (found,) = await findings(seed, clock, settings)
    assert found.kind is Kind.CHANGED
    assert found.title == "Listeners up 38\u00a0% on yesterday"


async def test_a_rule_that_flaps_and_nobody_answers_is_noisy_with_a_way_out(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    for i in range(7):
        start = NOW - 3600 * (10 + i)
        lasted = 400.0 if i < 5 else 3000.0
        await seed.alert(
            "High error rate",
            None,
            episode=i + 1,
            state="resolved",
            started_at=start,
            fired_at=start + 300,
            resolved_at=start + lasted,
        )
    (found,) = await findings(seed, clock, settings)
    assert found.title == "Rule “High error rate” is noisy"
    assert "“for: 8m” would remove 71\u00a0% and delay the rest by 3\u00a0minutes" in found.text


async def test_models_that_failed_or_still_learn_are_told(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    series = await seed.put(Series.of("plays", {"cdn": "x"}), t, np.ones(len(t)))
    await seed.model(series, "failed", error="all values are equal")
    await seed.model(Series.of("new"), "cold", rows=120)
    found = await findings(seed, clock, settings)
    assert [f.kind for f in found] == [Kind.MODEL_FAILED, Kind.LEARNING]
    assert found[0].text == "Plays (x): all values are equal"
    assert "the longest of them has 120" in found[1].text


async def test_a_tenant_with_as_many_alerts_as_it_may_have_is_told(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    series = Series.of("errors")
    for i in range(2):
        await seed.alert(f"r{i}", series)
    settings = settings.model_copy(update={"active_alerts_max": 3})
    assert of_kind(await findings(seed, clock, settings), Kind.ALERTS_FULL) == []
    settings = settings.model_copy(update={"active_alerts_max": 2})
    (found,) = of_kind(await findings(seed, clock, settings), Kind.ALERTS_FULL)
    assert found.text.startswith("2 alerts are active and 2 may be")
    assert found.evidence == {"active": 2, "limit": 2}


async def test_another_tenants_series_are_not_looked_at(
    seed: Seed, clock: ManualClock, settings: Settings, redis: Redis, sqlite: Database
) -> None:
    other = Seed(redis, sqlite, NOW, "other")
    t = times(NOW)
    late = t > NOW - 1800
    usual = np.full(len(t), 10.0)
    await other.modelled(Series.of("secret"), t, np.where(late, 99, usual), usual, unusual=late)
    assert await findings(seed, clock, settings) == []


async def test_ids_stay_while_a_finding_is_about_the_same_thing(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    late = t > NOW - 1800
    usual = np.full(len(t), 10.0)
    await seed.modelled(Series.of("plays"), t, np.where(late, 99, usual), usual, unusual=late)
    first = await findings(seed, clock, settings)
    clock.set(NOW + 60)
    second = await findings(seed, clock, settings)
    assert [f.id for f in first] == [f.id for f in second]


async def test_a_hundred_series_take_a_moment_and_thousands_stay_bounded(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, hours=6, step=60)
    usual = np.full(len(t), 10.0)
    columns = []
    for i in range(2500):
        series = Series.of("plays", {"host": f"h{i:04d}"})
        hurt = i == 2400
        late = (t > NOW - 900) & hurt
        if i < 100 or hurt:
            await seed.modelled(series, t, np.where(late, 99, usual), usual, unusual=late)
        else:
            columns.append((series, t[-3:], usual[-3:]))
    await seed.put_all(columns)

    made = engine(seed, clock, settings)
    started = time.monotonic()
    looks = [await made.look("acme") for _ in range(2)]
    assert time.monotonic() - started < 5
    assert len(looks[1].watched) <= 240
    # The scan goes on where it stopped: within two looks every score was seen.
    assert [looks[1].known[i].tags["host"] for i in looks[1].runs] == ["h2400"]


async def test_what_was_off_long_before_did_not_move_with_it(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW, step=60, hours=6)
    late, long_ago = t > NOW - 1200, t > NOW - 2 * 3600
    noise = RNG.normal(0, 1, len(t))
    level = np.full(len(t), 100.0)
    errors = Series.of("errors", {"region": "eu"})
    await seed.modelled(errors, t, np.where(late, 900.0, 100.0) + noise, level, unusual=late)
    old = Series.of("queue", {"region": "eu"})
    await seed.modelled(old, t, np.where(long_ago, 300.0, 100.0) + noise, level)
    apart = Series.of("humidity", {"site": "bremen"})
    await seed.modelled(apart, t, np.where(late, 300.0, 100.0) + noise, level)
    (found,) = of_kind(await findings(seed, clock, settings), Kind.UNUSUAL)
    assert "with it" not in found.text


async def test_a_new_level_is_told_with_both_and_since_when(
    seed: Seed, clock: ManualClock, settings: Settings
) -> None:
    t = times(NOW)
    point = {"kind": "level", "from": 40.2, "to": 62.4, "strength": 31.0}
    old = {**point, "at": NOW - 30 * 86400}
    spread = {**point, "at": NOW - 3600, "kind": "spread"}
    for host, at in (("web-3", NOW - 2 * 86400), ("web-4", NOW - 30 * 86400)):
        series = Series.of("cpu_percent", {"host": host})
        await seed.put(series, t, np.where(t > at, 62.4, 40.2))
        points = [old, {**point, "at": at}, spread]
        await seed.model(series, "ready", quality={"change_points": points})
    plays = Series.of("plays_total", {}, MetricType.COUNTER)
    await seed.put(plays, t, np.cumsum(np.ones(len(t))))
    new = {**point, "at": NOW - 7200, "from": 300.0, "to": 120.0}
    await seed.model(plays, "ready", quality={"change_points": [new]})

    found = of_kind(await findings(seed, clock, settings), Kind.NEW_LEVEL)
    cpu = next(f for f in found if f.about == "cpu_percent")
    assert len(found) == 2
    assert cpu.title == "CPU at a higher level"
    assert cpu.text.replace("\u00a0", " ") == (
        "web-3: has run at 62.4 % instead of 40.2 % for 2 days; it is judged by the new level"
    )
    assert cpu.since == NOW - 2 * 86400
    assert cpu.evidence == {"from": 40.2, "to": 62.4, "since": cpu.since, "strength": 31.0}
    counted = next(f for f in found if f.about == "plays_total")
    assert "has run at 120 a second instead of 300 for 2\u00a0hours" in counted.text
    assert "a day after the change" in counted.text
