"""What people say of alerts, over HTTP."""

from dataclasses import replace

import httpx
import pytest

from service.alerts.engine import AlertEngine
from service.domain.alerts import Alert
from service.domain.clock import ManualClock
from service.domain.rules import Rule
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.alerting import RULE, TENANT, judged
from tests.support.whole import headers_of

Headers = dict[str, str]
ODD = {"name": "Odd", "query": "error_rate", "condition": "anomaly"}


@pytest.fixture
async def ann(parts: Wiring) -> Headers:
    return await headers_of(parts, Role.RESPONDER)


async def fire(parts: Wiring, rule: Rule = RULE, *regions: str) -> list[Alert]:
    engine = AlertEngine(parts.database, parts.clock, parts.wake, parts.settings)
    judgements = [judged(True, region, rule) for region in regions or ("eu",)]
    return await engine.apply(TENANT, rule, judgements, parts.clock.now())


async def odd(parts: Wiring, **fields: object) -> Rule:
    return (await parts.rules.create(TENANT, {**ODD, **fields}, "test")).rule


async def test_the_alert_shows_what_was_said_and_what_it_did(
    client: httpx.AsyncClient, ann: Headers, parts: Wiring, clock: ManualClock
) -> None:
    eu, us = await fire(parts, await odd(parts), "eu", "us")
    before = (await client.get(f"/alerts/{eu.id}", headers=ann)).json()
    assert before["feedback"] == []
    assert before["threshold"] == {
        "series": eu.source,
        "text": "",
        "factor": 1.0,
        "base": 0.999,
        "now": 0.999,
    }
    url = f"/alerts/{eu.id}/feedback"
    body = {"verdict": "noise", "note": " a deploy\n"}
    answer = await client.post(url, headers=ann, json=body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["threshold"] == {
        "series": eu.source,
        "text": "threshold 0.9995 (raised from 0.999 by 1 × noise)",
        "factor": 0.5,
        "base": 0.999,
        "now": 0.9995,
    }
    assert [(f["verdict"], f["note"]) for f in shown["feedback"]] == [("noise", "a deploy")]
    assert shown == (await client.get(f"/alerts/{eu.id}", headers=ann)).json()
    operator = await headers_of(parts, Role.OPERATOR)
    await clock.advance(60)
    said = (await client.post(url, headers=operator, json={"verdict": "expected"})).json()
    assert [f["verdict"] for f in said["feedback"]] == ["expected", "noise"]
    assert said["feedback"][0]["by"].startswith("operator:")
    assert "raised from 0.999 by 1 × expected" in said["threshold"]["text"]
    other = (await client.get(f"/alerts/{us.id}", headers=ann)).json()
    assert (other["feedback"], other["threshold"]["factor"]) == ([], 1.0)
    audited = (await client.get("/audit", headers=operator)).json()["items"]
    details = [row["detail"] for row in audited if row["action"] == "alert.feedback"]
    assert [detail["verdict"] for detail in details] == ["expected", "noise"]


async def test_where_a_budget_rules_there_is_no_one_threshold(
    client: httpx.AsyncClient, ann: Headers, parts: Wiring
) -> None:
    (alert,) = await fire(parts, await odd(parts, alert_budget="2/week"))
    url = f"/alerts/{alert.id}/feedback"
    said = (await client.post(url, headers=ann, json={"verdict": "useful"})).json()
    assert said["threshold"]["text"] == (
        "anomalies alert that are 1.5 times more common (1 × useful)"
    )
    assert (said["threshold"]["base"], said["threshold"]["now"]) == (None, None)


async def test_other_rules_take_feedback_and_keep_their_threshold(
    client: httpx.AsyncClient, ann: Headers, parts: Wiring
) -> None:
    (gone,) = await fire(parts)
    fields = {"condition": "gt", "threshold": 0.05}
    (plain,) = await fire(parts, await odd(parts, **fields))
    for alert in (gone, plain):
        url = f"/alerts/{alert.id}/feedback"
        said = (await client.post(url, headers=ann, json={"verdict": "useful"})).json()
        assert [f["verdict"] for f in said["feedback"]] == ["useful"]
        assert said["threshold"] is None


async def test_a_rule_shows_the_series_that_feedback_has_moved(
    client: httpx.AsyncClient, ann: Headers, parts: Wiring
) -> None:
    rule = await odd(parts, threshold=0.99)
    eu, us = await fire(parts, rule, "eu", "us")
    url = f"/alerts/rules/{rule.id}"
    assert (await client.get(url, headers=ann)).json()["feedback"] == []
    for alert, verdict in ((eu, "noise"), (us, "useful")):
        await client.post(f"/alerts/{alert.id}/feedback", headers=ann, json={"verdict": verdict})
    shown = (await client.get(url, headers=ann)).json()["feedback"]
    assert {(f["series"], f["text"]) for f in shown} == {
        (eu.source, "threshold 0.995 (raised from 0.99 by 1 × noise)"),
        (us.source, "threshold 0.985 (lowered from 0.99 by 1 × useful)"),
    }


async def test_who_may(client: httpx.AsyncClient, parts: Wiring) -> None:
    (alert,) = await fire(parts)
    body = {"verdict": "noise"}
    for role, status in (
        (Role.READER, 403),
        (Role.WRITER, 403),
        (Role.RESPONDER, 200),
        (Role.OPERATOR, 200),
    ):
        headers = await headers_of(parts, role)
        answer = await client.post(f"/alerts/{alert.id}/feedback", headers=headers, json=body)
        assert answer.status_code == status, role
    other = await headers_of(parts, Role.OPERATOR, "other")
    theirs, none = [
        (await client.post(f"/alerts/{id}/feedback", headers=other, json=body)).json()
        for id in (alert.id, "0" * 32)
    ]
    assert theirs["status"] == 404
    assert theirs["detail"].replace(alert.id, "0" * 32) == none["detail"]
    assert (await client.post(f"/alerts/{alert.id}/feedback", json=body)).status_code == 401


async def test_an_alert_that_has_not_fired_has_told_nobody_anything(
    client: httpx.AsyncClient, ann: Headers, parts: Wiring
) -> None:
    (alert,) = await fire(parts, replace(RULE, for_seconds=60.0))
    url = f"/alerts/{alert.id}/feedback"
    answer = await client.post(url, headers=ann, json={"verdict": "noise"})
    assert answer.status_code == 409
    assert "pending" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"{}", "verdict"),
        (b'{"verdict": "meh"}', "verdict"),
        (b'{"verdict": "noise", "note": "\\u0000"}', "note"),
        (b'{"verdict": "noise", "note": 5}', "note"),
        (b'{"verdict": "noise", "nope": 1}', "nope"),
    ],
)
async def test_what_is_no_verdict(
    client: httpx.AsyncClient, ann: Headers, parts: Wiring, content: bytes, where: str
) -> None:
    (alert,) = await fire(parts)
    headers = {**ann, "Content-Type": "application/json"}
    answer = await client.post(f"/alerts/{alert.id}/feedback", headers=headers, content=content)
    assert answer.status_code == 422, answer.text
    assert where in answer.text
