"""The audit log: with its change or not at all, newest first, a tenant's own."""

import pytest

from service.domain.errors import InvalidInput
from service.security import audit
from service.storage.sql.engine import Database


async def _write(database: Database, tenant: str, count: int) -> None:
    async with database.begin() as connection:
        for n in range(count):
            await audit.record(
                connection,
                tenant=tenant,
                actor="operator:ann",
                action="rule.created",
                subject=f"rule-{n}",
                detail={"n": n},
                at=1000.0 + n,
            )


async def test_pages_walk_a_tenants_entries_once_newest_first(database: Database) -> None:
    await _write(database, "acme", 7)
    await _write(database, "other", 3)
    await _write(database, "acme", 1)
    seen, cursor = [], None
    while True:
        entries, cursor = await audit.page(database, "acme", cursor, limit=3)
        seen += entries
        if cursor is None:
            break
    assert [e.subject for e in seen] == ["rule-0", *(f"rule-{n}" for n in range(6, -1, -1))]
    assert {e.tenant for e in seen} == {"acme"}
    assert (seen[1].at, seen[1].detail) == (1006.0, {"n": 6})


async def test_a_page_that_fits_exactly_has_no_next(database: Database) -> None:
    await _write(database, "acme", 3)
    entries, cursor = await audit.page(database, "acme", limit=3)
    assert len(entries) == 3
    assert cursor is None


async def test_a_change_that_fails_leaves_no_entry(database: Database) -> None:
    async def change_and_fail() -> None:
        async with database.begin() as connection:
            await audit.record(
                connection, tenant="acme", actor="a", action="b", subject="c", at=1.0
            )
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        await change_and_fail()
    assert await audit.page(database, "acme") == ([], None)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1 ", "٣", "1.5", "9" * 30, "\x00"])
async def test_a_foreign_cursor_is_invalid_input(sqlite: Database, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        await audit.page(sqlite, "acme", cursor)


async def test_the_largest_cursor_is_harmless(database: Database) -> None:
    await _write(database, "acme", 1)
    entries, _ = await audit.page(database, "acme", "9999999999")
    assert len(entries) == 1


async def test_long_actors_and_subjects_fit(database: Database) -> None:
    async with database.begin() as connection:
        await audit.record(
            connection, tenant="acme", actor="a" * 999, action="b", subject="c" * 999, at=1.0
        )
    entries, _ = await audit.page(database, "acme")
    assert (len(entries[0].actor), len(entries[0].subject)) == (240, 240)
