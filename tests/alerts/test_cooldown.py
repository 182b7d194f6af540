"""A rule does not notify of the same series again too soon, and loses nothing by it."""

from service.alerts.acknowledge import acknowledge
from service.domain.alerts import AlertState
from service.storage.sql.tables import timers
from tests.support.alerting import POLICY, START, TENANT, Bench


async def flap(bench: Bench) -> None:
    """Fires, is over a minute later, fires again after another one."""
    bench.use(cooldown_seconds=900.0)
    await bench.judge()
    await bench.after(60, active=False)
    await bench.after(60)


async def test_it_is_quiet_until_the_cooldown_ends(bench: Bench) -> None:
    bench.policies = (POLICY,)
    await flap(bench)
    assert await bench.states() == [AlertState.FIRING]
    assert [kind for kind, _, _ in await bench.sent()] == ["firing", "resolved"]
    (timer,) = await bench.rows(timers)
    assert (timer.kind, timer.due_at) == ("cooldown", START + 900)
    events = await bench.store.events(TENANT, (await bench.only()).id)
    assert events[-1].detail["reason"] == "cooldown"


async def test_an_alert_that_still_fires_then_is_told_and_escalates_from_there(
    bench: Bench,
) -> None:
    bench.policies = (POLICY,)
    await flap(bench)
    await bench.after(779)
    assert len(await bench.sent()) == 2
    await bench.after(1)
    assert (await bench.sent())[2:] == [("firing", "slack", "pending")]
    (timer,) = await bench.rows(timers)
    assert (timer.kind, timer.due_at) == ("escalate", START + 1200)
    await bench.after(300)
    assert (await bench.sent())[3:] == [("escalated", "email", "pending")]


async def test_an_alert_that_is_over_before_is_never_told_nor_its_end(bench: Bench) -> None:
    await flap(bench)
    await bench.after(60, active=False)
    assert await bench.timer_kinds() == []
    await bench.after(3600, active=False)
    assert [kind for kind, _, _ in await bench.sent()] == ["firing", "resolved"]


async def test_one_that_somebody_has_taken_is_not_told(quick: Bench) -> None:
    await flap(quick)
    alert = await quick.only()
    await acknowledge(quick.database, TENANT, alert.id, actor="ann", now=quick.clock.now())
    await quick.after(3600)
    assert len(await quick.sent()) == 2


async def test_other_series_and_other_rules_have_their_own(quick: Bench) -> None:
    await flap(quick)
    await quick.judge(True, "eu", "us")
    quick.use(id="r2")
    await quick.judge(True, "eu")
    kinds = [kind for kind, _, _ in await quick.sent()]
    assert kinds.count("firing") == 3


async def test_after_the_cooldown_it_notifies_at_once(quick: Bench) -> None:
    quick.use(cooldown_seconds=100.0)
    await quick.judge()
    await quick.after(60, active=False)
    await quick.after(40)
    assert [kind for kind, _, _ in await quick.sent()] == ["firing", "resolved", "firing"]
