"""The few statements that SQLite and PostgreSQL write differently."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Table, func, text
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


def insert_or_raise(connection: AsyncConnection, table: Table, columns: Iterable[str]) -> Any:
    """An INSERT that raises the columns of rows which exist already to its values, if larger."""
    query: Any
    larger: Any
    if connection.dialect.name == "postgresql":
        query, larger = postgresql.insert(table), func.greatest
    else:
        query, larger = sqlite.insert(table), func.max  # of two arguments it is no aggregate
    raised = {name: larger(table.c[name], query.excluded[name]) for name in columns}
    return query.on_conflict_do_update(index_elements=list(table.primary_key), set_=raised)
