"""Both databases behave alike; the migrations make exactly the tables of the code."""

import asyncio

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, inspect, select

from service.domain.errors import ConfigurationError
from service.storage.sql.engine import Database, async_url
from service.storage.sql.migrate import alembic_config, latest_revision, migrate
from service.storage.sql.tables import metadata, tenants, timers


async def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda c: compare_metadata(
                MigrationContext.configure(c, opts={"compare_type": True}), metadata
            )
        )
    assert differences == []


async def test_migrating_again_changes_nothing(database: Database) -> None:
    assert await migrate(database) == latest_revision() != ""


async def test_a_tenant_of_the_first_tables_keeps_its_limits(database: Database) -> None:
    async with database.begin() as c:
        await c.execute(insert(tenants).values(id="a", name="A", created_at=1.0, series=7))
        await c.run_sync(lambda connection: command.downgrade(alembic_config(connection), "0001"))
    async with database.read() as c:
        assert "usage" not in await c.run_sync(lambda s: inspect(s).get_table_names())
    assert await migrate(database) == latest_revision()
    async with database.read() as c:
        row = (await c.execute(select(tenants))).one()
    assert (row.series, row.rules, row.samples_per_second) == (7, None, None)


async def test_times_come_back_as_the_seconds_they_were(database: Database) -> None:
    moment = 1_700_000_000.123
    async with database.begin() as c:
        await c.execute(insert(tenants).values(id="a", name="A", created_at=moment))
    async with database.read() as c:
        assert (await c.execute(select(tenants.c.created_at))).scalar_one() == pytest.approx(
            moment, abs=1e-6
        )


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    async def fail_midway() -> None:
        async with database.begin() as c:
            await c.execute(insert(tenants).values(id="a", name="A", created_at=1.0))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        await fail_midway()
    async with database.read() as c:
        assert (await c.execute(select(tenants))).all() == []


async def test_concurrent_writers_wait_for_their_turn(database: Database) -> None:
    async def write(i: int) -> None:
        async with database.begin() as c:
            rows = (await c.execute(select(timers.c.id))).all()
            await c.execute(
                insert(timers).values(
                    id=f"{i}-{len(rows)}", tenant="a", kind="x", due_at=1.0, payload={}
                )
            )

    await asyncio.gather(*(write(i) for i in range(20)))
    async with database.read() as c:
        assert len((await c.execute(select(timers))).all()) == 20


def test_an_unknown_database_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'mysql' is not a database we know"):
        async_url("mysql://x")
