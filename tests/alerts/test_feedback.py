"""Verdicts on alerts, what they come to for rules, and what models leave out by them."""

from dataclasses import replace

import pytest

from service.alerts.acknowledge import acknowledge
from service.alerts.feedback import Feedback
from service.alerts.incidents import INCIDENT_SECONDS, Incidents
from service.domain.alerts import Alert
from service.domain.errors import Conflict, NotFound
from service.domain.feedback import HALF_LIFE_SECONDS, Verdict
from service.domain.rules import Condition, Rule
from service.storage.sql.tables import alert_feedback, audit
from tests.support.alerting import RULE, START, TENANT, Bench, series

EU, US = series("eu").hex, series("us").hex
NOISE, USEFUL, EXPECTED = Verdict.NOISE, Verdict.USEFUL, Verdict.EXPECTED


def feedback(bench: Bench) -> Feedback:
    return Feedback(bench.database, bench.clock)


def incidents(bench: Bench, *rules: Rule) -> Incidents:
    async def rules_of(tenant: str) -> list[Rule]:
        return list(rules) or [bench.rule]

    return Incidents(bench.database, bench.clock, rules_of)


async def fired(bench: Bench, *regions: str) -> list[Alert]:
    return await bench.judge(True, *regions)


async def over(bench: Bench, *regions: str) -> None:
    await bench.judge(False, *regions)


async def test_a_later_verdict_of_a_person_replaces_the_former(bench: Bench) -> None:
    (alert,) = await fired(bench)
    told = feedback(bench)
    await told.give(TENANT, alert.id, NOISE, actor="responder:ann", note="a deploy")
    await bench.clock.advance(10)
    await told.give(TENANT, alert.id, USEFUL, actor="responder:bob")
    await bench.clock.advance(10)
    _, given = await told.give(TENANT, alert.id, EXPECTED, actor="responder:ann")
    kept = await told.of_alert(TENANT, alert.id)
    assert (kept[0].verdict, kept[0].at) == (given.verdict, given.at)
    assert [(g.verdict, g.actor, g.note) for g in kept] == [
        (EXPECTED, "responder:ann", ""),
        (USEFUL, "responder:bob", ""),
    ]
    rows = [row for row in await bench.rows(audit) if row.action == "alert.feedback"]
    assert [row.detail["verdict"] for row in rows] == ["noise", "useful", "expected"]
    assert rows[0].detail == {"rule": RULE.name, "verdict": "noise", "note": "a deploy"}
    assert {row.subject for row in rows} == {alert.id}


async def test_who_has_no_such_alert(quick: Bench) -> None:
    (alert,) = await fired(quick)
    for tenant, id in (("other", alert.id), (TENANT, "0" * 32)):
        with pytest.raises(NotFound, match="there is no alert"):
            await feedback(quick).give(tenant, id, NOISE, actor="x")
    assert await feedback(quick).of_alert("other", alert.id) == []
    assert await quick.rows(alert_feedback) == []


async def test_a_pending_alert_has_told_nobody_anything(quick: Bench) -> None:
    quick.use(for_seconds=60.0)
    (alert,) = await fired(quick)
    with pytest.raises(Conflict, match="pending"):
        await feedback(quick).give(TENANT, alert.id, NOISE, actor="x")


async def test_an_alert_counts_once_by_its_newest_verdict(bench: Bench) -> None:
    eu, us = await fired(bench, "eu", "us")
    told = feedback(bench)
    for actor, verdict in (("ann", NOISE), ("bob", NOISE), ("cid", NOISE)):
        await bench.clock.advance(1)
        await told.give(TENANT, eu.id, verdict, actor=actor)
    await told.give(TENANT, us.id, USEFUL, actor="ann")
    found = await told.adjustments(TENANT)
    assert found.keys() == {RULE.id}
    assert found[RULE.id].keys() == {EU, US}
    assert found[RULE.id][EU].factor == pytest.approx(0.5, abs=1e-6)
    assert found[RULE.id][US].factor == pytest.approx(1.5, rel=1e-3)
    await over(bench, "eu", "us")
    (again,) = await fired(bench, "eu")
    await told.give(TENANT, again.id, NOISE, actor="ann")
    eu = (await told.adjustments(TENANT))[RULE.id][EU]
    assert eu.factor == pytest.approx(0.25, abs=1e-6)
    assert eu.reason == "2 × noise"
    assert await told.adjustments("other") == {}


async def test_a_worker_reads_when_it_is_told_to_or_a_minute_later(quick: Bench) -> None:
    (alert,) = await fired(quick)
    worker, api = feedback(quick), feedback(quick)

    async def factors() -> dict[str, float]:
        await worker.refresh(TENANT)
        return worker.factors(TENANT, RULE.id)

    assert worker.factors(TENANT, RULE.id) == await factors() == {}
    await api.give(TENANT, alert.id, NOISE, actor="ann")
    assert await factors() == {}
    worker.forget(TENANT)
    assert await factors() == {EU: 0.5}
    assert worker.factors(TENANT, "another") == worker.factors("other", RULE.id) == {}
    await quick.clock.advance(30)
    await api.give(TENANT, alert.id, USEFUL, actor="ann")
    assert await factors() == {EU: 0.5}
    await quick.clock.advance(31)
    assert await factors() == {EU: pytest.approx(1.5, rel=1e-3)}
    await quick.clock.advance(HALF_LIFE_SECONDS)
    assert await factors() == {EU: pytest.approx(1.5**0.5, rel=1e-3)}


async def left_out(bench: Bench, since: float = 0.0) -> dict[str, list[tuple[float, float]]]:
    found = await incidents(bench).left_out(TENANT, since, [])
    return {name: [(begin - START, end - START) for begin, end in t] for name, t in found.items()}


async def test_models_leave_out_what_somebody_took_for_an_incident(bench: Bench) -> None:
    eu, us = await fired(bench, "eu", "us")
    assert await left_out(bench) == {}
    await acknowledge(bench.database, TENANT, eu.id, actor="ann", now=START)
    await bench.clock.advance(600)
    assert await left_out(bench) == {EU: [(0, 600)]}  # it goes on
    await over(bench, "eu", "us")
    await bench.clock.advance(600)
    assert await left_out(bench) == {EU: [(0, 600)]}
    assert await left_out(bench, START + 601) == {}
    told = feedback(bench)
    await told.give(TENANT, us.id, USEFUL, actor="ann")  # nobody had acknowledged it
    assert await left_out(bench) == {EU: [(0, 600)], US: [(0, 600)]}
    await bench.clock.advance(1)
    await told.give(TENANT, us.id, NOISE, actor="bob")
    await told.give(TENANT, eu.id, EXPECTED, actor="ann")  # acknowledged, and ordinary after all
    assert await left_out(bench) == {}
    assert await incidents(bench).left_out("other", 0.0, []) == {}


async def test_an_incident_begins_when_the_condition_first_held(quick: Bench) -> None:
    quick.use(for_seconds=60.0)
    await fired(quick)
    assert await left_out(quick) == {}
    (alert,) = await quick.after(120)
    await acknowledge(quick.database, TENANT, alert.id, actor="ann", now=START + 120)
    assert await left_out(quick) == {EU: [(0, 120)]}


async def test_what_goes_on_for_a_week_is_the_new_normal(quick: Bench) -> None:
    (alert,) = await fired(quick)
    await acknowledge(quick.database, TENANT, alert.id, actor="ann", now=START)
    await quick.clock.advance(2 * INCIDENT_SECONDS)
    assert await left_out(quick) == {EU: [(0, INCIDENT_SECONDS)]}


async def test_alerts_about_a_forecast_say_nothing_against_their_time(quick: Bench) -> None:
    (alert,) = await fired(quick)
    await acknowledge(quick.database, TENANT, alert.id, actor="ann", now=START)
    ahead = replace(RULE, condition=Condition.FORECAST)
    assert await incidents(quick, ahead).left_out(TENANT, 0.0, []) == {}
    assert await incidents(quick, replace(ahead, id="r2")).left_out(TENANT, 0.0, []) != {}
