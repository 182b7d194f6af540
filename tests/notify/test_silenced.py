"""A silence that is made after something was decided to be sent, and before it is."""

from collections.abc import AsyncIterator

import pytest

from service.alerts.silences import Silences
from service.alerts.store import AlertStore
from service.domain.notifications import NotificationKind
from service.domain.series import Matcher, MatchType
from service.domain.silences import Draft, Silence
from service.notify.dispatcher import Dispatcher
from service.notify.store import ChannelStore
from tests.notify.conftest import Rows
from tests.support.notifications import notification
from tests.support.receivers import HttpReceiver, http_receiver

FIRING, RESOLVED = NotificationKind.FIRING, NotificationKind.RESOLVED
CRITICAL = Matcher("severity", MatchType.EQUAL, "critical")


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as found:
        yield found


@pytest.fixture
async def ready(rows: Rows, channels: ChannelStore, receiver: HttpReceiver) -> Dispatcher:
    body = {"type": "slack", "webhook_url": receiver.url}
    await channels.put("acme", "slack", body, actor="test")
    await rows.alert()
    return Dispatcher(rows.outbox, channels, rows.clock, public_url="https://offbeat.example")


async def silenced(rows: Rows, seconds: float = 600.0) -> Silence:
    wanted = Draft((CRITICAL,), rows.clock.now() + seconds, "a move")
    return await Silences(rows.database, rows.clock, 0.0).create("acme", wanted, "responder:ann")


async def reasons(rows: Rows) -> list[object]:
    events = await AlertStore(rows.database).events("acme", "a1")
    return [event.detail.get("reason") for event in events]


async def test_it_waits_untried_until_the_silence_ends(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver
) -> None:
    item = notification(FIRING)
    await rows.add(item)
    made = await silenced(rows)
    assert await ready.drain() == 1
    shown = await rows.outbox.get("acme", item.id)
    assert (shown.state, shown.attempts, shown.due_at) == ("silenced", 0, made.ends_at)
    assert (shown.last_error or "").startswith("silenced by responder:ann until ")
    await rows.clock.advance(599)
    assert await ready.drain() == 0
    await rows.clock.advance(1)
    await ready.drain()
    assert await rows.state(item.id) == "sent"
    assert len(receiver.received) == 1
    assert await reasons(rows) == ["silenced", None]


async def test_the_end_of_what_was_told_is_told_when_the_silence_ends(
    ready: Dispatcher, rows: Rows, receiver: HttpReceiver
) -> None:
    firing, resolved = notification(FIRING), notification(RESOLVED)
    await rows.add(firing)
    await ready.drain()
    made = await silenced(rows)
    await rows.clock.advance(60)
    await rows.change(state="resolved", resolved_at=rows.clock.now())
    await rows.add(resolved)
    await ready.drain()
    assert await rows.state(resolved.id) == "silenced"
    store = Silences(rows.database, rows.clock, 0.0)
    longer = await silenced(rows, 900)
    await store.expire("acme", made.id, "responder:ann")
    await ready.drain()  # looked at again, and silenced by the other
    shown = await rows.outbox.get("acme", resolved.id)
    assert (shown.state, shown.due_at) == ("silenced", longer.ends_at)
    await store.expire("acme", longer.id, "responder:ann")
    await ready.drain()
    assert await rows.state(resolved.id) == "sent"
    assert len(receiver.received) == 2
    assert await reasons(rows) == [None, "silenced", "silenced", None]


async def test_a_channel_that_rests_does_not_make_it_forget(ready: Dispatcher, rows: Rows) -> None:
    item = notification(FIRING)
    await rows.add(item)
    made = await silenced(rows)
    await ready.drain()
    await rows.outbox.postpone("acme", "slack", made.ends_at + 300, "it rests")
    shown = await rows.outbox.get("acme", item.id)
    assert (shown.state, shown.due_at) == ("silenced", made.ends_at)


async def test_a_silence_that_ends_while_a_message_is_judged_holds_it_no_longer(
    rows: Rows, ready: Dispatcher
) -> None:
    item = notification(FIRING)
    await rows.add(item)
    made = await silenced(rows)
    now = rows.clock.now()
    (claim,) = await rows.outbox.claim(1, 60.0, now)
    status = await rows.outbox.alert_status("acme", "a1")
    assert status is not None
    assert status.quiet is not None
    await Silences(rows.database, rows.clock, 0.0).expire("acme", made.id, "responder:ann")
    assert await rows.outbox.mark_silenced(claim, status.quiet)
    assert (await rows.outbox.get("acme", item.id)).due_at == now
    assert await ready.drain() == 1
    assert await rows.state(item.id) == "sent"
