"""From judgements to rows: alerts, notifications, timers and the timeline change together."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from service.alerts.engine import AlertEngine
from service.domain.alerts import AlertState
from service.domain.rules import Condition, EscalationPolicy, EscalationStep
from service.storage.sql.engine import Database
from service.storage.sql.tables import alerts, outbox, timers
from tests.support.alerting import POLICY, START, TENANT, Bench, judged, series


async def test_fires_at_once_and_notifies_each_channel_once(bench: Bench) -> None:
    bench.use(channels=("slack", "email"))
    bench.policies = (POLICY,)
    (alert,) = await bench.judge()
    assert (alert.state, alert.episode, alert.value) == (AlertState.FIRING, 1, 0.12)
    assert alert.labels == {
        "__name__": "error_rate",
        "region": "eu",
        "alertname": "High errors",
    }
    assert await bench.sent() == [("firing", "email", "pending"), ("firing", "slack", "pending")]
    assert await bench.timeline() == ["fired"]
    (timer,) = await bench.rows(timers)
    assert (timer.kind, timer.due_at, timer.payload["step"]) == ("escalate", START + 300, 2)
    assert timer.payload["channels"] == ["email"]
    assert await bench.only() == alert


async def test_the_payload_is_all_that_a_message_needs(quick: Bench) -> None:
    chart = {"t": [1, 2], "v": [0.1, 0.12]}
    (alert,) = await quick.engine.apply(
        TENANT, quick.rule, [judged(True)], quick.clock.now(), chart_of=lambda _: chart
    )
    (row,) = await quick.rows(outbox)
    assert row.payload == {
        "alert_id": alert.id,
        "tenant": TENANT,
        "rule_name": "High errors",
        "severity": "high",
        "state": "firing",
        "labels": alert.labels,
        "annotations": {},
        "value": 0.12,
        "expectation": "above 0.05",
        "started_at": START,
        "fired_at": START,
        "resolved_at": None,
        "fingerprint": series().hex,
        "episode": 1,
        "step": 0,
        "url": f"http://127.0.0.1:8000/dashboard/{TENANT}#alert-{alert.id}",
        "chart": chart,
    }


async def test_a_pending_alert_waits_then_fires_or_leaves_no_trace(bench: Bench) -> None:
    bench.use(for_seconds=60.0)
    await bench.judge()
    assert (await bench.only()).state is AlertState.PENDING
    assert await bench.sent() == []
    await bench.after(30, active=False)
    assert (await bench.states(), await bench.timeline()) == ([], [])
    await bench.after(15)
    await bench.after(59)
    assert await bench.states() == [AlertState.PENDING]
    await bench.after(1)
    alert = await bench.only()
    assert (alert.state, alert.started_at, alert.fired_at) == (
        AlertState.FIRING,
        START + 45,
        START + 105,
    )
    assert await bench.timeline() == ["pending", "fired"]


async def test_resolves_on_exactly_the_channels_that_were_told(bench: Bench) -> None:
    bench.policies = (POLICY,)
    await bench.judge()
    await bench.after(300)
    bench.use(channels=("another",))  # edited while it fires
    (resolved,) = await bench.after(60, active=False)
    assert (resolved.state, resolved.resolved_at) == (AlertState.RESOLVED, START + 360)
    assert await bench.sent() == [
        ("firing", "slack", "pending"),
        ("escalated", "email", "cancelled"),  # it had not gone out, and there is no need now
        ("resolved", "slack", "pending"),
    ]
    assert await bench.timer_kinds() == []
    assert (await bench.timeline())[-1] == "resolved"


async def test_whom_an_escalation_has_reached_is_told_of_the_end(bench: Bench) -> None:
    bench.policies = (POLICY,)
    await bench.judge()
    await bench.after(300)
    async with bench.database.begin() as connection:
        await connection.execute(text("UPDATE outbox SET state = 'sent' WHERE kind = 'escalated'"))
    await bench.after(60, active=False)
    assert (await bench.sent())[2:] == [
        ("resolved", "email", "pending"),
        ("resolved", "slack", "pending"),
    ]


async def test_nothing_asks_sql_while_nothing_changes(quick: Bench) -> None:
    await quick.judge()
    version = (await quick.only()).version
    for _ in range(5):
        assert await quick.after(15) == []
    assert (await quick.only()).version == version
    assert len(await quick.rows(outbox)) == 1


async def test_missing_data_resolves_nothing_until_the_series_has_ended(quick: Bench) -> None:
    await quick.judge()
    assert await quick.after(3599, active=None) == []
    assert await quick.states() == [AlertState.FIRING]
    (resolved,) = await quick.after(1, active=None)
    assert resolved.state is AlertState.RESOLVED
    events = await quick.store.events(TENANT, resolved.id)
    assert events[-1].detail == {"reason": "series ended"}
    told = {row.kind: row.payload.get("reason") for row in await quick.rows(outbox)}
    assert told == {"firing": None, "resolved": "series ended"}


async def test_a_series_that_the_head_does_not_know_is_missing_data(quick: Bench) -> None:
    await quick.judge()
    await quick.clock.advance(3599)
    assert await quick.apply([]) == []
    await quick.clock.advance(1)
    assert [alert.state for alert in await quick.apply([])] == [AlertState.RESOLVED]


async def test_a_restart_keeps_what_is_open_and_gives_silence_its_time_anew(bench: Bench) -> None:
    bench.use(for_seconds=60.0)
    await bench.judge(True, "eu")
    await bench.after(60)
    await bench.judge(True, "eu", "us")
    await bench.clock.advance(7200)
    bench.engine = bench.replica()
    assert await bench.engine.firing(TENANT) == {bench.rule.id: {series("eu").hex}}
    assert await bench.judge(None, "eu", "us") == []
    assert sorted(await bench.states()) == [AlertState.FIRING, AlertState.PENDING]
    (fired,) = await bench.judge(True, "eu", "us")
    assert fired.labels["region"] == "us"
    assert len(await bench.judge(False, "eu", "us")) == 2
    assert await bench.states() == []


async def test_the_next_time_is_the_next_episode(quick: Bench) -> None:
    for episode in (1, 2, 3):
        (alert,) = await quick.after(10)
        assert alert.episode == episode
        await quick.after(10, active=False)
    rows = await quick.rows(outbox)
    assert len({row.id for row in rows}) == len(rows) == 6


async def test_rules_that_are_gone_disabled_or_changed_end_their_alerts(quick: Bench) -> None:
    await quick.judge(True, "eu", "us")
    assert await quick.engine.retire(TENANT, {"r1"}, quick.clock.now()) == []
    ended = await quick.engine.retire(TENANT, {"r2"}, quick.clock.now())
    assert [alert.state for alert in ended] == [AlertState.RESOLVED] * 2
    assert [row.kind for row in await quick.rows(outbox)].count("resolved") == 2
    events = await quick.store.events(TENANT, ended[0].id)
    assert events[-1].detail == {"reason": "rule deleted"}

    await quick.judge(True, "eu")
    quick.use(enabled=False)
    (ended_one,) = await quick.apply([])
    events = await quick.store.events(TENANT, ended_one.id)
    assert events[-1].detail == {"reason": "rule disabled"}

    quick.use(enabled=True)
    await quick.judge(True, "eu")
    quick.use(query=replace(quick.rule.query, matchers=()))
    (ended_one,) = await quick.apply([])
    events = await quick.store.events(TENANT, ended_one.id)
    assert events[-1].detail == {"reason": "rule changed"}


async def test_a_pending_alert_of_a_rule_that_is_gone_leaves_no_trace(quick: Bench) -> None:
    quick.use(for_seconds=60.0)
    await quick.judge()
    assert await quick.engine.retire(TENANT, set(), quick.clock.now()) == []
    assert (await quick.rows(alerts), await quick.timeline()) == ([], [])


async def test_two_replicas_write_one_alert_and_one_notification(bench: Bench) -> None:
    bench.policies = (POLICY,)
    replicas = [bench.replica() for _ in range(4)]
    for replica in replicas:
        assert await bench.judge(False, engine=replica) == []  # each has read what is open
    await asyncio.gather(*(bench.judge(True, "eu", "us", engine=r) for r in replicas))
    assert len(await bench.rows(alerts)) == 2
    assert len(await bench.rows(outbox)) == 2
    assert len(await bench.rows(timers)) == 2
    assert await bench.timeline() == ["fired", "fired"]
    await asyncio.gather(*(bench.judge(False, "eu", "us", engine=r) for r in replicas))
    assert len(await bench.rows(alerts)) == 2
    assert [kind for kind, _, _ in await bench.sent()].count("resolved") == 2
    assert await bench.timer_kinds() == []


async def test_the_row_decides_when_memory_is_behind(quick: Bench) -> None:
    late = quick.replica()
    await quick.judge(False, engine=late)
    quick.use(for_seconds=60.0)
    await quick.judge()
    await quick.clock.advance(60)
    (fired,) = await quick.judge(engine=late)  # late knew of no pending alert
    assert fired.state is AlertState.FIRING
    assert await quick.judge() == []  # the first finds that it fires already
    assert len(await quick.rows(outbox)) == 1


async def test_an_alert_that_another_replica_left_behind_is_found(quick: Bench) -> None:
    late = quick.replica()
    await quick.judge(False, engine=late)
    await quick.judge()
    await quick.clock.advance(300)
    (resolved,) = await quick.judge(False, engine=late)
    assert resolved.state is AlertState.RESOLVED


async def test_without_channels_and_policy_the_tenants_own_are_used(
    sqlite: Database, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(sqlite)

    async def default(tenant: str) -> tuple[str, ...]:
        return ("webhook", "email")

    bench.use(channels=())
    bench.engine = AlertEngine(sqlite, bench.clock, bench.wake, bench.settings, default)
    await bench.judge()
    assert [channel for _, channel, _ in await bench.sent()] == ["email", "webhook"]


async def test_an_alert_that_can_tell_nobody_says_so(quick: Bench) -> None:
    quick.use(channels=())
    await quick.judge()
    assert await quick.timeline() == ["fired", "suppressed"]
    assert (await quick.only()).state is AlertState.FIRING


async def test_a_first_step_that_waits_is_an_escalation(quick: Bench) -> None:
    quick.use(channels=())
    quick.policies = (EscalationPolicy("default", (EscalationStep(60.0, ("email",)),)),)
    await quick.judge()
    assert await quick.sent() == []
    await quick.after(60)
    (row,) = await quick.rows(outbox)
    assert (row.kind, row.step, row.payload["step"]) == ("escalated", 1, 1)


async def test_one_transaction_or_nothing(quick: Bench) -> None:
    async with quick.database.begin() as connection:
        await connection.execute(text("ALTER TABLE alert_events RENAME TO elsewhere"))
    with pytest.raises(Exception, match="alert_events"):
        await quick.judge()
    async with quick.database.begin() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO alert_events"))
    assert (await quick.rows(alerts), await quick.rows(outbox)) == ([], [])
    await quick.judge()
    assert len(await quick.rows(outbox)) == 1


async def test_many_at_once_stay_together_and_in_bounds(
    sqlite: Database, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(sqlite, max_alerts_per_hour=10_000, active_alerts_max=250)
    regions = [f"r{i:04}" for i in range(300)]
    assert len(await bench.judge(True, *regions)) == 250
    assert len(await bench.rows(outbox)) == 250
    assert len(await bench.judge(False, *regions)) == 250
    assert len(await bench.judge(True, *regions[250:])) == 50


async def test_what_finds_no_room_is_told_and_begins_when_others_are_over(
    bench: Bench, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(bench.database, active_alerts_max=2)
    held = REGISTRY.get_sample_value("offbeat_alerts_held_total") or 0.0
    with capture_logs() as lines:
        assert len(await bench.judge(True, "a", "b", "c", "d", "e")) == 2
        bench.use(id="r2", name="Another")
        assert await bench.judge(True, "f") == []
    assert [(line["event"], line["held"]) for line in lines] == [("too many active alerts", 3)]
    assert REGISTRY.get_sample_value("offbeat_alerts_held_total") == held + 4
    text = "more series meet it and open no alert: the tenant has the 2 active alerts"
    assert {id: why.partition(" that")[0] for id, why in bench.engine.held(TENANT).items()} == {
        "r1": f"3 {text}",
        "r2": f"1 {text}",
    }
    await bench.engine.retire(TENANT, {"r1"}, bench.clock.now())
    assert list(bench.engine.held(TENANT)) == ["r1"]
    bench.use(id="r1", name="High errors")
    await bench.apply([judged(False, "a"), *(judged(True, r) for r in "bcde")])
    (begun,) = await bench.apply(judged(True, r) for r in "bcde")
    assert begun.labels["region"] == "c"
    await bench.apply(judged(False, r) for r in "bcde")
    assert bench.engine.held(TENANT) == {}


async def test_two_workers_together_open_no_more_than_the_tenant_may_have(
    bench: Bench, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(bench.database, active_alerts_max=3)
    engines = [bench.replica() for _ in range(2)]
    for engine in engines:
        await bench.judge(False, engine=engine)  # both have read that nothing is open
    regions = (("a", "b"), ("c", "d"))
    await asyncio.gather(
        *(bench.judge(True, *some, engine=e) for some, e in zip(regions, engines, strict=True))
    )
    assert len(await bench.rows(alerts)) == 3


async def test_no_value_is_no_number_in_json(bench: Bench) -> None:
    bench.use(condition=Condition.NO_DATA, threshold=None)
    silent = replace(judged(True), value=None, expectation="no data for 10m")
    await bench.apply([silent])
    (row,) = await bench.rows(outbox)
    assert (row.payload["value"], row.payload["expectation"]) == (None, "no data for 10m")


async def test_an_alert_has_the_annotations_that_its_series_was_given(bench: Bench) -> None:
    bench.use(annotations={"summary": "{{ $labels.region }} fails"})
    told = replace(judged(True), annotations={"summary": "eu fails"})
    await bench.apply([told])
    assert (await bench.only()).annotations == {"summary": "eu fails"}
