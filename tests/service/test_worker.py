"""Workers on real stores: shares, restarts, scoring, judging."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.alerts import AlertState
from service.domain.clock import SystemClock
from service.domain.errors import ConfigurationError
from service.domain.rules import Rule
from service.domain.series import FORECAST, FORECAST_LOWER, FORECAST_UPPER, SCORE, Series
from service.rules.evaluator import Judgement
from service.settings import Settings
from service.storage.columns import Columns
from service.wiring import Wiring, wired
from service.worker import Worker, judging
from tests.support.whole import record, until, until_true, working

PLAYS = Series.of("plays", {"region": "eu"})
MINUTE = 60_000


def minutes(count: int) -> np.ndarray:
    """The last `count` whole minutes, in milliseconds."""
    end = int(SystemClock().now() * 1000) // MINUTE * MINUTE
    return end - MINUTE * np.arange(count, dtype=np.int64)[::-1]


async def test_workers_share_the_shards_and_take_over_from_one_that_leaves(parts: Wiring) -> None:
    every = list(range(parts.settings.log_shards))
    async with working(parts) as first:
        await until_true(lambda: first.shards == every)
        async with working(parts) as second:
            await until_true(lambda: len(first.shards) == len(second.shards) == 2)
            assert sorted(first.shards + second.shards) == every
        await until_true(lambda: first.shards == every)


async def test_a_restarted_worker_knows_what_the_last_one_stored(parts: Wiring) -> None:
    t = minutes(500)
    v = np.sin(np.arange(500.0))
    async with working(parts) as first:
        await record(parts, PLAYS, t[:400], v[:400])
        await until_true(lambda: len(first.head.columns("acme", PLAYS.id).t) == 400)
    await record(parts, PLAYS, t[400:], v[400:])
    async with working(parts) as second:
        await until_true(lambda: len(second.head.columns("acme", PLAYS.id).t) == 500)
        found = second.head.columns("acme", PLAYS.id)
        assert np.array_equal(found.t, t)
        assert np.array_equal(found.v, v)


async def test_what_came_while_no_worker_ran_is_scored_once_and_only_once(parts: Wiring) -> None:
    t = minutes(700)
    v = np.sin(np.arange(700) / 20) + np.random.default_rng(0).normal(0, 0.05, 700)
    v[690] = 9.0
    async with working(parts) as first:
        await record(parts, PLAYS, t[:600], v[:600])
        await until_true(lambda: len(first.head.columns("acme", PLAYS.id).t) == 600)
    report = await parts.trainer.run(["acme"])
    assert report.trained == 1
    await asyncio.to_thread(parts.trainer.close)
    score = PLAYS.derived(SCORE)
    for begin, sent in ((600, 660), (660, 700)):
        await record(parts, PLAYS, t[begin:sent], v[begin:sent])
        async with working(parts) as worker:
            newest = int(t[sent - 1])

            def scored(worker: Worker = worker, newest: int = newest) -> bool:
                found = worker.head.columns("acme", score.id).t
                return len(found) > 0 and int(found[-1]) == newest

            await until_true(scored)
    stored = await _raw(parts, score)
    after = stored.t[stored.t > t[599]]
    assert np.array_equal(after, t[600:])
    spike = stored.v[stored.t == t[690]]
    assert spike[0] > 0.999


async def _raw(parts: Wiring, series: Series) -> Columns:
    """All records of a series' chunks, duplicates too."""
    raw = b""
    async for name in parts.redis.scan_iter(match=f"*:chunk:acme:{series.hex}:*"):
        raw += await parts.redis.get(name)
    points = np.sort(np.frombuffer(raw, [("t", "<i8"), ("v", "<f8")]), order="t")
    return Columns(points["t"], points["v"])


async def test_a_rule_fires_resolves_and_one_that_fails_stops_no_other(
    parts: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"name": "Many", "query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    await parts.rules.create("acme", good | {"name": "Broken", "threshold": 77}, "test")
    await parts.rules.create("acme", good, "test")
    real = judging.evaluate

    def evaluate(rule: Rule, *args: Any, **kwargs: Any) -> list[Judgement]:
        if rule.name == "Broken":
            raise RuntimeError("this rule cannot be judged")
        return real(rule, *args, **kwargs)

    monkeypatch.setattr(judging, "evaluate", evaluate)
    async with working(parts):
        now = minutes(1)
        await record(parts, PLAYS, now, np.array([9.0]))
        await until_true(lambda: parts.engine.open("acme"))
        assert parts.engine.open("acme")[0].state is AlertState.FIRING
        errors: dict[str, str] = {}

        async def told() -> bool:  # when all rules are judged, a moment after the alert
            errors.update(await parts.rule_health.errors("acme"))
            return bool(errors)

        await until(told)
        assert list(errors.values()) == ["this rule cannot be judged"]
        await record(parts, PLAYS, now + 1000, np.array([1.0]))
        await until_true(lambda: not parts.engine.open("acme"))
    history, _ = await parts.alerts.history("acme")
    assert [(a.rule_name, a.state) for a in history] == [("Many", AlertState.RESOLVED)]


async def test_a_sample_has_its_rules_judged_at_once(parts: Wiring) -> None:
    # Long before the next evaluation of all rules, which would come at the full interval.
    parts.settings.alert_evaluation_interval = 3600.0
    simple = {"query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    await parts.rules.create("acme", simple | {"name": "Many"}, "test")
    expr = {"expr": "sum(plays) > 5", "severity": "low"}
    await parts.rules.create("acme", expr | {"name": "All"}, "test")
    async with working(parts):
        now = minutes(1) - 5000
        for turn, value in enumerate((9.0, 1.0, 9.0)):
            await record(parts, PLAYS, now + 1000 * turn, np.array([value]))
            alerts = 2 if value > 5 else 0
            await until_true(lambda alerts=alerts: len(parts.engine.open("acme")) == alerts)


async def test_a_rule_that_costs_too_much_says_so_and_holds_nobody_up(parts: Wiring) -> None:
    dear = {"name": "Dear", "expr": "max_over_time(plays[30d:1s]) > 0", "severity": "low"}
    made = await parts.rules.create("acme", dear, "test")
    good = {"name": "Good", "query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    await parts.rules.create("acme", good, "test")
    async with working(parts):
        await record(parts, PLAYS, minutes(1), np.array([9.0]))
        await until_true(lambda: [a.rule_name for a in parts.engine.open("acme")] == ["Good"])
        told: dict[str, str] = {}
        while not told:
            told = await parts.rule_health.errors("acme")
        assert list(told) == [made.rule.id]
        assert "2,000,000 values are possible" in told[made.rule.id]


async def test_rules_that_find_no_time_come_first_the_next_time(
    parts: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.settings.alert_evaluation_interval = 0.4
    monkeypatch.setattr(judging, "_TURN_SECONDS", 0.0)  # a rule a turn
    plain = {"query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    for number in range(6):
        await parts.rules.create("acme", plain | {"name": f"Rule {number}"}, "test")
    real = judging.evaluate

    def slow(*args: Any, **kwargs: Any) -> list[Judgement]:
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass
        return real(*args, **kwargs)

    monkeypatch.setattr(judging, "evaluate", slow)
    async with working(parts):
        await record(parts, PLAYS, minutes(1), np.array([9.0]))
        await until_true(lambda: len(parts.engine.open("acme")) == 6)
        told: dict[str, str] = {}
        while not any("it waits for its turn" in why for why in told.values()):
            told = await parts.rule_health.errors("acme")


async def test_a_forecast_that_is_a_little_less_likely_ends_nothing(parts: Wiring) -> None:
    rule = {"query": "plays", "condition": "forecast", "threshold": 90, "severity": "low"}
    more = {"name": "Full", "probability": 0.8, "horizon": "1d"}
    made = await parts.rules.create("acme", rule | more, "test")
    now = minutes(1)
    ahead = now[0] + MINUTE * np.arange(60, 63)

    async def foretell(middle: float) -> None:
        for suffix, away in ((FORECAST_LOWER, -6.0), (FORECAST_UPPER, 6.0), (FORECAST, 0.0)):
            await record(parts, PLAYS.derived(suffix), ahead, np.full(3, middle + away))

    def expectations() -> list[str]:
        return [alert.expectation for alert in parts.engine.open("acme")]

    async with working(parts) as worker:
        await record(parts, PLAYS, now, np.array([70.0]))
        await foretell(95.0)
        await until_true(expectations)
        assert expectations()[0].startswith("reaches 90 in ")
        assert expectations()[0].endswith("(91 % likely)")
        told: dict[str, str] = {}
        while not told:
            told = await parts.rule_health.errors("acme")
        said = told[made.rule.id]
        assert said.startswith("1 series is seen less far than the rule looks: plays{region=")
        assert said.endswith(", not for 1d")
        await foretell(91.5)  # 78 % likely
        middle = PLAYS.derived(FORECAST).id
        await until_true(lambda: worker.head.columns("acme", middle).v[-1] == 91.5)
        other = await parts.rules.create(
            "acme", {**rule, "name": "Other", "probability": 0.6}, "test"
        )
        await parts.wake.publish("rules", "acme")
        await until_true(lambda: len(expectations()) == 2)  # it has been judged since
        rules = {alert.rule_id for alert in parts.engine.open("acme")}
        assert rules == {made.rule.id, other.rule.id}
        await foretell(84.0)
        await until_true(lambda: not expectations())


async def test_over_its_active_alerts_a_rule_says_so_and_has_its_turn_later(
    parts: Wiring,
) -> None:
    rule = {"query": "plays", "condition": "gt", "severity": "low"}
    first = await parts.rules.create("acme", rule | {"name": "First", "threshold": 5}, "test")
    other = await parts.rules.create("acme", rule | {"name": "Other", "threshold": 3}, "test")
    await parts.tenants.set_quota("acme", {"active_alerts": 1}, "test")

    def active() -> list[str]:
        return [alert.rule_id for alert in parts.engine.open("acme")]

    async with working(parts):
        now = minutes(1)
        await record(parts, PLAYS, now, np.array([9.0]))
        await until_true(lambda: parts.engine.held("acme"))
        assert active() == [first.rule.id]
        told: dict[str, str] = {}
        while not told:
            told = await parts.rule_health.errors("acme")
        assert told == {
            other.rule.id: "1 more series meet it and open no alert: the tenant has the 1 active "
            "alerts that it may have"
        }
        await record(parts, PLAYS, now + 1000, np.array([4.0]))
        await until_true(lambda: active() == [other.rule.id])
        await until_true(lambda: not parts.engine.held("acme"))


async def test_a_deleted_tenant_is_judged_no_more(parts: Wiring) -> None:
    rule = {"name": "Many", "query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    await parts.rules.create("acme", rule, "test")
    async with working(parts) as worker:
        await record(parts, PLAYS, minutes(1), np.array([9.0]))
        await until_true(lambda: parts.engine.open("acme"))
        await parts.tenants.delete("acme", "test")
        await until_true(lambda: "acme" not in worker.head.tenants())
        await record(parts, PLAYS, minutes(1) + 1000, np.array([10.0]))
        await asyncio.sleep(0.5)
        assert parts.engine.open("acme") == []
    assert await parts.alerts.history("acme") == ([], None)


async def test_data_laid_out_differently_is_not_touched(settings: Settings, redis: Redis) -> None:
    async with wired(settings) as parts:
        await parts.check_layout()
    async with wired(settings.model_copy(update={"log_shards": 8})) as parts:
        with pytest.raises(ConfigurationError, match=r"4 shards, .* LOG_SHARDS .* 8 shards"):
            await parts.check_layout()
