"""The few statements that SQLite and PostgreSQL write differently."""

from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

#: Tells our advisory locks from those of other programs in the same database.
_LOCK_CLASS = 0x0FFB


async def lock_tenant(connection: AsyncConnection, tenant: str) -> None:
    """Let the transactions that take this lock for a tenant follow one another, to their ends.

    Take it first, before any row. On SQLite a transaction that may write holds such a lock anyway.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:class, hashtext(:tenant))"),
            {"class": _LOCK_CLASS, "tenant": tenant},
        )


def insert_new(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that leaves rows alone which exist already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
