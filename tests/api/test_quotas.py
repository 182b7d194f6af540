"""Limits of a tenant and what it used, over HTTP, with two replicas on the same stores."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.clock import ManualClock
from service.domain.series import Series
from service.domain.tenants import Role
from service.rules.evaluator import Judgement
from service.security.tenants import REMEMBER_SECONDS
from service.settings import Settings
from service.storage.sql.engine import Database
from service.wiring import Wiring, wired
from tests.support.whole import calling, headers_of, made

QUOTA = "/tenants/acme/quota"
USAGE = "/tenants/acme/usage"


class House:
    """Two replicas of the API, and headers of an admin and of acme's operator."""

    def __init__(self, parts: Wiring, apis: list[httpx.AsyncClient]) -> None:
        self.parts, self.apis = parts, apis
        self.admin: dict[str, str] = {}
        self.operator: dict[str, str] = {}

    async def set(self, **quota: float | None) -> dict[str, Any]:
        """Set limits through the first replica, and let the second hear of it."""
        answer = await self.apis[0].put(QUOTA, headers=self.admin, json=quota)
        assert answer.status_code == 200, answer.text
        assert isinstance(self.parts.clock, ManualClock)
        await self.parts.clock.advance(REMEMBER_SECONDS)
        shown: dict[str, Any] = answer.json()["quota"]
        return shown

    async def record(self, items: list[dict[str, Any]], replica: int = 0) -> httpx.Response:
        return await self.apis[replica].post(
            "/analytics/metrics", headers=self.operator, json=items
        )


@pytest.fixture
async def house(
    database: Database, settings: Settings, clock: ManualClock, redis: object
) -> AsyncIterator[House]:
    """On both databases."""
    url = database.url.replace("+asyncpg", "").replace("+aiosqlite", "")
    settings = settings.model_copy(update={"database_url": url})
    async with (
        made(settings, clock) as first,
        wired(settings, clock) as second,
        calling(first) as one,
        calling(second) as two,
    ):
        house = House(first, [one, two])
        house.admin = await headers_of(first, Role.ADMIN)
        house.operator = await headers_of(first, Role.OPERATOR)
        yield house


def metrics(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"name": "plays", "value": 1, "labels": {"user": str(i)}}
        for i in range(first, first + count)
    ]


def rule(name: str) -> dict[str, Any]:
    return {"name": name, "query": "plays", "condition": "gt", "threshold": 5}


async def test_new_series_a_minute_are_exact_over_replicas(house: House) -> None:
    await house.set(new_series_per_minute=30)
    begun = time.monotonic()
    answers = await asyncio.gather(
        *(house.record(metrics(10 * i, 10), replica=i % 2) for i in range(8))
    )
    passed = time.monotonic() - begun
    taken = sum(a.json().get("accepted", 0) for a in answers)
    assert 30 <= taken <= 30 + passed / 2
    bodies = [a.json() for a in answers]
    reasons = [i["reason"] for b in bodies for i in b.get("rejected", b.get("errors", []))]
    assert len(reasons) == 80 - taken
    assert all(r.startswith("a new series, over the tenant's 30 a minute;") for r in reasons)
    known = await house.parts.registry.all("acme")
    assert len(known) == taken


async def test_the_number_of_series_is_bounded(house: House) -> None:
    await house.set(series=3)
    assert (await house.record(metrics(0, 3))).json() == {"accepted": 3}
    more = (await house.record(metrics(2, 2), replica=1)).json()
    assert more["accepted"] == 1
    assert "the tenant has its 3 already" in more["rejected"][0]["reason"]
    await house.set(series=None)
    assert (await house.record(metrics(2, 2), replica=1)).json() == {"accepted": 2}


async def test_the_age_of_samples_is_bounded(house: House) -> None:
    old = [item | {"timestamp": house.parts.clock.now() - 7200} for item in metrics(0, 1)]
    assert (await house.record(old)).status_code == 422
    assert (await house.set(sample_age_seconds=86_400))["sample_age_seconds"] == 86_400
    assert (await house.record(old, replica=1)).json() == {"accepted": 1}
    shown = await house.set(sample_age_seconds=10 * 365 * 86_400)
    assert shown["sample_age_seconds"] == house.parts.settings.retention_seconds


async def test_active_alerts_are_bounded(house: House) -> None:
    await house.set(active_alerts=1)
    url, headers = "/alerts/rules", house.operator
    made_ = await house.apis[0].post(url, headers=headers, json=rule("Many"))
    own = (await house.parts.rules.get("acme", made_.json()["id"])).rule
    series = [Series.of("plays", {"user": str(i)}) for i in range(3)]
    engine, now = house.parts.engine, house.parts.clock.now()
    await engine.apply("acme", own, [Judgement(s, s.tags, True, 9.0) for s in series], now)
    await house.parts.rule_health.report("acme", engine.held("acme"))
    active = (await house.apis[1].get("/alerts/active/acme", headers=headers)).json()
    assert len(active["items"]) == 1
    (shown,) = (await house.apis[1].get(url, headers=headers)).json()["items"]
    assert shown["alerts"] == {"pending": 0, "firing": 1}
    assert shown["last_error"].startswith("2 more series meet it and open no alert")


async def test_rates_are_refused_with_429(house: House) -> None:
    await house.set(requests_per_second=1)
    answers = [await house.record(metrics(0, 1), replica=i % 2) for i in range(30)]
    refused = [a for a in answers if a.status_code == 429]
    assert 5 <= len(refused) <= 10, "twenty seconds' worth may come at once"
    assert 1 <= int(refused[-1].headers["retry-after"]) <= 3
    assert "1 requests a second" in refused[-1].json()["detail"]


async def test_a_raised_rate_holds_at_once_whatever_the_debt(house: House) -> None:
    await house.set(samples_per_second=1)
    many = metrics(0, 1) * 300
    statuses = [(await house.record(many, replica=i)).status_code for i in (0, 0, 1)]
    assert statuses == [200, 429, 429]
    await house.set(samples_per_second=None)
    deadline = time.monotonic() + 4
    for replica in (0, 1):
        while (await house.record(many, replica)).status_code == 429:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_rules_are_bounded_however_many_ask_at_once(house: House) -> None:
    await house.set(rules=2)
    url, headers = "/alerts/rules", house.operator
    answers = await asyncio.gather(
        *(house.apis[i % 2].post(url, headers=headers, json=rule(f"r{i}")) for i in range(4))
    )
    assert sorted(a.status_code for a in answers) == [201, 201, 429, 429]
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.json()["detail"] == "the tenant has 2 rules and may have 2; delete one first"
    assert refused.headers["retry-after"] == "3600"
    await house.set(rules=1)
    listed = (await house.apis[0].get(url, headers=headers)).json()["items"]
    assert len(listed) == 2, "lowering a quota deletes nothing"
    own = f"{url}/{listed[0]['id']}"
    changed = await house.apis[0].put(own, headers=headers, json=rule("another name"))
    assert changed.status_code == 200
    await house.set(rules=3)
    again = await house.apis[1].post(url, headers=headers, json=rule("third"))
    assert again.status_code == 201


async def test_what_was_used(house: House) -> None:
    await house.set(requests_per_second=1)
    clock = house.parts.clock
    assert isinstance(clock, ManualClock)
    answers = [await house.record(metrics(0, 2), replica=i % 2) for i in range(25)]
    kept = sum(a.status_code == 200 for a in answers)
    await house.parts.usage.keep()
    url = f"{USAGE}?from=2023-11-14&to=2023-11-14"
    shown = (await house.apis[1].get(url, headers=house.operator)).json()
    (day,) = shown["items"]
    assert shown["next"] is None
    assert day.pop("refused") <= 25 - kept  # those that a replica refused by itself come later
    assert day == {
        "day": "2023-11-14",
        "samples": 2 * kept,
        "requests": kept,
        "series": 2,
        "notifications": 0,
    }
    table = await house.apis[0].get(url, headers=house.admin | {"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["content-disposition"] == (
        'attachment; filename="usage-acme-2023-11-14-2023-11-14.csv"'
    )
    heading, line = table.text.splitlines()
    assert heading == "day,samples,requests,refused,series,notifications"
    assert line.startswith(f"2023-11-14,{2 * kept},{kept},")
    await clock.advance(40 * 86_400)
    assert (await house.apis[0].get(USAGE, headers=house.operator)).json()["items"] == [
        {
            "day": "2023-12-24",
            "samples": 0,
            "requests": 0,
            "refused": 0,
            "series": 2,
            "notifications": 0,
        }
    ], "of the last thirty days"
    everything = f"{USAGE}?from=2023-01-01"
    assert len((await house.apis[0].get(everything, headers=house.admin)).json()["items"]) == 2
    await house.apis[0].delete("/tenants/acme", headers=house.admin)
    await house.apis[0].post("/tenants", headers=house.admin, json={"id": "acme", "name": "New"})
    assert (await house.apis[0].get(everything, headers=house.admin)).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=2023-02-30", "2023-02-30 is no day"),
        ("from=yesterday", "from"),
        ("to=0", "to"),
        ("from=2023-11-15&to=2023-11-14", "later than"),
        ("from=2022-01-01&to=2023-11-14", "400 days"),
    ],
)
async def test_days_that_make_no_sense_are_422(
    sqlite: Database, settings: Settings, clock: ManualClock, redis: object, query: str, said: str
) -> None:
    async with made(settings, clock) as parts, calling(parts) as client:
        headers = await headers_of(parts, Role.OPERATOR)
        answer = await client.get(f"{USAGE}?{query}", headers=headers)
        assert answer.status_code == 422, answer.text
        assert said in answer.json()["detail"]
        early = await client.get(f"{USAGE}?to=0001-01-02", headers=headers)
        assert early.json() == {"items": [], "next": None}
