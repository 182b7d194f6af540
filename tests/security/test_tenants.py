"""Tenants: life, limits, and what deleting one removes."""

import asyncio
from dataclasses import asdict, replace

import pytest
from sqlalchemy import func, select

from service.domain.clock import ManualClock
from service.domain.errors import Conflict, InvalidInput, NotFound, Unprocessable
from service.domain.quotas import Quota, in_force
from service.domain.tenants import PLATFORM, Role, Tenant
from service.security import audit
from service.security.keys import KeyRing
from service.security.tenants import REMEMBER_SECONDS, TenantStore
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import api_keys, metadata
from service.storage.sql.tables import audit as audit_table


@pytest.fixture
def forgotten() -> list[str]:
    return []


@pytest.fixture
def tenants(database: Database, clock: ManualClock, forgotten: list[str]) -> TenantStore:
    async def forget(tenant: str) -> None:
        forgotten.append(tenant)

    return TenantStore(database, clock, forget, Settings())


async def test_a_tenant_is_made_once(tenants: TenantStore, clock: ManualClock) -> None:
    made = await tenants.create("acme", " Acme ", "admin:root")
    assert (made.name, made.created_at) == ("Acme", clock.now())
    assert await tenants.get("acme") == made
    with pytest.raises(Conflict):
        await tenants.create("acme", "Again", "admin:root")
    results = await asyncio.gather(
        *(tenants.create("race", "Race", "admin:root") for _ in range(4)), return_exceptions=True
    )
    assert sum(isinstance(r, Conflict) for r in results) == 3


@pytest.mark.parametrize("tenant", ["-", "", "A", "a b", "a/b", "-a", "a-", "é", "a\x00", "a" * 65])
async def test_ids_that_do_not_fit_are_refused_and_missing(
    tenants: TenantStore, tenant: str
) -> None:
    with pytest.raises(Unprocessable):
        await tenants.create(tenant, "X", "admin:root")
    with pytest.raises(NotFound):
        await tenants.get(tenant)


async def test_pages_walk_the_tenants_by_id(tenants: TenantStore) -> None:
    for n in (3, 1, 2, 5, 4):
        await tenants.create(f"t{n}", f"T{n}", "admin:root")
    first, cursor = await tenants.list(limit=2)
    second, cursor = await tenants.list(cursor, limit=2)
    third, cursor = await tenants.list(cursor, limit=2)
    assert [t.id for t in first + second + third] == ["t1", "t2", "t3", "t4", "t5"]
    assert cursor is None
    with pytest.raises(InvalidInput):
        await tenants.list("no cursor")


async def test_a_quota_sets_what_it_names(tenants: TenantStore) -> None:
    await tenants.create("acme", "Acme", "admin:root")
    await tenants.set_quota("acme", {"series": 5}, "admin:root")
    changed = await tenants.set_quota("acme", {"sample_age_seconds": 86400}, "admin:root")
    assert (changed.series, changed.sample_age_seconds) == (5, 86400.0)
    reset = await tenants.set_quota("acme", {"series": None}, "admin:root")
    assert (reset.series, reset.sample_age_seconds) == (None, 86400.0)


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ({"samples": 1}, "samples_per_second, requests_per_second, series"),
        ({"series": 0}, "between 1 and"),
        ({"series": 10**12}, "between 1 and"),
        ({"sample_age_seconds": float("nan")}, "between 1 and"),
        ({}, "at least one"),
    ],
)
async def test_a_wrong_quota_says_what_is_right(
    tenants: TenantStore, quota: dict[str, float], message: str
) -> None:
    await tenants.create("acme", "Acme", "admin:root")
    with pytest.raises(Unprocessable, match=message):
        await tenants.set_quota("acme", quota, "admin:root")
    with pytest.raises(NotFound):
        await tenants.set_quota("nobody", {"series": 5}, "admin:root")


async def test_limits_are_at_most_two_seconds_old(
    tenants: TenantStore, database: Database, clock: ManualClock
) -> None:
    async def forget(_tenant: str) -> None:
        return None

    replica = TenantStore(database, clock, forget, Settings())
    await tenants.create("acme", "Acme", "admin:root")
    assert (await replica.limits("acme")).series is None
    await tenants.set_quota("acme", {"series": 5}, "admin:root")
    assert (await tenants.limits("acme")).series == 5
    await clock.advance(REMEMBER_SECONDS)
    assert (await replica.limits("acme")).series == 5
    assert (await replica.quota("acme")).series == 5
    with pytest.raises(NotFound):
        await replica.limits("nobody")


def test_the_limits_in_force_are_the_tenants_own_and_else_the_shipped_ones() -> None:
    shipped = Settings().shipped_quota
    plain = Tenant("acme", "Acme", 1.0)
    assert in_force(plain, shipped, 1e9) == shipped
    assert in_force(plain, shipped, 60.0) == replace(shipped, sample_age_seconds=60.0)
    own = Quota(1.0, 2.0, 3, 4, 5, 6, 7.0)
    assert in_force(replace(plain, **asdict(own)), shipped, 1e9) == own


async def test_deleting_removes_every_row_and_nobody_elses(
    tenants: TenantStore, database: Database, clock: ManualClock, forgotten: list[str]
) -> None:
    ring = KeyRing(database, clock)
    for tenant in ("acme", "other"):
        await tenants.create(tenant, tenant, "admin:root")
        await ring.create(tenant, Role.READER, "r", "admin:root")
    await tenants.limits("acme")
    await tenants.delete("acme", "admin:root")
    assert forgotten == ["acme"]
    for call in (tenants.get, tenants.limits):
        with pytest.raises(NotFound):
            await call("acme")
    async with database.read() as connection:
        for table in metadata.sorted_tables:
            if "tenant" in table.c:
                count = select(func.count()).where(table.c.tenant == "acme")
                assert (await connection.execute(count)).scalar_one() == 0, table.name
    assert len(await ring.list("other")) == 1
    entries, _ = await audit.page(database, PLATFORM)
    assert (entries[0].action, entries[0].subject) == ("tenant.deleted", "acme")


async def test_a_deletion_that_failed_half_way_can_be_asked_for_again(
    database: Database, clock: ManualClock
) -> None:
    attempts = []

    async def forget(tenant: str) -> None:
        attempts.append(tenant)
        if len(attempts) == 1:
            raise ConnectionError("the store is down")

    tenants = TenantStore(database, clock, forget, Settings())
    await tenants.create("acme", "Acme", "admin:root")
    await KeyRing(database, clock).create("acme", Role.WRITER, "w", "admin:root")
    with pytest.raises(ConnectionError):
        await tenants.delete("acme", "admin:root")
    async with database.read() as connection:
        assert (await connection.execute(select(api_keys))).first() is None, "keys end first"
    await tenants.delete("acme", "admin:root")
    assert attempts == ["acme", "acme"]


async def test_changes_are_audited_with_the_tenant(
    tenants: TenantStore, database: Database
) -> None:
    await tenants.create("acme", "Acme", "admin:root")
    await tenants.rename("acme", "Acme Ltd", "admin:root")
    await tenants.set_quota("acme", {"series": 5}, "admin:root")
    async with database.read() as connection:
        rows = await connection.execute(select(audit_table).order_by(audit_table.c.id))
        assert [(r.tenant, r.action, r.detail) for r in rows] == [
            (PLATFORM, "tenant.created", {"name": "Acme"}),
            ("acme", "tenant.renamed", {"name": "Acme Ltd"}),
            ("acme", "tenant.quota_set", {"series": 5}),
        ]
