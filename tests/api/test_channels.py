"""Channels and notifications over HTTP, up to a message that a receiver gets."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import select

from service.domain.tenants import PLATFORM, Role
from service.notify.dispatcher import Dispatcher
from service.security.audit import page
from service.storage.sql.tables import channels as channels_table
from service.wiring import Wiring
from tests.support.receivers import http_receiver
from tests.support.whole import calling

SLACK = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/T000/B000/abcdWXYZ"}
SECRET = "whsec_" + "c2VjcmV0" * 4


@pytest.fixture
async def http(parts: Wiring) -> AsyncIterator[httpx.AsyncClient]:
    """Acme's operator."""
    async with calling(parts, await key(parts, "acme", Role.OPERATOR)) as client:
        yield client


async def key(parts: Wiring, tenant: str, role: Role) -> dict[str, str]:
    _, text = await parts.keys.create(tenant, role, "k", "test")
    return {"X-API-Key": text}


async def test_put_is_idempotent_and_shows_no_secret(
    http: httpx.AsyncClient, parts: Wiring
) -> None:
    first = await http.put("/alerts/channels/team-a", json=SLACK)
    assert first.status_code == 201
    again = await http.put("/alerts/channels/team-a", json=SLACK)
    assert again.status_code == 200
    assert again.json() == first.json()
    assert first.json()["config"] == {"webhook_url": "https://hooks.slack.com/…WXYZ"}
    body = {
        "type": "webhook",
        "url": "https://acme.example/h?token=verysecrettoken",
        "secret": SECRET,
    }
    changed = await http.put("/alerts/channels/team-a", json=body)
    assert changed.status_code == 200
    assert changed.json()["config"] == {
        "url": "https://acme.example/…oken",
        "secret": "…" + SECRET[-4:],
    }
    shown = (await http.get("/alerts/channels")).json()
    assert [c["name"] for c in shown["items"]] == ["team-a"]
    entries, _ = await page(parts.database, "acme")
    assert [e.action for e in entries if e.action.startswith("channel")] == [
        "channel.changed",
        "channel.created",
    ]
    async with parts.database.read() as connection:
        stored = (await connection.execute(select(channels_table.c.config))).scalar_one()
    for text in (changed.text, str(shown), str(entries), stored):
        assert SECRET not in text
        assert "verysecret" not in text
        assert "abcdWXYZ" not in text


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"type": "slack", "webhook_url": "ftp://x"}, "webhook_url"),
        ({"type": "slack", "webhook_url": "https://169.254.169.254/x"}, "webhook_url"),
        ({"type": "slack", "webhook_url": " "}, "webhook_url"),
        ({"type": "webhook", "url": "https://u:p@acme.example/"}, "url"),
        ({"type": "webhook", "url": "https://acme.example/", "secret": "short"}, "secret"),
        ({"type": "webhook", "url": "https://acme.example/", "secret": "…WXYZ"}, "secret"),
        ({"type": "email", "to": []}, "to"),
        ({"type": "email", "to": ["a@b.example\r\nBcc: eve@evil.example"]}, "to"),
        ({"type": "email", "to": "nobody"}, "to"),
        ({"type": "email", "to": [f"a{i}@b.example" for i in range(51)]}, "to"),
    ],
)
async def test_what_is_wrong_is_named(http: httpx.AsyncClient, body: dict, where: str) -> None:
    answer = await http.put("/alerts/channels/x", json=body)
    assert answer.status_code == 400
    assert answer.json()["where"] == where


@pytest.mark.parametrize(
    "body", [{}, {"type": "pager"}, {**SLACK, "extra": 1}, {"type": "email"}, [], "x", None]
)
async def test_malformed_bodies_are_client_errors(http: httpx.AsyncClient, body: object) -> None:
    assert (await http.put("/alerts/channels/x", json=body)).status_code in (400, 422)


@pytest.mark.parametrize("name", ["A", "-a", "a b", "a" * 65, "ä", "a.b"])
async def test_names_are_what_rules_can_say(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.put(f"/alerts/channels/{name}", json=SLACK)).status_code == 400


async def test_mail_needs_the_operators_server(http: httpx.AsyncClient) -> None:
    answer = await http.put("/alerts/channels/m", json={"type": "email", "to": "a@b.example"})
    assert answer.status_code == 422
    assert "SMTP_HOST" in answer.json()["detail"]


async def test_delete(http: httpx.AsyncClient) -> None:
    await http.put("/alerts/channels/x", json=SLACK)
    assert (await http.delete("/alerts/channels/x")).status_code == 204
    assert (await http.delete("/alerts/channels/x")).status_code == 404
    assert (await http.get("/alerts/channels")).json() == {"items": []}


async def test_another_tenants_channel_and_notification_are_missing(
    http: httpx.AsyncClient, parts: Wiring
) -> None:
    await http.put("/alerts/channels/x", json=SLACK)
    sent = (await http.post("/alerts/channels/x/test")).json()["id"]
    stranger = await key(parts, "other", Role.OPERATOR)
    for method, path in (
        ("DELETE", "/alerts/channels/x"),
        ("POST", "/alerts/channels/x/test"),
        ("GET", f"/alerts/notifications/{sent}"),
        ("POST", f"/alerts/notifications/{sent}/replay"),
    ):
        assert (await http.request(method, path, headers=stranger)).status_code == 404
    assert (await http.get("/alerts/channels", headers=stranger)).json()["items"] == []
    assert (await http.get("/alerts/notifications", headers=stranger)).json()["items"] == []


async def test_roles(http: httpx.AsyncClient, parts: Wiring) -> None:
    await http.put("/alerts/channels/x", json=SLACK)
    reader = await key(parts, "acme", Role.READER)
    assert (await http.get("/alerts/channels", headers=reader)).status_code == 200
    assert (await http.get("/alerts/notifications", headers=reader)).status_code == 200
    for method, path in (
        ("PUT", "/alerts/channels/x"),
        ("DELETE", "/alerts/channels/x"),
        ("POST", "/alerts/channels/x/test"),
        ("POST", "/alerts/notifications/n/replay"),
    ):
        answer = await http.request(method, path, headers=reader, json=SLACK)
        assert answer.status_code == 403
    admin = await key(parts, PLATFORM, Role.ADMIN)
    assert (await http.get("/alerts/channels", headers=admin)).status_code == 400
    admin["X-Tenant-ID"] = "acme"
    assert len((await http.get("/alerts/channels", headers=admin)).json()["items"]) == 1


async def test_a_test_message_arrives_and_is_listed(http: httpx.AsyncClient, parts: Wiring) -> None:
    async with http_receiver() as receiver:
        assert (await http.post("/alerts/channels/w/test")).status_code == 404
        body = {"type": "webhook", "url": receiver.url, "secret": SECRET}
        await http.put("/alerts/channels/w", json=body)
        queued = await http.post("/alerts/channels/w/test")
        assert queued.status_code == 202
        id = queued.json()["id"]
        path = f"/alerts/notifications/{id}"
        assert (await http.get(path)).json()["state"] == "pending"
        receiver.answer(410, 200)
        dispatcher = Dispatcher(parts.outbox, parts.channels, parts.clock)
        await dispatcher.drain()
        shown = (await http.get(path)).json()
        assert (shown["state"], shown["due_at"]) == ("dead", None)
        assert "410" in shown["last_error"]
        assert (await http.get("/alerts/notifications?state=dead")).json()["items"] == [shown]
        again = await http.post(path + "/replay")
        assert again.json()["state"] == "pending"
        await dispatcher.drain()
        assert (await http.get(path)).json()["state"] == "sent"
        assert (await http.post(path + "/replay")).status_code == 409
        assert [r.headers["webhook-id"] for r in receiver.received] == [id, id]
        assert receiver.received[1].json["alerts"][0]["labels"]["alertname"] == "OffbeatTest"


@pytest.mark.parametrize(
    "query", ["state=lost", "limit=0", "limit=501", "cursor=x", "cursor=%00", "limit=a"]
)
async def test_bad_queries_are_client_errors(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(f"/alerts/notifications?{query}")).status_code in (400, 422)


async def test_pages_follow_each_other(http: httpx.AsyncClient, parts: Wiring) -> None:
    await http.put("/alerts/channels/x", json=SLACK)
    ids = []
    for _ in range(5):
        ids.append((await http.post("/alerts/channels/x/test")).json()["id"])
        await parts.clock.advance(1)
    first = (await http.get("/alerts/notifications?limit=3")).json()
    rest = (await http.get(f"/alerts/notifications?limit=3&cursor={first['next']}")).json()
    assert [n["id"] for n in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
