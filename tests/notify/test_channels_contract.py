"""Every channel passes the same checks, against a real receiver of its kind."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from service.domain.clock import ManualClock
from service.domain.notifications import Notification, NotificationKind
from service.notify.channels import email
from service.notify.channels.base import Channel, Permanent, Retryable
from service.notify.channels.email import EmailChannel, MailServer
from service.notify.channels.slack import SlackChannel
from service.notify.channels.webhook import WebhookChannel
from service.notify.messages import compose
from service.security import outgoing
from tests.support.notifications import NOW, notification
from tests.support.receivers import (
    HANG,
    HttpReceiver,
    MailReceiver,
    free_port,
    http_receiver,
    mail_receiver,
)

ODD = "x" * 5000 + "🎵 \ud800 \x00 \u202e <!channel> *b* `c` & ' \" \r\nBcc: eve@evil.example"


@dataclass
class Bench:
    """A channel, its receiver, and ways to make both misbehave."""

    kind: str
    channel: Channel
    dead: Channel
    http: HttpReceiver | None = None
    mail: MailReceiver | None = None

    async def send(self, item: Notification) -> None:
        await self.channel.send(item, compose(item, NOW, "https://offbeat.example"))

    def arrived(self) -> int:
        return len(self.http.received) if self.http else len(self.mail.mails)

    def text(self) -> str:
        """What the receiver got last, decoded."""
        if self.http:
            return json.dumps(self.http.received[-1].json, ensure_ascii=False)
        assert self.mail
        mail = self.mail.mails[-1]
        parts = [str(mail["Subject"])]
        parts += [str(p.get_content()) for p in mail.walk() if not p.is_multipart()]
        return "\n".join(parts)


@pytest.fixture(params=["slack", "email", "webhook"])
async def bench(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(outgoing.client(True, total=1.0))
        nowhere = f"http://127.0.0.1:{free_port()}/"
        if request.param == "email":
            mail = stack.enter_context(mail_receiver())

            def server(port: int) -> MailServer:
                return MailServer("127.0.0.1", port, "", "", "none", "offbeat@example.org")

            to = ("ops@example.org", "night@example.org")
            yield Bench(
                "email",
                EmailChannel(server(mail.port), to),
                EmailChannel(server(free_port()), to),
                mail=mail,
            )
            return
        receiver = await stack.enter_async_context(http_receiver())

        def make(url: str) -> Channel:
            if request.param == "slack":
                return SlackChannel(http, clock, url)
            return WebhookChannel(http, clock, url, "whsec_" + "QUFB" * 8)

        yield Bench(request.param, make(receiver.url), make(nowhere), http=receiver)


@pytest.mark.parametrize("kind", list(NotificationKind))
async def test_every_kind_arrives_once_and_names_what_matters(
    bench: Bench, kind: NotificationKind
) -> None:
    await bench.send(notification(kind))
    assert bench.arrived() == 1
    expected = "works" if kind is NotificationKind.TEST else "checkout"
    assert expected in bench.text()


async def test_odd_text_arrives_harmless(bench: Bench) -> None:
    item = notification(
        NotificationKind.FIRING,
        rule_name=ODD,
        labels={"service": ODD, "x" * 3000: "ü" * 3000, **{f"l{i}": ODD for i in range(30)}},
        annotations={"summary": ODD, "description": ODD},
        expectation=ODD,
    )
    await bench.send(item)
    assert bench.arrived() == 1
    if bench.mail:
        mail = bench.mail.mails[0]
        assert mail["Bcc"] is None
        assert bench.mail.recipients == ["ops@example.org", "night@example.org"]
        assert len(mail.get_all("Subject", [])) == 1
    if bench.kind == "slack":
        assert "<!channel>" not in bench.text()
        assert len(bench.text()) < 40_000


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"labels": None, "value": "x", "started_at": "y", "severity": 7, "chart": [1]},
        {"value": float("nan"), "started_at": 1e300, "chart": {"v": [None, "a", 1]}},
        {"labels": [], "annotations": 5, "url": "javascript:alert(1)", "step": None},
    ],
)
@pytest.mark.parametrize("kind", list(NotificationKind))
async def test_a_broken_payload_still_arrives(
    bench: Bench, kind: NotificationKind, broken: dict[str, Any]
) -> None:
    await bench.send(Notification("n1", "acme", "a1", kind, "slack", broken, created_at=NOW))
    assert bench.arrived() == 1
    assert "javascript:" not in bench.text() or bench.kind == "webhook"


async def test_nobody_there_is_retryable(bench: Bench) -> None:
    item = notification(NotificationKind.FIRING)
    with pytest.raises(Retryable):
        await bench.dead.send(item, compose(item, NOW, ""))


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
async def test_a_failing_receiver_is_retryable(bench: Bench, status: int) -> None:
    if bench.http:
        bench.http.answer(status)
    elif bench.mail:
        bench.mail.reply = "451 try again later"
    with pytest.raises(Retryable):
        await bench.send(notification(NotificationKind.FIRING))


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 410, 422])
async def test_a_refusing_receiver_is_permanent_and_says_why(bench: Bench, status: int) -> None:
    if bench.http:
        bench.http.answer(status, headers={"Location": bench.http.url + "/elsewhere"})
    elif bench.mail:
        bench.mail.reply = "550 not from you"
    with pytest.raises(Permanent, match="550" if bench.mail else str(status)):
        await bench.send(notification(NotificationKind.FIRING))
    if bench.http:
        assert bench.arrived() == 1  # no redirect was followed


async def test_a_hanging_receiver_times_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(email, "_TOTAL_SECONDS", 0.5)
    item = notification(NotificationKind.FIRING)
    async with http_receiver() as silent:  # never greets, so that SMTP hangs too
        if bench.http:
            bench.http.answer(HANG)
            channel = bench.channel
        else:
            port = int(silent.url.split(":")[2].split("/")[0])
            server = MailServer("127.0.0.1", port, "", "", "none", "offbeat@example.org")
            channel = EmailChannel(server, ("ops@example.org",))
        with pytest.raises(Retryable, match="in time"):
            await channel.send(item, compose(item, NOW, ""))


async def test_retry_after_is_kept(clock: ManualClock) -> None:
    async with http_receiver() as receiver, outgoing.client(True) as http:
        receiver.answer(429, headers={"Retry-After": "17"})
        channel = SlackChannel(http, clock, receiver.url)
        item = notification(NotificationKind.FIRING)
        with pytest.raises(Retryable) as caught:
            await channel.send(item, compose(item, NOW, ""))
        assert caught.value.retry_after == 17.0


async def test_a_dripping_receiver_cannot_hold_a_call(clock: ManualClock) -> None:
    async with http_receiver() as receiver, outgoing.client(True, total=0.5) as http:
        receiver.script = [(200, {}, b"x" * 100)]
        receiver.drip_seconds = 0.1
        with pytest.raises(httpx.ReadTimeout):
            await http.post(receiver.url)
