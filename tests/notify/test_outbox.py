"""Claims, leases and results, on both databases."""

import asyncio
from collections import Counter

import pytest
from sqlalchemy import select

from service.domain.clock import ManualClock
from service.domain.errors import Conflict, InvalidInput, NotFound
from service.domain.notifications import DeliveryState, NotificationKind
from service.notify.outbox import Outbox
from service.notify.rows import LANE_CLAIM, DeliveryFilter
from service.security.audit import page
from service.storage.sql.tables import alert_events
from tests.notify.conftest import Rows
from tests.support.notifications import notification

FIRING, RESOLVED = NotificationKind.FIRING, NotificationKind.RESOLVED


def many(count: int, tenant: str = "acme", channel: str = "slack") -> list:
    return [
        notification(FIRING, tenant=tenant, channel=channel, alert_id=f"{tenant}{i}")
        for i in range(count)
    ]


async def events(rows: Rows) -> list[tuple[str, dict]]:
    async with rows.database.read() as connection:
        found = await connection.execute(select(alert_events).order_by(alert_events.c.id))
        return [(row.kind, row.detail) for row in found]


async def test_a_claim_takes_what_is_due_once(rows: Rows, clock: ManualClock) -> None:
    item = notification(FIRING)
    await rows.add(item)
    [claim] = await rows.outbox.claim(10, 60, clock.now())
    assert claim.notification.id == item.id
    assert claim.notification.payload == item.payload
    assert await rows.outbox.claim(10, 60, clock.now()) == []
    assert await rows.outbox.mark_sent(claim)
    shown = await rows.outbox.get("acme", item.id)
    assert (shown.state, shown.attempts, shown.sent_at) == (DeliveryState.SENT, 1, clock.now())
    [(kind, detail)] = await events(rows)
    assert kind == "notified"
    assert detail["channel"] == "slack"
    assert detail["kind"] == "firing"
    assert (detail["step"], detail["attempt"]) == (0, 1)


async def test_a_lost_lease_is_sent_again_with_the_same_id(rows: Rows, clock: ManualClock) -> None:
    """The process died after its claim; and if it was only slow, it cannot overwrite."""
    await rows.add(notification(FIRING))
    [late] = await rows.outbox.claim(10, 60, clock.now())
    await clock.advance(59)
    assert await rows.outbox.claim(10, 60, clock.now()) == []
    assert await rows.outbox.next_due() == pytest.approx(late.lease_until)
    await clock.advance(2)
    [claim] = await rows.outbox.claim(10, 60, clock.now())
    assert claim.notification.id == late.notification.id
    assert not await rows.outbox.mark_sent(late)
    assert not await rows.outbox.mark_retry(late, clock.now(), "late")
    assert not await rows.outbox.mark_dead(late, "late")
    assert not await rows.outbox.mark_cancelled(late, "late")
    assert not await rows.outbox.release(late)
    assert await events(rows) == []
    assert await rows.outbox.mark_sent(claim)
    assert not await rows.outbox.mark_dead(late, "late")
    assert await rows.state(claim.notification.id) is DeliveryState.SENT
    assert len(await events(rows)) == 1


async def test_a_retry_waits_for_its_time(rows: Rows, clock: ManualClock) -> None:
    await rows.add(notification(FIRING))
    [claim] = await rows.outbox.claim(10, 60, clock.now())
    await rows.outbox.mark_retry(claim, clock.now() + 5, "e" * 5000)
    assert await rows.outbox.next_due() == pytest.approx(clock.now() + 5)
    assert await rows.outbox.claim(10, 60, clock.now()) == []
    await clock.advance(5)
    [claim] = await rows.outbox.claim(10, 60, clock.now())
    assert claim.notification.attempts == 1
    await rows.outbox.mark_dead(claim, "the receiver answered 404")
    shown = await rows.outbox.get("acme", claim.notification.id)
    assert (shown.state, shown.attempts) == (DeliveryState.DEAD, 2)
    assert shown.last_error == "the receiver answered 404"
    [(kind, detail)] = await events(rows)
    assert (kind, detail["reason"]) == ("suppressed", "the receiver answered 404")
    assert await rows.outbox.next_due() is None


async def test_releasing_burns_no_attempt(rows: Rows, clock: ManualClock) -> None:
    await rows.add(notification(FIRING))
    [claim] = await rows.outbox.claim(10, 60, clock.now())
    assert await rows.outbox.release(claim, due_at=clock.now() + 30, reason="held back")
    shown = await rows.outbox.get("acme", claim.notification.id)
    assert (shown.state, shown.attempts, shown.last_error) == ("retry", 0, "held back")
    assert shown.due_at == clock.now() + 30


async def test_postponing_moves_one_lane_only(rows: Rows, clock: ManualClock) -> None:
    await rows.add(*many(3), *many(2, "other"), *many(2, channel="email"))
    assert await rows.outbox.postpone("acme", "slack", clock.now() + 30, "rests") == 3
    claimed = await rows.outbox.claim(10, 60, clock.now())
    assert Counter(c.lane for c in claimed) == {("other", "slack"): 2, ("acme", "email"): 2}


async def test_a_long_queue_starves_no_other_lane(rows: Rows, clock: ManualClock) -> None:
    await rows.add(*many(200))
    await clock.advance(1)
    await rows.add(*many(1, "other"))
    claimed = await rows.outbox.claim(5, 60, clock.now())
    assert Counter(c.lane[0] for c in claimed) == {"acme": LANE_CLAIM, "other": 1}
    # Full lanes and rows in flight are left alone.
    await rows.add(*many(3, "third"))
    claimed = await rows.outbox.claim(
        10, 60, clock.now(), full=[("acme", "slack")], room=lambda _: 2
    )
    assert Counter(c.lane[0] for c in claimed) == {"third": 2}


async def test_resolved_waits_for_its_firing(rows: Rows, clock: ManualClock) -> None:
    await rows.add(notification(FIRING))
    await clock.advance(1)
    await rows.add(notification(RESOLVED), notification(RESOLVED, channel="email"))
    claimed = await rows.outbox.claim(10, 60, clock.now())
    assert [(c.notification.kind, c.lane[1]) for c in claimed if c.lane[1] == "slack"] == [
        (FIRING, "slack")
    ]
    assert len(claimed) == 2  # by mail nothing came before
    firing = next(c for c in claimed if c.notification.kind is FIRING)
    await rows.outbox.mark_retry(firing, clock.now() + 5, "500")
    assert await rows.outbox.claim(10, 60, clock.now()) == []
    await clock.advance(5)
    [firing] = await rows.outbox.claim(10, 60, clock.now())
    await rows.outbox.mark_sent(firing)
    [resolved] = await rows.outbox.claim(10, 60, clock.now())
    assert resolved.notification.kind is RESOLVED


async def test_two_dispatchers_never_claim_one_row_twice(rows: Rows, clock: ManualClock) -> None:
    items = [n for i in range(12) for n in many(5, f"t{i}")]
    await rows.add(*items)
    taken: Counter[str] = Counter()

    async def work(outbox: Outbox) -> None:
        while claims := await outbox.claim(7, 60, clock.now()):
            for claim in claims:
                taken[claim.notification.id] += 1
                await asyncio.sleep(0)
                assert await outbox.mark_sent(claim)

    await asyncio.gather(*(work(Outbox(rows.database, clock)) for _ in range(3)))
    assert taken == {item.id: 1 for item in items}


async def test_list_pages_and_filters_one_tenant(rows: Rows, clock: ManualClock) -> None:
    for item in many(5):
        await rows.add(item)
        await clock.advance(0.25)
    await rows.add(*many(3, "bulk"), *many(1, "other"))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        found, cursor = await rows.outbox.list("acme", cursor=cursor, limit=2)
        seen += [d.id for d in found]
        if cursor is None:
            break
    assert seen == [n.id for n in reversed(many(5))]
    # Rows of one moment are paged by id, none twice.
    first, cursor = await rows.outbox.list("bulk", limit=2)
    rest, end = await rows.outbox.list("bulk", cursor=cursor, limit=2)
    assert {d.id for d in first + rest} == {n.id for n in many(3, "bulk")}
    assert end is None
    found, _ = await rows.outbox.list("acme", DeliveryFilter(alert_id="acme3"))
    assert [d.alert_id for d in found] == ["acme3"]
    found, _ = await rows.outbox.list("acme", DeliveryFilter(state=DeliveryState.DEAD))
    assert found == []
    found, _ = await rows.outbox.list("acme", DeliveryFilter(alert_id="\x00"))
    assert found == []
    with pytest.raises(NotFound):
        await rows.outbox.get("acme", "\x00")
    for bad in ("", "1-\x00", "x", "1-", "-a", "9" * 30 + "-a", "١-a"):
        with pytest.raises(InvalidInput, match="cursor"):
            await rows.outbox.list("acme", cursor=bad)


async def test_replay_brings_back_the_dead_and_is_audited(rows: Rows, clock: ManualClock) -> None:
    item = notification(FIRING)
    await rows.add(item)
    [claim] = await rows.outbox.claim(10, 60, clock.now())
    with pytest.raises(Conflict, match="sending"):
        await rows.outbox.replay("acme", item.id, actor="operator:ann")
    await rows.outbox.mark_dead(claim, "404")
    with pytest.raises(NotFound):
        await rows.outbox.replay("other", item.id, actor="operator:ann")
    with pytest.raises(NotFound):
        await rows.outbox.replay("acme", "nope", actor="operator:ann")
    await clock.advance(100)
    shown = await rows.outbox.replay("acme", item.id, actor="operator:ann")
    assert (shown.state, shown.attempts, shown.due_at) == ("pending", 0, clock.now())
    [entry], _ = await page(rows.database, "acme")
    assert (entry.actor, entry.action, entry.subject) == (
        "operator:ann",
        "notification.replayed",
        item.id,
    )
    [again] = await rows.outbox.claim(10, 60, clock.now())
    assert again.notification.id == item.id
