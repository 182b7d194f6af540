"""Workers on real stores: shares, restarts, scoring, judging."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.alerts import AlertState
from service.domain.clock import SystemClock
from service.domain.errors import ConfigurationError
from service.domain.rules import Rule
from service.domain.series import SCORE, Series
from service.rules.evaluator import Judgement
from service.settings import Settings
from service.storage.append import LogWriter
from service.storage.columns import Batch, Columns
from service.wiring import Wiring, prepare, wired
from service.worker import Worker, loops
from tests.support import whole

PLAYS = Series.of("plays", {"region": "eu"})
MINUTE = 60_000


@pytest.fixture
async def parts(settings: Settings, redis: Redis) -> AsyncIterator[Wiring]:
    fast = settings.model_copy(
        update={"worker_lease_seconds": 1.0, "alert_evaluation_interval": 0.2}
    )
    await prepare(fast)
    async with wired(fast) as made:
        await made.tenants.create("acme", "Acme", "test")
        yield made


@asynccontextmanager
async def working(parts: Wiring) -> AsyncIterator[Worker]:
    """A worker that runs until the end of the block."""
    stop = asyncio.Event()
    worker = Worker(parts)
    running = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def send(parts: Wiring, t: np.ndarray, v: np.ndarray) -> None:
    await parts.registry.register("acme", [PLAYS])
    log = LogWriter(parts.redis, parts.settings.log_shards, 1000)
    await log.append("acme", Batch(np.full(len(t), PLAYS.id, np.int64), t, v))


def minutes(count: int) -> np.ndarray:
    """The last `count` whole minutes, in milliseconds."""
    end = int(SystemClock().now() * 1000) // MINUTE * MINUTE
    return end - MINUTE * np.arange(count, dtype=np.int64)[::-1]


async def test_workers_share_the_shards_and_take_over_from_one_that_leaves(parts: Wiring) -> None:
    every = list(range(parts.settings.log_shards))
    async with working(parts) as first:
        await whole.until_true(lambda: first.shards == every)
        async with working(parts) as second:
            await whole.until_true(lambda: len(first.shards) == len(second.shards) == 2)
            assert sorted(first.shards + second.shards) == every
        await whole.until_true(lambda: first.shards == every)


async def test_a_restarted_worker_knows_what_the_last_one_stored(parts: Wiring) -> None:
    t = minutes(500)
    v = np.sin(np.arange(500.0))
    async with working(parts) as first:
        await send(parts, t[:400], v[:400])
        await whole.until_true(lambda: len(first.head.columns("acme", PLAYS.id).t) == 400)
    await send(parts, t[400:], v[400:])
    async with working(parts) as second:
        await whole.until_true(lambda: len(second.head.columns("acme", PLAYS.id).t) == 500)
        found = second.head.columns("acme", PLAYS.id)
        assert np.array_equal(found.t, t)
        assert np.array_equal(found.v, v)


async def test_what_came_while_no_worker_ran_is_scored_once_and_only_once(parts: Wiring) -> None:
    t = minutes(700)
    v = np.sin(np.arange(700) / 20) + np.random.default_rng(0).normal(0, 0.05, 700)
    v[690] = 9.0
    async with working(parts) as first:
        await send(parts, t[:600], v[:600])
        await whole.until_true(lambda: len(first.head.columns("acme", PLAYS.id).t) == 600)
    report = await parts.trainer.run(["acme"])
    assert report.trained == 1
    await asyncio.to_thread(parts.trainer.close)
    score = PLAYS.derived(SCORE)
    for begin, sent in ((600, 660), (660, 700)):
        await send(parts, t[begin:sent], v[begin:sent])
        async with working(parts) as worker:
            newest = int(t[sent - 1])

            def scored(worker: Worker = worker, newest: int = newest) -> bool:
                found = worker.head.columns("acme", score.id).t
                return len(found) > 0 and int(found[-1]) == newest

            await whole.until_true(scored)
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
    real = loops.evaluate

    def evaluate(rule: Rule, *args: Any, **kwargs: Any) -> list[Judgement]:
        if rule.name == "Broken":
            raise RuntimeError("this rule cannot be judged")
        return real(rule, *args, **kwargs)

    monkeypatch.setattr(loops, "evaluate", evaluate)
    async with working(parts):
        now = minutes(1)
        await send(parts, now, np.array([9.0]))
        await whole.until_true(lambda: parts.engine.open("acme"))
        assert parts.engine.open("acme")[0].state is AlertState.FIRING
        errors: dict[str, str] = {}

        async def told() -> bool:  # when all rules are judged, a moment after the alert
            errors.update(await parts.rule_health.errors("acme"))
            return bool(errors)

        await whole.until(told)
        assert list(errors.values()) == ["this rule cannot be judged"]
        await send(parts, now + 1000, np.array([1.0]))
        await whole.until_true(lambda: not parts.engine.open("acme"))
    history, _ = await parts.alerts.history("acme")
    assert [(a.rule_name, a.state) for a in history] == [("Many", AlertState.RESOLVED)]


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
        await send(parts, now, np.array([9.0]))
        await whole.until_true(lambda: parts.engine.held("acme"))
        assert active() == [first.rule.id]
        told: dict[str, str] = {}
        while not told:
            told = await parts.rule_health.errors("acme")
        assert told == {
            other.rule.id: "1 more series meet it and open no alert: the tenant has the 1 active "
            "alerts that it may have"
        }
        await send(parts, now + 1000, np.array([4.0]))
        await whole.until_true(lambda: active() == [other.rule.id])
        await whole.until_true(lambda: not parts.engine.held("acme"))


async def test_a_deleted_tenant_is_judged_no_more(parts: Wiring) -> None:
    rule = {"name": "Many", "query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    await parts.rules.create("acme", rule, "test")
    async with working(parts) as worker:
        await send(parts, minutes(1), np.array([9.0]))
        await whole.until_true(lambda: parts.engine.open("acme"))
        await parts.tenants.delete("acme", "test")
        await whole.until_true(lambda: "acme" not in worker.head.tenants())
        await send(parts, minutes(1) + 1000, np.array([10.0]))
        await asyncio.sleep(0.5)
        assert parts.engine.open("acme") == []
    assert await parts.alerts.history("acme") == ([], None)


async def test_data_laid_out_differently_is_not_touched(settings: Settings, redis: Redis) -> None:
    async with wired(settings) as parts:
        await parts.check_layout()
    async with wired(settings.model_copy(update={"log_shards": 8})) as parts:
        with pytest.raises(ConfigurationError, match=r"4 shards, .* LOG_SHARDS .* 8 shards"):
            await parts.check_layout()
