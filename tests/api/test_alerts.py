"""Alerts over HTTP: what is active, what was, the timeline of one, and taking care of it."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from service.alerts.engine import AlertEngine
from service.domain.alerts import Alert
from service.domain.clock import ManualClock
from service.domain.rules import Severity
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.alerting import POLICY, RULE, TENANT, judged
from tests.support.whole import headers_of

Headers = dict[str, str]


@pytest.fixture
async def responder(parts: Wiring, client: httpx.AsyncClient) -> Headers:
    return await headers_of(parts, Role.RESPONDER)


@pytest.fixture
def engine(parts: Wiring) -> AlertEngine:
    return AlertEngine(parts.database, parts.clock, parts.wake, parts.settings)


async def fire(
    engine: AlertEngine, clock: ManualClock, *regions: str, **changes: object
) -> list[Alert]:
    rule = replace(RULE, **changes)
    judgements = [judged(True, region, rule) for region in regions or ("eu",)]
    return await engine.apply(TENANT, rule, judgements, clock.now(), policies=(POLICY,))


async def test_active_ones_by_urgency(
    client: httpx.AsyncClient, responder: Headers, engine: AlertEngine, clock: ManualClock
) -> None:
    await fire(engine, clock, id="r1", name="Low", severity=Severity.LOW)
    await clock.advance(60)
    await fire(engine, clock, id="r2", name="Waiting", severity=Severity.CRITICAL, for_seconds=60.0)
    await fire(engine, clock, id="r3", name="Worst", severity=Severity.CRITICAL)
    await clock.advance(60)
    await fire(engine, clock, id="r4", name="Low and new", severity=Severity.LOW)

    async def names(query: str = "") -> list[str]:
        answer = await client.get(f"/alerts/active/{TENANT}{query}", headers=responder)
        assert answer.status_code == 200, answer.text
        return [item["rule_name"] for item in answer.json()["items"]]

    assert await names() == ["Worst", "Low and new", "Low", "Waiting"]
    assert await names("?state=firing") == ["Worst", "Low and new", "Low"]
    assert await names("?state=pending") == ["Waiting"]
    assert await names("?severity=critical") == ["Worst", "Waiting"]
    assert await names("?limit=1") == ["Worst"]
    for wrong in ("?state=resolved", "?state=x", "?limit=0", "?severity=bad"):
        answer = await client.get(f"/alerts/active/{TENANT}{wrong}", headers=responder)
        assert answer.status_code == 422


async def test_one_with_its_timeline(
    client: httpx.AsyncClient, responder: Headers, engine: AlertEngine, clock: ManualClock
) -> None:
    (alert,) = await fire(engine, clock)
    await clock.advance(30)
    taken = await client.put(
        f"/alerts/{alert.id}/acknowledge", headers=responder, json={"note": "on it"}
    )
    assert taken.status_code == 200, taken.text
    shown = (await client.get(f"/alerts/{alert.id}", headers=responder)).json()
    timeline = shown.pop("timeline")
    assert (shown.pop("feedback"), shown.pop("threshold")) == ([], None)
    assert shown == taken.json()
    assert shown == {
        "id": alert.id,
        "tenant": TENANT,
        "rule_id": "r1",
        "rule_name": "High errors",
        "state": "firing",
        "severity": "high",
        "labels": {"__name__": "error_rate", "alertname": "High errors", "region": "eu"},
        "annotations": {},
        "value": 0.12,
        "expectation": "above 0.05",
        "series": alert.source,
        "episode": 1,
        "started_at": "2023-11-14T22:13:20Z",
        "fired_at": "2023-11-14T22:13:20Z",
        "resolved_at": None,
        "acknowledged_at": "2023-11-14T22:13:50Z",
        "acknowledged_by": "responder:responder of acme",
        "silenced_by": [],
        "url": f"http://127.0.0.1:8000/dashboard/{TENANT}#alert-{alert.id}",
    }
    assert [(event["at"], event["kind"]) for event in timeline] == [
        ("2023-11-14T22:13:20Z", "fired"),
        ("2023-11-14T22:13:50Z", "acknowledged"),
    ]
    assert timeline[1]["detail"] == {"note": "on it"}


async def test_acknowledging_twice_is_once_and_afterwards_is_too_late(
    client: httpx.AsyncClient,
    responder: Headers,
    engine: AlertEngine,
    clock: ManualClock,
    parts: Wiring,
) -> None:
    (alert,) = await fire(engine, clock)
    url = f"/alerts/{alert.id}/acknowledge"
    answers = await asyncio.gather(*(client.put(url, headers=responder) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(await parts.alerts.events(TENANT, alert.id)) == 2
    await clock.advance(60)
    await engine.apply(TENANT, RULE, [judged(False)], clock.now())
    late = await client.put(url, headers=responder)
    assert late.status_code == 409
    assert "resolved at 2023-11-14T22:14:20Z" in late.json()["detail"]


async def test_history_by_pages(
    client: httpx.AsyncClient, responder: Headers, engine: AlertEngine, clock: ManualClock
) -> None:
    for i in range(5):
        await fire(engine, clock, f"r{i}", f"s{i}")  # two at the same time
        await clock.advance(1)
    await engine.apply(TENANT, RULE, [judged(False, "r0")], clock.now())
    await fire(engine, clock, "eu", id="r9", for_seconds=60.0)  # pending: no history yet
    seen, cursor = [], ""
    while True:
        url = f"/alerts/history/{TENANT}?limit=3{cursor}"
        page = (await client.get(url, headers=responder)).json()
        seen += page["items"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len({item["id"] for item in seen}) == len(seen) == 10
    fired = [item["fired_at"] for item in seen]
    assert fired == sorted(fired, reverse=True)
    assert sum(item["state"] == "resolved" for item in seen) == 1
    only = await client.get(f"/alerts/history/{TENANT}?rule_id=r9", headers=responder)
    assert only.json() == {"items": [], "next": None}
    for cursor in ("x", "1-", f"{'9' * 18}-{'0' * 32}", "%00"):
        bad = await client.get(f"/alerts/history/{TENANT}?cursor={cursor}", headers=responder)
        assert (bad.status_code, bad.json()["where"]) == (400, "cursor")


async def test_another_tenants_alert_is_a_missing_one(
    client: httpx.AsyncClient, engine: AlertEngine, clock: ManualClock, parts: Wiring
) -> None:
    (alert,) = await fire(engine, clock)
    other = await headers_of(parts, Role.OPERATOR, "other")
    for id in (alert.id, "0" * 32, "%00", "x%2Fy", "é"):
        assert (await client.get(f"/alerts/{id}", headers=other)).status_code == 404
        taken = await client.put(f"/alerts/{id}/acknowledge", headers=other)
        assert taken.status_code == 404
    for path in ("active", "history"):
        assert (await client.get(f"/alerts/{path}/{TENANT}", headers=other)).status_code == 404
        own = await client.get(f"/alerts/{path}/other", headers=other)
        assert own.json()["items"] == []


async def test_who_may(
    client: httpx.AsyncClient, engine: AlertEngine, clock: ManualClock, parts: Wiring
) -> None:
    (alert,) = await fire(engine, clock)
    reader, writer = await headers_of(parts, Role.READER), await headers_of(parts, Role.WRITER)
    url = f"/alerts/{alert.id}"
    assert (await client.get(url, headers=reader)).status_code == 200
    assert (await client.put(f"{url}/acknowledge", headers=reader)).status_code == 403
    assert (await client.get(url, headers=writer)).status_code == 403
    assert (await client.get(url)).status_code == 401
    admin = {**await headers_of(parts, Role.ADMIN), "X-Tenant-ID": TENANT}
    assert (await client.put(f"{url}/acknowledge", headers=admin)).status_code == 200


@pytest.mark.parametrize(
    "content",
    [b'{"note": 5}', b'{"nope": 1}', b"[]", b'{"note": "\\u0000"}', b'{"note": "\\ud800"}'],
)
async def test_bad_notes(
    client: httpx.AsyncClient,
    responder: Headers,
    engine: AlertEngine,
    clock: ManualClock,
    content: bytes,
) -> None:
    (alert,) = await fire(engine, clock)
    answer = await client.put(
        f"/alerts/{alert.id}/acknowledge",
        headers={**responder, "Content-Type": "application/json"},
        content=content,
    )
    assert answer.status_code == 422, answer.text


async def test_rules_are_not_taken_for_alerts(
    client: httpx.AsyncClient, responder: Headers
) -> None:
    listed = await client.get("/alerts/rules", headers=responder)
    assert listed.status_code == 200, listed.text
    assert "file_error" in listed.json()
