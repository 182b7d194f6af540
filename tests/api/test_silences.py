"""Silences over HTTP: who may, what a body must say, and what the alert's JSON says of them."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.alerts.engine import AlertEngine
from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.alerting import RULE, TENANT, judged
from tests.support.whole import calling, headers_of

BODY = {
    "matchers": [{"name": "region", "value": "eu"}],
    "duration": "2h",
    "comment": "Moving the database",
}


@pytest.fixture
async def responder(parts: Wiring) -> dict[str, str]:
    return await headers_of(parts, Role.RESPONDER)


def at(clock: ManualClock, seconds: float) -> str:
    moment = datetime.fromtimestamp(clock.now(), UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_the_life_of_a_silence(
    parts: Wiring, responder: dict[str, str], clock: ManualClock
) -> None:
    clock.set(1_700_000_000.0)
    async with calling(parts, responder) as client:
        made = await client.post("/silences", json=BODY)
        assert made.status_code == 201, made.text
        one = made.json()
        path = f"/silences/{one.pop('id')}"
        assert one == {
            "kind": "silence",
            "state": "active",
            "matchers": [{"name": "region", "value": "eu", "is_regex": False, "is_equal": True}],
            "starts_at": "2023-11-14T22:13:20Z",
            "ends_at": "2023-11-15T00:13:20Z",
            "created_by": "responder:responder of acme",
            "comment": "Moving the database",
            "created_at": "2023-11-14T22:13:20Z",
            "updated_at": "2023-11-14T22:13:20Z",
        }
        assert (await client.get(path)).json() == made.json()
        listed = await client.get("/silences?state=active")
        assert listed.json() == {"items": [made.json()], "next": None}
        # What was read can be sent back with another end.
        names = ("kind", "matchers", "starts_at", "comment")
        body = {name: one[name] for name in names} | {"ends_at": at(clock, 60)}
        changed = await client.put(path, json=body)
        assert changed.status_code == 200, changed.text
        assert changed.json()["id"] == made.json()["id"]
        assert changed.json()["ends_at"] == "2023-11-14T22:14:20Z"
        other = body | {"matchers": [{"name": "region", "value": "u.", "is_regex": True}]}
        replaced = (await client.put(path, json=other)).json()
        assert replaced["id"] != made.json()["id"]
        assert (await client.get(path)).json()["state"] == "expired"
        assert (await client.put(path, json=body)).status_code == 409
        ended = await client.delete(f"/silences/{replaced['id']}")
        assert (ended.status_code, ended.json()["state"]) == (200, "expired")
        ahead = BODY | {"kind": "maintenance", "starts_at": at(clock, 3600)}
        planned = (await client.post("/silences", json=ahead)).json()
        assert (planned["state"], planned["ends_at"]) == ("pending", "2023-11-15T01:13:20Z")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"comment": " "}, "comment"),
        ({"comment": "\0"}, "comment"),
        ({"comment": None}, "comment"),
        ({"duration": None}, "ends_at"),
        ({"ends_at": "2030-01-01T00:00:00Z"}, "ends_at"),
        ({"duration": None, "ends_at": "2030-01-01T00:00:00"}, "ends_at"),
        ({"duration": None, "ends_at": "2001-01-01T00:00:00Z"}, "ends_at"),
        ({"duration": None, "ends_at": "0001-01-01T00:00:00+12:00"}, "ends_at"),
        ({"duration": "soon"}, "duration"),
        ({"duration": "0"}, "ends_at"),
        ({"duration": "3y"}, "ends_at"),
        ({"starts_at": "9999-12-31T23:59:59Z"}, "starts_at"),
        ({"starts_at": "9999-12-31T23:59:59-12:00"}, "starts_at"),
        ({"kind": "holiday"}, "kind"),
        ({"created_by": "somebody else"}, "created_by"),
        ({"matchers": []}, "matchers"),
        ({"matchers": [{"name": "region", "value": ""}]}, "matchers"),
        ({"matchers": [{"name": "a b", "value": "x"}]}, "matchers.0.name"),
        ({"matchers": [{"name": "a", "value": "\0"}]}, "matchers.0.value"),
        ({"matchers": [{"name": "a", "value": "(", "is_regex": True}]}, "matchers.0.value"),
    ],
)
async def test_a_body_that_cannot_be(
    parts: Wiring, responder: dict[str, str], changes: dict[str, object], where: str
) -> None:
    async with calling(parts, responder) as client:
        answer = await client.post("/silences", json=BODY | changes)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert (problem.get("where") or problem["errors"][0]["where"]) == where
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_may(parts: Wiring, responder: dict[str, str]) -> None:
    reader = await headers_of(parts, Role.READER)
    foreign = await headers_of(parts, Role.OPERATOR, "other")
    async with calling(parts) as client:
        made = await client.post("/silences", json=BODY, headers=responder)
        path = f"/silences/{made.json()['id']}"
        assert (await client.get(path, headers=reader)).status_code == 200
        assert (await client.get("/silences", headers=foreign)).json()["items"] == []
        for call, url, body in (
            (client.post, "/silences", {"json": BODY}),
            (client.put, path, {"json": BODY}),
            (client.delete, path, {}),
        ):
            assert (await call(url, headers=reader, **body)).status_code == 403
        calls = [client.get(path, headers=foreign), client.delete(path, headers=foreign)]
        calls += [client.put(path, headers=foreign, json=BODY)]
        for call in calls:
            answer = await call
            assert answer.status_code == 404
            assert "there is no silence" in answer.json()["detail"]


async def test_an_alert_says_what_keeps_it_quiet(
    parts: Wiring, responder: dict[str, str], clock: ManualClock
) -> None:
    engine = AlertEngine(parts.database, parts.clock, parts.wake, parts.settings)
    async with calling(parts, responder) as client:
        made = (await client.post("/silences", json=BODY)).json()["id"]
        judgements = [judged(True, "eu"), judged(True, "us")]
        eu, us = await engine.apply(TENANT, RULE, judgements, clock.now())

        async def of(url: str) -> dict[str, list[str]]:
            return {
                item["id"]: item["silenced_by"] for item in (await client.get(url)).json()["items"]
            }

        assert await of(f"/alerts/active/{TENANT}") == {eu.id: [made], us.id: []}
        assert await of(f"/alerts/history/{TENANT}") == {eu.id: [made], us.id: []}
        shown = (await client.get(f"/alerts/{eu.id}")).json()
        assert shown["silenced_by"] == [made]
        event = shown["timeline"][-1]
        assert (event["kind"], event["detail"]["reason"]) == ("suppressed", "silenced")
        assert event["detail"]["until"].endswith("Z")
        await client.delete(f"/silences/{made}")
        taken = await client.put(f"/alerts/{eu.id}/acknowledge")
        assert taken.json()["silenced_by"] == []
        await engine.apply(TENANT, RULE, [judged(False, "eu")], clock.now())
        await client.post("/silences", json=BODY)
        assert (await of(f"/alerts/history/{TENANT}"))[eu.id] == []  # it is over


async def test_nobody_sees_a_page_of_another_list(
    parts: Wiring, client: httpx.AsyncClient, responder: dict[str, str]
) -> None:
    for wrong in ("cursor=x", "state=odd", "limit=0"):
        answer = await client.get(f"/silences?{wrong}", headers=responder)
        assert answer.status_code in (400, 422), answer.text
