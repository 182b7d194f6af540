"""Rules of tenants in SQL."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, text

from service.domain.clock import ManualClock
from service.domain.errors import Conflict, NotFound, OverLimit
from service.domain.quotas import Quota
from service.domain.rules import RuleBook
from service.rules.form import RuleError
from service.rules.health import RuleHealth
from service.rules.loader import parse_file
from service.rules.store import RuleStore
from service.settings import Settings
from service.storage.redis import connect
from service.storage.sql.engine import Database
from service.storage.sql.tables import audit

RULES_MAX = 5


async def quota(_tenant: str) -> Quota:
    return replace(Settings().shipped_quota, rules=RULES_MAX)


@pytest.fixture
def rule_store(database: Database, clock: ManualClock) -> RuleStore:
    return RuleStore(database, clock, 900.0, quota)


def body(name: str = "A", **changes: Any) -> dict[str, Any]:
    return {"name": name, "query": "up", "condition": "lt", "threshold": 1, **changes}


async def actions(database: Database) -> list[str]:
    async with database.read() as connection:
        rows = await connection.execute(select(audit.c.action).order_by(audit.c.id))
        return list(rows.scalars())


async def test_make_change_and_remove(
    rule_store: RuleStore, database: Database, clock: ManualClock
) -> None:
    made = await rule_store.create("acme", body(), "operator:ann")
    assert (made.version, made.rule.name, made.rule.cooldown_seconds) == (1, "A", 900.0)
    assert await rule_store.get("acme", made.rule.id) == made
    await clock.advance(60)
    changed = await rule_store.update("acme", made.rule.id, body(threshold=2), "operator:ann")
    assert (changed.version, changed.rule.threshold) == (2, 2.0)
    assert (changed.created_at, changed.updated_at) == (made.created_at, made.created_at + 60)
    again = await rule_store.update("acme", made.rule.id, body(threshold=2), "operator:ann")
    assert again == changed
    assert [stored.rule.threshold for stored in await rule_store.list("acme")] == [2.0]
    await rule_store.delete("acme", made.rule.id, "operator:ann")
    with pytest.raises(NotFound):
        await rule_store.get("acme", made.rule.id)
    assert await actions(database) == ["rule.created", "rule.updated", "rule.deleted"]


async def test_another_tenants_rule_is_a_missing_one(rule_store: RuleStore) -> None:
    made = await rule_store.create("acme", body(), "x")
    for attempt in (
        rule_store.get("other", made.rule.id),
        rule_store.update("other", made.rule.id, body(), "x"),
        rule_store.delete("other", made.rule.id, "x"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await rule_store.list("other") == []
    await rule_store.create("other", body(), "x")  # names are a tenant's own


async def test_names_are_unique(rule_store: RuleStore, database: Database) -> None:
    made = await rule_store.create("acme", body("A"), "x")
    other = await rule_store.create("acme", body("B"), "x")
    with pytest.raises(Conflict, match=made.rule.id):
        await rule_store.create("acme", body("A"), "x")
    with pytest.raises(Conflict, match=made.rule.id):
        await rule_store.update("acme", other.rule.id, body("A"), "x")
    results = await asyncio.gather(
        *(rule_store.create("acme", body("C"), "x") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, Conflict) for result in results) == 4
    assert len(await actions(database)) == 3


async def test_as_many_rules_as_the_quota_says_and_no_more(
    rule_store: RuleStore, database: Database, clock: ManualClock
) -> None:
    for i in range(RULES_MAX - 1):
        await rule_store.create("acme", body(f"r{i}"), "x")
    replica = RuleStore(database, clock, 900.0, quota)
    results = await asyncio.gather(
        *(store.create("acme", body(f"{i}"), "x") for i, store in enumerate((rule_store, replica))),
        return_exceptions=True,
    )
    (refused,) = [result for result in results if isinstance(result, OverLimit)]
    assert str(refused) == "the tenant has 5 rules and may have 5; delete one first"
    await rule_store.create("other", body(), "x")
    (first, *_) = await rule_store.list("acme")
    await rule_store.update("acme", first.rule.id, body(first.rule.name, threshold=9), "x")
    await rule_store.delete("acme", first.rule.id, "x")
    await rule_store.create("acme", body("room again"), "x")


async def test_rules_are_listed_anew_also_when_a_slower_clock_made_them(
    rule_store: RuleStore, database: Database, clock: ManualClock
) -> None:
    behind = ManualClock(clock.now() - 60)
    replica = RuleStore(database, behind, 900.0, quota)
    first = await replica.create("acme", body("A"), "x")
    await rule_store.create("acme", body("B"), "x")
    assert [stored.rule.name for stored in await rule_store.list("acme")] == ["A", "B"]
    await replica.delete("acme", first.rule.id, "x")
    await behind.advance(1)
    await replica.create("acme", body("C"), "x")
    assert [stored.rule.name for stored in await rule_store.list("acme")] == ["B", "C"]


async def test_a_wrong_rule_is_not_kept(rule_store: RuleStore, database: Database) -> None:
    with pytest.raises(RuleError):
        await rule_store.create("acme", body(condition="above"), "x")
    assert await actions(database) == []


async def test_all_that_holds_for_a_tenant(rule_store: RuleStore) -> None:
    book = parse_file(
        b"alert_rules:\n"
        b"  - {name: All, query: up, condition: no_data}\n"
        b"  - {name: Theirs, query: up, condition: no_data, tenant: other}\n",
        "rules.yaml",
        900.0,
    )
    await rule_store.create("acme", body("Own", enabled=False), "x")
    assert [rule.name for rule in await rule_store.all_for("acme", book)] == ["All", "Own"]
    assert [rule.name for rule in await rule_store.all_for("other", book)] == ["All", "Theirs"]


async def test_one_that_cannot_be_read_costs_no_other(
    rule_store: RuleStore, database: Database
) -> None:
    made = await rule_store.create("acme", body("A"), "x")
    await rule_store.create("acme", body("B"), "x")
    async with database.begin() as connection:
        await connection.execute(
            text("UPDATE rules SET body = '{}', version = 2 WHERE id = :id"), {"id": made.rule.id}
        )
    assert [rule.name for rule in await rule_store.all_for("acme", RuleBook())] == ["B"]


async def test_health_is_shared_and_ends(redis: Redis) -> None:
    worker, api = RuleHealth(redis), RuleHealth(redis)
    assert await api.errors("acme") == {}
    await worker.report("acme", {"r1": "it broke", "r2": "x" * 1000})
    found = await api.errors("acme")
    assert (found["r1"], len(found["r2"])) == ("it broke", 500)
    assert await api.errors("other") == {}
    await worker.report("acme", {"r2": "still"})
    assert await api.errors("acme") == {"r2": "still"}
    await worker.report("acme", {})
    assert await api.errors("acme") == {}


async def test_a_store_that_is_down_costs_the_hint_only() -> None:
    client = connect("unix:///nowhere.sock")
    health = RuleHealth(client)
    await health.report("acme", {"r1": "it broke"})
    assert await health.errors("acme") == {}
    await client.aclose()
