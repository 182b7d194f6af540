"""The whole way from a row to a receiver, on both databases."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from service import telemetry
from service.domain.clock import ManualClock
from service.domain.notifications import NotificationKind
from service.notify.dispatcher import Dispatcher, Limits
from service.notify.messages import compose
from service.notify.outbox import Outbox
from service.notify.store import ChannelStore
from service.storage.wake import WakeUps
from tests.notify.conftest import Rows
from tests.support.notifications import notification
from tests.support.receivers import HANG, HttpReceiver, free_port, http_receiver

FIRING, RESOLVED = NotificationKind.FIRING, NotificationKind.RESOLVED
ESCALATED = NotificationKind.ESCALATED


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as found:
        yield found


@pytest.fixture
async def ready(rows: Rows, channels: ChannelStore, receiver: HttpReceiver) -> Dispatcher:
    """A dispatcher for acme, whose `slack` is the receiver and whose alert a1 fires."""
    await channels.put("acme", "slack", slack(receiver.url), actor="test")
    await rows.alert()
    return Dispatcher(rows.outbox, channels, rows.clock, public_url="https://offbeat.example")


def slack(url: str) -> dict[str, str]:
    return {"type": "slack", "webhook_url": url}


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_what_waits_is_counted(ready: Dispatcher, rows: Rows, receiver: HttpReceiver) -> None:
    receiver.answer(HANG)
    telemetry.OUTBOX_PENDING.set(-1)
    await rows.add(notification(FIRING), notification(RESOLVED))
    stop = asyncio.Event()
    running = asyncio.create_task(ready.run(stop))
    try:
        await until(lambda: telemetry.OUTBOX_PENDING._value.get() >= 0)
        assert telemetry.OUTBOX_PENDING._value.get() == await rows.outbox.waiting() > 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_row_is_sent_once(ready: Dispatcher, rows: Rows, receiver: HttpReceiver) -> None:
    item = notification(FIRING)
    await rows.add(item)
    assert await ready.drain() == 1
    assert await ready.drain() == 0
    assert len(receiver.received) == 1
    shown = await rows.outbox.get("acme", item.id)
    assert (shown.state, shown.attempts, shown.last_error) == ("sent", 1, None)


async def test_a_channel_that_is_not_configured_is_dead_at_once(
    ready: Dispatcher, rows: Rows
) -> None:
    item = notification(FIRING, channel="pager")
    await rows.add(item)
    await ready.drain()
    shown = await rows.outbox.get("acme", item.id)
    assert shown.state == "dead"
    assert shown.last_error == "channel 'pager' is not configured for tenant acme"


async def test_failures_are_retried_on_schedule_until_it_works(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, clock: ManualClock
) -> None:
    receiver.answer(500, 503, 200)
    item = notification(FIRING)
    await rows.add(item)
    for delay in (5, 10):
        await ready.drain()
        shown = await rows.outbox.get("acme", item.id)
        assert shown.state == "retry"
        assert "the receiver answered 50" in (shown.last_error or "")
        assert shown.due_at == clock.now() + delay
        await clock.advance(delay)
    await ready.drain()
    shown = await rows.outbox.get("acme", item.id)
    assert (shown.state, shown.attempts) == ("sent", 3)


async def test_a_refusal_is_final(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, clock: ManualClock
) -> None:
    receiver.answer(404, 200)
    item = notification(FIRING)
    await rows.add(item)
    await ready.drain()
    await clock.advance(1e6)
    await ready.drain()
    assert len(receiver.received) == 1
    assert await rows.state(item.id) == "dead"
    await rows.outbox.replay("acme", item.id, actor="test")
    await ready.drain()
    assert await rows.state(item.id) == "sent"


async def test_the_receiver_may_ask_for_patience(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, clock: ManualClock
) -> None:
    receiver.answer(429, headers={"Retry-After": "90"})
    item = notification(FIRING)
    await rows.add(item)
    await ready.drain()
    assert (await rows.outbox.get("acme", item.id)).due_at == clock.now() + 90


async def test_an_acknowledged_alert_is_not_escalated(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, clock: ManualClock
) -> None:
    item = notification(ESCALATED)
    await rows.add(item)
    await rows.change(acknowledged_at=clock.now())
    await ready.drain()
    assert receiver.received == []
    shown = await rows.outbox.get("acme", item.id)
    assert (shown.state, shown.attempts) == ("cancelled", 0)
    assert "acknowledged" in (shown.last_error or "")


async def test_firing_comes_before_resolved_however_often_it_fails(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, clock: ManualClock
) -> None:
    receiver.answer(500, 500, 200)
    await rows.add(notification(FIRING))
    await clock.advance(1)
    await rows.change(resolved_at=clock.now())
    await rows.add(notification(RESOLVED))
    for _ in range(20):
        await ready.drain()
        await clock.advance(1)
    said = [r.json["text"] for r in receiver.received]
    assert [("resolved" in text) for text in said] == [False, False, False, True]


async def test_a_dead_channel_rests_and_wakes_with_a_probe(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, clock: ManualClock
) -> None:
    receiver.answer(500)
    items = [notification(FIRING, alert_id=f"b{i}") for i in range(20)]
    for item in items:
        await rows.alert(item.alert_id or "")
    await rows.add(*items)
    await ready.drain()
    # At most one over five: four were under way when the first failed.
    assert 5 <= len(receiver.received) <= 8
    held, _ = await rows.outbox.list("acme")
    assert {d.state for d in held} == {"retry"}
    untried = [d for d in held if d.attempts == 0]
    assert len(untried) >= 12
    assert all("held back" in (d.last_error or "") for d in untried)
    # A new one waits too, untried.
    late = notification(FIRING, alert_id="a1")
    await rows.add(late)
    await ready.drain()
    assert (await rows.outbox.get("acme", late.id)).attempts == 0
    before = len(receiver.received)
    await clock.advance(30)
    await ready.drain()
    assert len(receiver.received) == before + 1  # one probe
    receiver.answer(200)
    await clock.advance(3600)
    await ready.drain()
    done, _ = await rows.outbox.list("acme")
    assert {d.state for d in done} == {"sent"}
    assert Counter(r.json["text"] for r in receiver.received).total() == len(receiver.received)


async def test_a_black_hole_delays_nobody_else(
    rows: Rows, channels: ChannelStore, receiver: HttpReceiver, clock: ManualClock
) -> None:
    async with http_receiver() as hole:
        hole.answer(HANG)
        await channels.put("bad", "slack", slack(hole.url), actor="test")
        await channels.put("bad", "webhook", {"type": "webhook", "url": receiver.url}, actor="test")
        await channels.put("good", "slack", slack(receiver.url), actor="test")
        bad = [notification(FIRING, tenant="bad", alert_id=f"x{i}") for i in range(50)]
        other = notification(FIRING, tenant="bad", channel="webhook", alert_id="y")
        good = [notification(FIRING, tenant="good", alert_id=f"g{i}") for i in range(10)]
        for item in (*bad, other, *good):
            await rows.alert(item.alert_id or "", item.tenant)
        await rows.add(*bad)
        dispatcher = Dispatcher(rows.outbox, channels, clock)
        stop = asyncio.Event()
        running = asyncio.create_task(dispatcher.run(stop))
        try:
            await until(lambda: len(hole.received) == 4)
            started = time.monotonic()
            await rows.add(other, *good)
            dispatcher.nudge()
            await until(lambda: len(receiver.received) == 11)
            assert time.monotonic() - started < 1.0  # the hole holds its own for two seconds
            assert len(hole.received) == 4
        finally:
            stop.set()
            await running


async def test_the_loop_wakes_at_once_and_finishes_what_it_began(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver, redis: Redis, channels: ChannelStore
) -> None:
    wake = WakeUps(redis)
    dispatcher = Dispatcher(rows.outbox, channels, rows.clock, wake)
    stop = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stop))
    heard = "offbeat:wake:outbox"
    while not dict(await redis.pubsub_numsub(heard)).get(heard.encode()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await rows.add(notification(FIRING))
    started = time.monotonic()
    await wake.publish("outbox")
    await until(lambda: receiver.received)
    assert time.monotonic() - started < 0.9  # sooner than the poll
    stop.set()
    await running
    assert await rows.state(notification(FIRING).id) == "sent"


async def test_a_dispatcher_that_died_is_followed_by_one_with_the_same_id(
    rows: Rows, channels: ChannelStore, receiver: HttpReceiver, clock: ManualClock
) -> None:
    """Killed between sending and marking: the only case in which a message is repeated."""
    body = {"type": "webhook", "url": receiver.url}
    await channels.put("acme", "slack", body, actor="test")
    await rows.alert()
    item = notification(FIRING)
    await rows.add(item)
    [claim] = await rows.outbox.claim(1, 60, clock.now())
    channel = await channels.resolve("acme", "slack")
    await channel.send(claim.notification, compose(claim.notification, clock.now(), ""))
    dispatcher = Dispatcher(rows.outbox, channels, clock)
    await dispatcher.drain()
    assert len(receiver.received) == 1  # the lease holds
    await clock.advance(61)
    await dispatcher.drain()
    assert [r.headers["webhook-id"] for r in receiver.received] == [item.id] * 2
    assert receiver.received[0].body == receiver.received[1].body
    assert await rows.state(item.id) == "sent"


async def test_two_dispatchers_send_each_row_once(
    rows: Rows, channels: ChannelStore, receiver: HttpReceiver, clock: ManualClock
) -> None:
    items = []
    for tenant in ("t1", "t2", "t3"):
        await channels.put(
            tenant, "webhook", {"type": "webhook", "url": receiver.url}, actor="test"
        )
        for i in range(15):
            items.append(
                notification(FIRING, tenant=tenant, channel="webhook", alert_id=f"{tenant}{i}")
            )
            await rows.alert(f"{tenant}{i}", tenant)
    await rows.add(*items)
    pair = [Dispatcher(Outbox(rows.database, clock), channels, clock) for _ in range(2)]
    await asyncio.gather(*(d.drain() for d in pair))
    # One may have seen nothing left while the other's last rows were under way.
    await asyncio.gather(*(d.drain() for d in pair))
    assert Counter(r.headers["webhook-id"] for r in receiver.received) == {n.id: 1 for n in items}


async def test_nobody_there_at_all(rows: Rows, channels: ChannelStore, clock: ManualClock) -> None:
    await channels.put("acme", "slack", slack(f"http://127.0.0.1:{free_port()}/"), actor="test")
    await rows.alert()
    item = notification(FIRING)
    await rows.add(item)
    await Dispatcher(rows.outbox, channels, clock, limits=Limits(timeout=1.0)).drain()
    shown = await rows.outbox.get("acme", item.id)
    assert shown.state == "retry"
    assert "ConnectError" in (shown.last_error or "")
