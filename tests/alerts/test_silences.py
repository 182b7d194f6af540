"""Silences on both databases: what they keep back, and what is told when they end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import insert, update

from service.alerts.acknowledge import acknowledge
from service.alerts.incidents import Incidents
from service.alerts.silences import ENDED_MAX, KEPT_SECONDS, Silences
from service.domain.alerts import AlertState
from service.domain.clock import iso
from service.domain.errors import Conflict, InvalidInput, NotFound, OverLimit, Unprocessable
from service.domain.rules import Condition, Rule
from service.domain.series import Matcher, MatchType
from service.domain.silences import NOT_LEARNED_SECONDS, Draft, Silence, SilenceState
from service.storage.sql.engine import Database
from service.storage.sql.tables import audit, outbox, silences, timers
from tests.support.alerting import POLICY, RULE, START, TENANT, Bench, series

EU, US = series("eu"), series("us")
ANN = "responder:ann"
REGION = Matcher("region", MatchType.EQUAL, "eu")


def draft(seconds: float = 600.0, *matchers: Matcher, at: float = START) -> Draft:
    return Draft(matchers or (REGION,), at + seconds, "a move")


def store(bench: Bench) -> Silences:
    return Silences(bench.database, bench.clock, 0.0)


async def silenced(bench: Bench, seconds: float = 600.0, *matchers: Matcher) -> Silence:
    wanted = draft(seconds, *matchers, at=bench.clock.now())
    return await store(bench).create(TENANT, wanted, ANN)


async def notified(bench: Bench) -> list[tuple[str, str]]:
    return [(kind, channel) for kind, channel, _ in await bench.sent()]


async def test_what_fires_is_kept_and_told_when_the_silence_ends(bench: Bench) -> None:
    bench.policies = (POLICY,)
    made = await silenced(bench)
    await bench.judge(True, "eu", "us")
    assert await bench.states() == [AlertState.FIRING] * 2
    assert await notified(bench) == [("firing", "slack")]  # of the other region
    kept = next(a for a in await bench.store.active(TENANT) if a.labels["region"] == "eu")
    event = (await bench.store.events(TENANT, kept.id))[-1]
    assert event.kind == "suppressed"
    assert event.detail == {
        "reason": "silenced",
        "silences": [made.id],
        "until": START + 600,
        "by": ANN,
        "comment": "a move",
    }
    await bench.after(599)
    assert ("escalated", "email") in await notified(bench)
    assert [k for k, _ in await notified(bench)].count("firing") == 1
    await bench.after(1)
    assert [k for k, _ in await notified(bench)].count("firing") == 2
    due = {row.alert_id: row.due_at for row in await bench.rows(timers)}
    assert due[kept.id] == START + 600 + 300  # its escalation begins then


async def test_what_is_over_before_was_never_told_nor_is_its_end(quick: Bench) -> None:
    await silenced(quick)
    await quick.judge()
    await quick.after(60, active=False)
    await quick.after(3600, active=False)
    assert await quick.sent() == []
    assert await quick.timer_kinds() == []


async def test_ending_one_early_tells_at_once_and_another_one_keeps_quiet(bench: Bench) -> None:
    first = await silenced(bench)
    await bench.judge()
    second = await silenced(bench, 900)
    await store(bench).expire(TENANT, first.id, ANN)
    await bench.after(0)
    assert await bench.sent() == []
    (timer,) = await bench.rows(timers)
    assert (timer.kind, timer.due_at) == ("silence", START + 900)
    await store(bench).expire(TENANT, second.id, ANN)
    await bench.after(0)
    assert await notified(bench) == [("firing", "slack")]
    alert = await bench.only()
    events = await bench.store.events(TENANT, alert.id)
    assert [e.detail["silences"] for e in events if e.kind == "suppressed"] == [
        [first.id],
        [second.id],
    ]


async def test_who_has_taken_it_is_told_nothing_more(quick: Bench) -> None:
    await silenced(quick)
    (alert,) = await quick.judge()
    await acknowledge(quick.database, TENANT, alert.id, actor=ANN, now=START)
    await quick.after(3600)
    assert await quick.sent() == []


async def test_an_escalation_pauses_and_goes_on_at_its_distances(bench: Bench) -> None:
    bench.policies = (POLICY,)
    await bench.judge()
    await bench.after(60)
    await silenced(bench, 1440)  # until 1500: both steps would have been due
    for _ in range(3):
        await bench.after(480)
        if bench.clock.now() < START + 1500:
            assert await notified(bench) == [("firing", "slack")]
    assert (await notified(bench))[1:] == [("escalated", "email")]
    await bench.after(599)
    assert len(await bench.sent()) == 2
    await bench.after(1)
    assert (await notified(bench))[2:] == [("escalated", "webhook")]


async def test_a_silence_that_begins_later_keeps_nothing_back_yet(quick: Bench) -> None:
    wanted = replace(draft(900), starts_at=START + 300)
    await store(quick).create(TENANT, wanted, ANN)
    await quick.judge()
    assert await notified(quick) == [("firing", "slack")]
    quick.use(id="r2")
    await quick.after(300)
    assert await notified(quick) == [("firing", "slack")]


async def test_a_message_that_waits_is_forgotten_when_nobody_needs_it(quick: Bench) -> None:
    """As the dispatcher leaves it that finds an alert silenced."""
    await quick.judge(True, "eu", "us")
    async with quick.database.begin() as connection:
        await connection.execute(update(outbox).values(state="silenced", due_at=START + 600))
    eu = next(a for a in await quick.store.active(TENANT) if a.labels["region"] == "eu")
    await acknowledge(quick.database, TENANT, eu.id, actor=ANN, now=START)
    assert sorted(s for _, _, s in await quick.sent()) == ["cancelled", "silenced"]
    await quick.judge(False, "eu", "us")
    assert await quick.sent() == [("firing", "slack", "cancelled")] * 2


async def test_a_summary_leaves_out_what_is_silenced_by_then(
    database: Database, make_bench: Callable[..., Bench]
) -> None:
    bench = make_bench(database, max_alerts_per_hour=1)
    bench.use(id="r0")
    await bench.judge(True, "us")
    bench.use(id="r1")
    await bench.judge(True, "eu", "us")  # both are over the limit
    await silenced(bench)
    await bench.clock.advance(300)
    await bench.escalator.run_due(bench.clock.now())
    rows = {(row.kind, row.state): row for row in await bench.rows(outbox)}
    assert rows["summary", "pending"].payload["count"] == 1
    assert rows["firing", "silenced"].due_at == START + 600
    assert len(rows) == 4
    await bench.judge(False, "eu", "us")
    assert ("firing", "slack", "cancelled") in await bench.sent()


async def test_silences_are_listed_by_state_and_belong_to_their_tenant(bench: Bench) -> None:
    kept = store(bench)
    ended = await silenced(bench, 60)
    await bench.clock.advance(60)
    active = await silenced(bench, 600)
    await bench.clock.advance(1)
    pending = await kept.create(TENANT, replace(draft(900), starts_at=START + 300), ANN)
    for state, one in (("expired", ended), ("active", active), ("pending", pending)):
        assert await kept.list(TENANT, SilenceState(state)) == ([one], None)
    page, cursor = await kept.list(TENANT, limit=2)
    assert page == [pending, active]
    assert await kept.list(TENANT, cursor=cursor) == ([ended], None)
    assert await kept.get(TENANT, active.id) == active
    assert await kept.list("other") == ([], None)
    for id, tenant in ((active.id, "other"), ("0" * 32, TENANT)):
        with pytest.raises(NotFound, match="there is no silence"):
            await kept.get(tenant, id)
        with pytest.raises(NotFound):
            await kept.update(tenant, id, draft(), ANN)
        with pytest.raises(NotFound):
            await kept.expire(tenant, id, ANN)
    with pytest.raises(InvalidInput, match="cursor"):
        await kept.list(TENANT, cursor="x")


async def test_changes_are_made_in_place_or_by_another_one(bench: Bench) -> None:
    kept = store(bench)
    made = await silenced(bench)
    await bench.clock.advance(10.0004)
    assert await kept.update(TENANT, made.id, draft(), ANN) == made  # nothing changes
    longer = await kept.update(TENANT, made.id, draft(900), "responder:bob")
    assert longer == replace(made, ends_at=START + 900, updated_at=START + 10)
    severe = Matcher("severity", MatchType.EQUAL, "high")
    other = await kept.update(TENANT, made.id, draft(900, severe), "responder:bob")
    assert (other.matchers, other.created_by) == ((severe,), "responder:bob")
    assert other.starts_at == (await kept.get(TENANT, made.id)).ends_at == START + 10
    with pytest.raises(Conflict, match="ended"):
        await kept.update(TENANT, made.id, draft(900), ANN)
    assert (await kept.expire(TENANT, made.id, ANN)).updated_at == START + 10
    later = await kept.create(TENANT, replace(draft(900), starts_at=START + 300), ANN)
    moved = replace(draft(1200, severe), starts_at=START + 600)
    after = await kept.update(TENANT, later.id, moved, ANN)
    assert (after.id, after.starts_at, after.matchers) == (later.id, START + 600, (severe,))
    gone = await kept.expire(TENANT, later.id, ANN)
    assert gone.starts_at == gone.ends_at == START + 10
    with pytest.raises(Unprocessable, match="missing"):
        await silenced(bench, 60, Matcher("a", MatchType.REGEX, "("))
    rows = [row for row in await bench.rows(audit) if row.action.startswith("silence.")]
    assert [(row.action, row.subject) for row in rows] == [
        ("silence.created", made.id),
        ("silence.updated", made.id),
        ("silence.expired", made.id),
        ("silence.created", other.id),
        ("silence.created", later.id),
        ("silence.updated", later.id),
        ("silence.expired", later.id),
    ]
    assert rows[0].detail["matchers"] == ['region="eu"']


async def test_what_was_read_can_be_sent_back(quick: Bench) -> None:
    kept = store(quick)
    for _ in range(5):
        await quick.clock.advance(61.0077)
        wanted = draft(60.2345, at=quick.clock.now())
        made = await kept.create(TENANT, wanted, ANN)
        times = [datetime.fromisoformat(iso(at)) for at in (made.starts_at, made.ends_at)]
        starts_at, ends_at = (moment.timestamp() for moment in times)
        again = replace(wanted, starts_at=starts_at, ends_at=ends_at)
        assert await kept.update(TENANT, made.id, again, ANN) == made
        assert await kept.get(TENANT, made.id) == made


async def test_there_are_only_so_many(quick: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.alerts.silences.LIVE_MAX", 2)
    monkeypatch.setattr("service.alerts.silences.ENDED_MAX", 3)
    assert ENDED_MAX > 1000
    first, _ = await silenced(quick, 60), await silenced(quick, 60)
    with pytest.raises(OverLimit, match="2 silences that have not ended"):
        await silenced(quick)
    for _ in range(4):
        await quick.clock.advance(61)
        await silenced(quick, 60)
    ids = [silence.id for silence in (await store(quick).list(TENANT))[0]]
    assert len(ids) == 4
    assert first.id not in ids
    await quick.clock.advance(KEPT_SECONDS + 61)
    await silenced(quick, 60)
    assert len((await store(quick).list(TENANT))[0]) == 1


async def test_one_that_cannot_be_read_silences_nothing(quick: Bench) -> None:
    row = {"tenant": TENANT, "starts_at": START - 1, "ends_at": START + 600, "comment": "x"}
    row |= {"created_by": ANN, "created_at": START, "updated_at": START}
    bad = [
        {**row, "id": "1" * 32, "kind": "odd", "matchers": [["region", "=", "eu"]]},
        {**row, "id": "2" * 32, "kind": "silence", "matchers": [["region", "~", "eu"]]},
        {**row, "id": "3" * 32, "kind": "silence", "matchers": [["region", "=~", "("]]},
    ]
    async with quick.database.begin() as connection:
        await connection.execute(insert(silences), bad)
    await quick.judge()
    assert await notified(quick) == [("firing", "slack")]
    assert await left_out(quick) == {}


async def left_out(bench: Bench, *rules: Rule, since: float = 0.0) -> dict[str, list[list[float]]]:
    async def rules_of(tenant: str) -> list[Rule]:
        return list(rules) or [bench.rule]

    incidents = Incidents(bench.database, bench.clock, rules_of)
    found = await incidents.left_out(TENANT, since, [EU, US])
    names = {EU.hex: "eu", US.hex: "us"}
    return {
        names[name]: [[begin - START, end - START] for begin, end in spans]
        for name, spans in found.items()
    }


async def test_models_leave_out_the_series_that_match(bench: Bench) -> None:
    made = await silenced(bench)
    await silenced(bench, 60, Matcher("__name__", MatchType.REGEX, "error_.*"))
    await store(bench).create(TENANT, replace(draft(9000), starts_at=START + 8000), ANN)
    assert await left_out(bench) == {"eu": [[0, 60], [0, 600]], "us": [[0, 60]]}
    await bench.clock.advance(100)
    await store(bench).expire(TENANT, made.id, ANN)
    assert await left_out(bench) == {"eu": [[0, 60], [0, 100]], "us": [[0, 60]]}
    assert await left_out(bench, since=START + 61) == {"eu": [[0, 100]]}
    assert await left_out(bench, since=START + 101) == {}


async def test_one_that_names_alerts_is_about_their_series(bench: Bench) -> None:
    named = Matcher("alertname", MatchType.EQUAL, RULE.name)
    await silenced(bench, 600, named)
    await silenced(bench, 300, Matcher("alertname", MatchType.NOT_EQUAL, "x"), named)
    assert await left_out(bench) == {}
    await bench.judge(True, "us")
    assert await left_out(bench) == {"us": [[0, 300], [0, 600]]}
    ahead = replace(RULE, condition=Condition.FORECAST)
    assert await left_out(bench, ahead) == {}
    await bench.clock.advance(700)
    await bench.judge(True, "eu")  # fires after the silences
    assert await left_out(bench) == {"us": [[0, 300], [0, 600]]}


async def test_a_label_of_the_rule_leads_to_the_series_of_its_alerts(quick: Bench) -> None:
    quick.use(labels={"team": "player"})
    await silenced(quick, 600, Matcher("team", MatchType.EQUAL, "player"))
    await quick.judge(True, "us")
    assert await left_out(quick) == {"us": [[0, 600]]}


async def test_of_a_silence_for_good_models_learn_in_the_end(quick: Bench) -> None:
    await silenced(quick, 300 * 86_400)
    assert await left_out(quick) == {"eu": [[0, NOT_LEARNED_SECONDS]]}
