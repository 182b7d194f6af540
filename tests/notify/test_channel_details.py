"""What only one kind of channel has: threads, signatures, buttons."""

import json

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from service.domain.clock import ManualClock
from service.domain.errors import InvalidInput
from service.domain.notifications import NotificationKind
from service.notify.channels import slack
from service.notify.channels.base import Permanent
from service.notify.channels.email import EmailChannel, MailServer, check_address, render
from service.notify.channels.webhook import OPEN, WebhookChannel, payload, signer
from service.notify.messages import compose
from service.security import outgoing
from tests.support.notifications import NOW, notification
from tests.support.receivers import http_receiver, mail_receiver

FIRING, RESOLVED = NotificationKind.FIRING, NotificationKind.RESOLVED
ESCALATED, SUMMARY = NotificationKind.ESCALATED, NotificationKind.SUMMARY
URL = "https://offbeat.example"
SECRET = "whsec_" + "c2VjcmV0" * 4


def mail_of(kind: NotificationKind, **changed):
    item = notification(kind, channel="email", **changed)
    return item, render(item, compose(item, NOW, URL), "offbeat@example.org", ("ops@example.org",))


def test_a_mails_id_is_stable_and_a_resolve_threads_under_its_firing() -> None:
    item, firing = mail_of(FIRING)
    assert firing["Message-ID"] == f"<{item.id}@example.org>"
    assert mail_of(FIRING)[1]["Message-ID"] == firing["Message-ID"]
    _, resolved = mail_of(RESOLVED)
    _, escalated = mail_of(ESCALATED)
    for later in (resolved, escalated):
        assert later["In-Reply-To"] == firing["Message-ID"]
        assert firing["Message-ID"] in later["References"]
        assert firing["References"] in later["References"]
        assert later["Message-ID"] != firing["Message-ID"]
    _, other = mail_of(RESOLVED, episode=2)
    assert other["In-Reply-To"] != firing["Message-ID"]
    assert firing["Auto-Submitted"] == "auto-generated"
    assert firing["Subject"] == "[critical] High error rate: checkout eu-west (firing)"
    assert [p.get_content_type() for p in firing.iter_parts()] == ["text/plain", "text/html"]
    assert firing["Importance"] == "high"
    assert resolved["Importance"] is None


def test_markup_in_labels_stays_text() -> None:
    evil = '<script>alert(1)</script>"><img src=x>'
    _, mail = mail_of(FIRING, labels={"service": evil}, annotations={"summary": evil})
    html = mail.get_body(("html",)).get_content()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


async def test_some_receivers_refused_is_sent_all_refused_is_not() -> None:
    item = notification(FIRING)
    message = compose(item, NOW, URL)
    with mail_receiver() as receiver:
        receiver.refuse = "gone"
        server = MailServer("127.0.0.1", receiver.port, "", "", "none", "offbeat@example.org")
        both = EmailChannel(server, ("ops@example.org", "gone@example.org"))
        await both.send(item, message)
        assert receiver.recipients == ["ops@example.org"]
        with pytest.raises(Permanent, match="gone@"):
            await EmailChannel(server, ("gone@example.org",)).send(item, message)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@",
        "@b",
        "a b@c.example",
        "a@b\r\nBcc: x@y",
        "ä@b.example",
        "a@b@c",
        "x" * 300 + "@b.c",
    ],
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_address(text, "to")


async def test_a_webhook_is_signed_so_that_the_reference_library_accepts_it(
    clock: ManualClock,
) -> None:
    item = notification(FIRING, labels={"service": "zürich 🎵"})
    async with http_receiver() as receiver, outgoing.client(True) as http:
        await WebhookChannel(http, clock, receiver.url, SECRET, URL).send(
            item, compose(item, NOW, URL)
        )
    [got] = receiver.received
    assert Webhook(SECRET).verify(got.body, got.headers)["alerts"][0]["status"] == "firing"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body.replace(b"firing", b"hidden"), got.headers)
    assert got.headers["webhook-id"] == got.headers["idempotency-key"] == item.id
    assert got.headers["user-agent"].startswith("offbeat/")
    assert got.headers["content-type"] == "application/json"


@pytest.mark.parametrize("secret", ["x", "whsec_", "whsec_AAAA", "whsec_…WXYZ", "ünicode" * 9])
def test_weak_secrets(secret: str) -> None:
    with pytest.raises(InvalidInput, match="whsec_"):
        signer(secret)


def test_the_webhook_speaks_alertmanagers_version_4() -> None:
    item = notification(FIRING)
    body = payload(item, compose(item, NOW, URL), URL)
    assert set(body) == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels",
        "commonLabels", "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    [alert] = body["alerts"]
    assert set(alert) == {
        "status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint",
    }  # fmt: skip
    assert (body["version"], body["status"], body["receiver"]) == ("4", "firing", "slack")
    assert body["truncatedAlerts"] == 0
    assert alert["labels"]["alertname"] == "High error rate"
    assert (alert["startsAt"], alert["endsAt"]) == ("2023-11-14T22:10:10Z", OPEN)
    assert alert["annotations"]["description"] == "Customers cannot pay."
    assert alert["fingerprint"] == "f00d"
    over = notification(RESOLVED)
    closed = payload(over, compose(over, NOW, URL), URL)
    assert (closed["status"], closed["alerts"][0]["status"]) == ("resolved", "resolved")
    assert closed["alerts"][0]["endsAt"] == "2023-11-14T22:13:10Z"
    assert closed["groupKey"] == body["groupKey"]
    # A later page has the same body but for nothing: retries are byte for byte the same.
    assert payload(item, compose(item, NOW + 9999, URL), URL) == body


def test_a_summary_says_how_many_it_left_out() -> None:
    item = notification(SUMMARY)
    body = payload(item, compose(item, NOW, URL), URL)
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (2, 35)
    assert [a["status"] for a in body["alerts"]] == ["firing", "resolved"]


def test_slack_blocks_stay_within_slacks_limits() -> None:
    long = "<&>" * 3000
    labels = {f"label{i}": long for i in range(40)}
    alerts = [
        {"rule_name": long, "severity": "high", "labels": labels, "kind": "firing", "at": NOW}
    ] * 20
    items = [
        notification(FIRING, labels=labels, rule_name=long, annotations={"summary": long}),
        notification(SUMMARY, alerts=alerts),
    ]
    for item in items:
        body = slack.render(compose(item, NOW, URL))
        blocks = body["blocks"] + body["attachments"][0]["blocks"]
        assert len(blocks) <= 50
        for block in blocks:
            if block["type"] == "section":
                text = block["text"]["text"]
                assert 0 < len(text) <= 3000
                cut = text.rpartition("&")[2]
                assert ";" in cut or "&" not in text, "an escape was cut in two"
        assert "<&" not in json.dumps(body)


def test_slack_has_a_button_a_colour_and_a_text_for_the_lock_screen() -> None:
    item = notification(FIRING)
    body = slack.render(compose(item, NOW, URL))
    [attachment] = body["attachments"]
    buttons = next(b for b in attachment["blocks"] if b["type"] == "actions")["elements"]
    assert [b["url"] for b in buttons] == [
        "https://offbeat.example/alerts/a1",
        "https://wiki.example/checkout",
    ]
    assert body["text"] == (
        "🔴 [critical] High error rate: checkout eu-west (firing): "
        "error_rate is 0.1234, above 0.05."
    )
    over = notification(RESOLVED)
    green = slack.render(compose(over, NOW, URL))
    assert green["text"].startswith("🟢")
    assert green["attachments"][0]["color"] == "#1a7f37"
