"""Rules over HTTP: made, shown, changed, removed; those of the file are read-only."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.rules.schema import FIELDS
from service.settings import Settings
from service.storage.sql.tables import audit
from service.wiring import Wiring
from tests.support.whole import headers_of, made

Headers = dict[str, str]

FILE = """\
escalation_policies:
  - name: default
    steps: [{after: 0s, channels: [slack]}]
alert_rules:
  - {name: From a/file, query: up, condition: no_data}
  - {name: Of another, query: up, condition: no_data, tenant: other}
"""


def body(**changes: Any) -> dict[str, Any]:
    return {
        "name": "High error rate",
        "query": "error_rate",
        "condition": "greater_than",
        "threshold": 0.05,
        "for_duration": "5m",
        "channels": ["slack"],
        **changes,
    }


@pytest.fixture
async def parts(settings: Settings, clock: ManualClock, redis: Redis) -> AsyncIterator[Wiring]:
    settings.alert_rules.write_text(FILE)
    async with made(settings, clock) as parts:
        yield parts


async def test_a_rules_life(
    client: httpx.AsyncClient, operator: Headers, parts: Wiring, clock: ManualClock
) -> None:
    made = await client.post("/alerts/rules", headers=operator, json=body())
    assert made.status_code == 201, made.text
    shown = made.json()
    url = made.headers["Location"]
    assert url == f"/alerts/rules/{shown['id']}"
    assert shown == {
        "id": shown["id"],
        "source": "api",
        "version": 1,
        "created_at": "2023-11-14T22:13:20Z",
        "updated_at": "2023-11-14T22:13:20Z",
        "alerts": {"pending": 0, "firing": 0},
        "probability": None,
        "last_error": None,
        "name": "High error rate",
        "query": "error_rate",
        "condition": "gt",
        "expr": None,
        "threshold": 0.05,
        "alert_budget": None,
        "operator": None,
        "severity": "medium",
        "for_duration": "5m",
        "cooldown": "15m",
        "window": None,
        "horizon": None,
        "peers_by": None,
        "channels": ["slack"],
        "escalation": None,
        "labels": {},
        "annotations": {},
        "enabled": True,
    }
    assert (await client.get(url, headers=operator)).json() == shown | {"feedback": []}

    await clock.advance(60)
    new = body(severity="critical", escalation="default", enabled=False)
    changed = await client.put(url, headers=operator, json=new)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["version"], changed.json()["severity"]) == (2, "critical")
    again = await client.put(url, headers=operator, json=new)
    assert again.json() == changed.json()

    # what is shown of a rule can be sent back
    fields = {k: v for k, v in changed.json().items() if k in FIELDS}
    back = await client.put(url, headers=operator, json=fields)
    assert back.status_code == 200, back.text

    assert (await client.delete(url, headers=operator)).status_code == 204
    for method in ("GET", "DELETE"):
        assert (await client.request(method, url, headers=operator)).status_code == 404
    async with parts.database.read() as connection:
        rows = (await connection.execute(select(audit.c.action).order_by(audit.c.id))).scalars()
        written = [action for action in rows if action.startswith("rule.")]
    assert written[:2] == ["rule.created", "rule.updated"]
    assert written[-1] == "rule.deleted"


async def test_a_rule_with_a_budget_is_shown_as_it_can_be_sent_back(
    client: httpx.AsyncClient, operator: Headers
) -> None:
    spends = body(condition="alert_budget", threshold=None, alert_budget="14 per week")
    made = await client.post("/alerts/rules", headers=operator, json=spends)
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["condition"], shown["threshold"]) == ("anomaly", None)
    assert shown["alert_budget"] == "2/day"
    fields = {k: v for k, v in shown.items() if k in FIELDS}
    back = await client.put(f"/alerts/rules/{shown['id']}", headers=operator, json=fields)
    assert back.json()["alert_budget"] == "2/day"
    both = body(name="Both", condition="anomaly", threshold=0.99, alert_budget="2/week")
    refused = await client.post("/alerts/rules", headers=operator, json=both)
    assert refused.status_code == 422
    assert "a rule has one of the two" in refused.text


async def test_a_rule_says_how_likely_a_forecast_must_cross(
    client: httpx.AsyncClient, operator: Headers
) -> None:
    likely = body(condition="forecast", threshold=90, horizon="12h", probability=0.8)
    made = await client.post("/alerts/rules", headers=operator, json=likely)
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["probability"], shown["horizon"]) == (0.8, "12h")
    fields = {k: v for k, v in shown.items() if k in FIELDS} | {"probability": None}
    url = f"/alerts/rules/{shown['id']}"
    back = await client.put(url, headers=operator, json=fields)
    assert back.json()["probability"] is None
    refused = await client.put(url, headers=operator, json=fields | {"probability": 1})
    assert refused.status_code == 422
    assert refused.json()["where"] == "probability"
    assert "is between 0.01 and 0.99, such as 0.8, not 1" in refused.json()["detail"]


async def test_a_rule_may_be_an_expression(client: httpx.AsyncClient, operator: Headers) -> None:
    errors = "sum by (job) (rate(errors_total[5m])) > 5"
    made = await client.post(
        "/alerts/rules", headers=operator, json={"name": "Errors", "expr": errors}
    )
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["expr"], shown["query"], shown["condition"]) == (errors, None, None)
    fields = {k: v for k, v in shown.items() if k in FIELDS} | {"severity": "low"}
    url = f"/alerts/rules/{shown['id']}"
    back = await client.put(url, headers=operator, json=fields)
    assert (back.json()["severity"], back.json()["version"]) == ("low", 2)
    for expr, reason in (
        ("rate(errors_total) > 5", "expected type matrix in call to function 'rate', got vector"),
        ("rate(errors_total[5m]", "unclosed left parenthesis"),
        ("5", "gives a scalar, not an instant vector"),
        ("silent(rate(x[5m]), 60)", "silent takes a metric"),
        ("nonsense(x)", "unknown function with name 'nonsense'"),
        ("", "is empty"),
    ):
        refused = await client.put(url, headers=operator, json={"name": "Errors", "expr": expr})
        assert refused.status_code == 422, refused.text
        assert refused.json()["where"] == "expr"
        assert reason in refused.json()["detail"]
    both = body(name="Both", expr=errors)
    refused = await client.post("/alerts/rules", headers=operator, json=both)
    assert {e["where"] for e in refused.json()["errors"]} == {"query", "condition", "threshold"}


async def test_the_list_has_the_files_rules_and_says_what_is_wrong(
    client: httpx.AsyncClient, operator: Headers, parts: Wiring, clock: ManualClock
) -> None:
    made = (await client.post("/alerts/rules", headers=operator, json=body())).json()
    await parts.rule_health.report("acme", {made["id"]: "it broke"})
    listed = (await client.get("/alerts/rules", headers=operator)).json()
    assert [(r["name"], r["source"], r["last_error"]) for r in listed["items"]] == [
        ("From a/file", "file", None),
        ("High error rate", "api", "it broke"),
    ]
    assert listed["file_error"] is None

    parts.settings.alert_rules.write_text("alert_rules:\n  - nmae: x\n")
    await clock.advance(5)
    listed = (await client.get("/alerts/rules", headers=operator)).json()
    assert len(listed["items"]) == 2
    assert "alert_rules.yaml:2:5: " in listed["file_error"]["message"]
    assert listed["file_error"]["since"] == "2023-11-14T22:13:25Z"


async def test_a_rule_of_the_file_is_read_only(
    client: httpx.AsyncClient, operator: Headers, parts: Wiring
) -> None:
    await client.get("/alerts/rules", headers=operator)
    url = "/alerts/rules/file:From%20a%2Ffile"
    shown = await client.get(url, headers=operator)
    assert (shown.status_code, shown.json()["version"]) == (200, None)
    for answer in (
        await client.put(url, headers=operator, json=body()),
        await client.delete(url, headers=operator),
    ):
        assert answer.status_code == 409
        assert str(parts.settings.alert_rules) in answer.json()["detail"]
    foreign = await client.get("/alerts/rules/file:Of%20another", headers=operator)
    assert foreign.status_code == 404


async def test_every_problem_is_named(client: httpx.AsyncClient, operator: Headers) -> None:
    wrong = {"name": "x", "query": "up{", "condition": "above", "treshold": 1}
    answer = await client.post("/alerts/rules", headers=operator, json=wrong)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    places = [item["where"] for item in answer.json()["errors"]]
    assert sorted(places) == ["condition", "query", "treshold"]
    assert "did you mean 'threshold'?" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"5", 422),
        (b"{", 400),
        (b'{"name": "\\ud800", "query": "up", "condition": "no_data"}', 422),
        (b'{"name": "a\\u0000", "query": "up", "condition": "no_data"}', 422),
        (b'{"name": "a", "query": "up", "condition": "gt", "threshold": NaN}', 422),
        (b'{"name": "a", "query": "up", "condition": "gt", "threshold": 1e999}', 422),
        (b'{"name": "a", "query": "up", "condition": "no_data", "tenant": "other"}', 422),
        (b'{"name": "a", "query": "up", "condition": "no_data", "escalation": "x"}', 422),
        (b'{"name": "a", "query": "up", "condition": "no_data", "labels": {"\\u0000": "x"}}', 422),
    ],
)
async def test_bad_bodies(
    client: httpx.AsyncClient, operator: Headers, content: bytes, status: int
) -> None:
    headers = {**operator, "Content-Type": "application/json"}
    answer = await client.post("/alerts/rules", headers=headers, content=content)
    assert answer.status_code == status, answer.text


async def test_names_and_tenants_stay_apart(
    client: httpx.AsyncClient, operator: Headers, parts: Wiring
) -> None:
    made = await client.post("/alerts/rules", headers=operator, json=body())
    assert (await client.post("/alerts/rules", headers=operator, json=body())).status_code == 409
    url = made.headers["Location"]
    other = await headers_of(parts, Role.OPERATOR, "other")
    for method in ("GET", "PUT", "DELETE"):
        foreign = await client.request(method, url, headers=other, json=body())
        missing = await client.request(
            method, f"/alerts/rules/{'0' * 32}", headers=other, json=body()
        )
        assert foreign.status_code == missing.status_code == 404
    assert (await client.post("/alerts/rules", headers=other, json=body())).status_code == 201


async def test_who_may(client: httpx.AsyncClient, parts: Wiring) -> None:
    reader, writer = await headers_of(parts, Role.READER), await headers_of(parts, Role.WRITER)
    admin = await headers_of(parts, Role.ADMIN)
    assert (await client.get("/alerts/rules", headers=reader)).status_code == 200
    assert (await client.post("/alerts/rules", headers=reader, json=body())).status_code == 403
    assert (await client.get("/alerts/rules", headers=writer)).status_code == 403
    assert (await client.get("/alerts/rules")).status_code == 401
    assert (await client.get("/alerts/rules", headers=admin)).status_code == 400
    admin["X-Tenant-ID"] = "acme"
    assert (await client.post("/alerts/rules", headers=admin, json=body())).status_code == 201
