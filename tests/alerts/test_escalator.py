"""Escalations come in time, never early, and never after an answer."""

import asyncio

import pytest
from sqlalchemy import insert

from service.alerts.acknowledge import acknowledge
from service.alerts.escalator import Escalator
from service.domain.alerts import AlertState, EventKind
from service.domain.errors import Conflict, NotFound
from service.domain.rules import EscalationPolicy, EscalationStep
from service.storage.sql.tables import alert_events, audit, outbox, timers
from tests.support.alerting import POLICY, START, TENANT, Bench


async def fire(bench: Bench) -> str:
    bench.policies = (POLICY,)
    (alert,) = await bench.judge()
    return alert.id


async def answer(bench: Bench, alert_id: str, actor: str = "responder:ann", note: str = "") -> None:
    await acknowledge(
        bench.database, TENANT, alert_id, actor=actor, now=bench.clock.now(), note=note
    )


async def test_each_step_at_its_time(bench: Bench) -> None:
    await fire(bench)
    assert await bench.escalator.next_due() == START + 300
    await bench.after(299.9)
    assert len(await bench.sent()) == 1
    await bench.after(0.1)
    assert (await bench.sent())[1:] == [("escalated", "email", "pending")]
    assert await bench.escalator.next_due() == START + 900
    await bench.after(600)
    assert (await bench.sent())[2:] == [("escalated", "webhook", "pending")]
    assert await bench.escalator.next_due() is None
    steps = {row.step: row.payload["step"] for row in await bench.rows(outbox)}
    assert steps == {0: 0, 2: 2, 3: 3}
    assert (await bench.timeline()) == ["fired", "escalated", "escalated"]


async def test_a_late_scheduler_catches_up(quick: Bench) -> None:
    await fire(quick)
    await quick.clock.advance(5000)
    assert await quick.escalator.run_due(quick.clock.now()) == 1
    assert await quick.escalator.run_due(quick.clock.now()) == 1
    assert await quick.escalator.run_due(quick.clock.now()) == 0
    assert [row.step for row in await quick.rows(outbox)] == [0, 2, 3]


async def test_editing_a_policy_changes_none_that_runs(quick: Bench) -> None:
    await fire(quick)
    quick.policies = (EscalationPolicy("default", (EscalationStep(1.0, ("nobody",)),)),)
    await quick.after(300)
    await quick.after(600)
    assert [channel for _, channel, _ in await quick.sent()] == ["slack", "email", "webhook"]


async def test_an_answer_stops_it_and_cancels_what_has_not_gone_out(bench: Bench) -> None:
    alert_id = await fire(bench)
    await bench.after(300)
    await bench.clock.advance(5)
    await answer(bench, alert_id, note="on it")
    assert await bench.sent() == [
        ("firing", "slack", "pending"),
        ("escalated", "email", "cancelled"),
    ]
    assert await bench.timer_kinds() == []
    await bench.after(3600)
    assert len(await bench.sent()) == 2
    alert = await bench.only()
    assert (alert.acknowledged_at, alert.acknowledged_by) == (START + 305, "responder:ann")
    events = await bench.store.events(TENANT, alert_id)
    assert (events[-1].kind, events[-1].actor) == (EventKind.ACKNOWLEDGED, "responder:ann")
    assert events[-1].detail == {"note": "on it"}
    (entry,) = await bench.rows(audit)
    assert (entry.action, entry.subject, entry.actor) == (
        "alert.acknowledged",
        alert_id,
        "responder:ann",
    )


async def test_the_first_answer_stands(bench: Bench) -> None:
    alert_id = await fire(bench)
    await answer(bench, alert_id)
    version = (await bench.only()).version
    await bench.clock.advance(60)
    await answer(bench, alert_id, actor="responder:bob")
    alert = await bench.only()
    assert (alert.acknowledged_by, alert.acknowledged_at) == ("responder:ann", START)
    assert alert.version == version
    assert len(await bench.rows(audit)) == 1


async def test_an_acknowledged_alert_still_resolves_and_says_so(quick: Bench) -> None:
    alert_id = await fire(quick)
    await answer(quick, alert_id)
    (resolved,) = await quick.after(60, active=False)
    assert resolved.acknowledged_by == "responder:ann"
    assert (await quick.sent())[-1] == ("resolved", "slack", "pending")


async def test_what_cannot_be_acknowledged(quick: Bench) -> None:
    alert_id = await fire(quick)
    with pytest.raises(NotFound):
        await acknowledge(quick.database, "other", alert_id, actor="x", now=START)
    with pytest.raises(NotFound):
        await answer(quick, "0" * 32)
    await quick.after(60, active=False)
    with pytest.raises(Conflict, match="resolved at 2023-11-14T22:14:20Z"):
        await answer(quick, alert_id)
    quick.use(id="r2", for_seconds=60.0)
    await quick.judge()
    with pytest.raises(Conflict, match="has not fired"):
        await answer(quick, (await quick.only()).id)


async def test_a_timer_that_cannot_be_read_stops_no_other(quick: Bench) -> None:
    await fire(quick)
    (alert,) = await quick.store.active(TENANT)
    async with quick.database.begin() as connection:
        await connection.execute(
            insert(timers).values(
                id="bad",
                tenant=TENANT,
                kind="escalate",
                alert_id=alert.id,
                due_at=START,
                payload={"no": "policy"},
            )
        )
    await quick.clock.advance(300)
    assert await quick.escalator.run_due(quick.clock.now()) == 1
    due = {row.id: row.due_at for row in await quick.rows(timers)}
    assert due["bad"] == START + 330


@pytest.mark.parametrize("round", range(3))
async def test_no_race_escalates_after_an_answer(bench: Bench, round: int) -> None:
    """Many answers against many escalators, all at once, for many alerts."""
    bench.policies = (POLICY,)
    regions = [f"r{i}" for i in range(6)]
    fired = await bench.judge(True, *regions)
    await bench.clock.advance(300)
    escalators = [Escalator(bench.database, bench.clock, bench.settings) for _ in range(3)]
    answered: dict[str, int] = {}

    async def take(alert_id: str) -> None:
        await answer(bench, alert_id)
        # What stands in the timeline at the moment that the answer is given.
        rows = await bench.rows(alert_events)
        answered[alert_id] = max(row.id for row in rows)

    await asyncio.gather(
        *(take(alert.id) for alert in fired for _ in range(2)),
        *(e.run_due(bench.clock.now()) for e in escalators for _ in range(2)),
    )
    await bench.clock.advance(3600)
    assert await bench.escalator.run_due(bench.clock.now()) == 0
    for row in await bench.rows(alert_events):
        assert row.kind != "escalated" or row.id <= answered[row.alert_id]
    order: dict[str, list[str]] = {}
    for row in sorted(await bench.rows(alert_events), key=lambda r: r.id):
        order.setdefault(row.alert_id, []).append(row.kind)
    for kinds in order.values():
        assert kinds in (
            ["fired", "acknowledged"],
            ["fired", "escalated", "acknowledged"],
        )
    escalated = [row for row in await bench.rows(outbox) if row.kind == "escalated"]
    assert {row.state for row in escalated} <= {"cancelled"}
    assert len({row.id for row in escalated}) == len(escalated)
    assert await bench.timer_kinds() == []
    assert await bench.states() == [AlertState.FIRING] * 6
