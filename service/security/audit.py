"""The audit log: who changed what, when. Rows are only ever added; a tenant's leave with it.

A row is written in the transaction of the change it tells of, so that neither exists without the
other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import InvalidInput
from service.storage.sql.engine import Database
from service.storage.sql.tables import audit

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log. `at` is Unix seconds."""

    id: int
    at: float
    tenant: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


async def record(
    connection: AsyncConnection,
    *,
    tenant: str,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
    at: float,
) -> None:
    """Add a row within the caller's transaction.

    `action` is `thing.verb` in the past tense (`rule.created`), `subject` the thing's id. Never
    hand a secret into `detail`.
    """
    await connection.execute(
        insert(audit).values(
            at=at,
            tenant=tenant,
            actor=actor[:240],
            action=action[:64],
            subject=subject[:240],
            detail=dict(detail or {}),
        )
    )


async def page(
    database: Database, tenant: str, cursor: str | None = None, limit: int = 100
) -> tuple[list[Entry], str | None]:
    """A tenant's entries, newest first, and the cursor of the page that follows, if one does.

    Raises `InvalidInput` for a cursor that this function did not give.
    """
    query = select(audit).where(audit.c.tenant == tenant).order_by(audit.c.id.desc())
    if cursor is not None:
        query = query.where(audit.c.id < _position(cursor))
    async with database.read() as connection:
        rows = (await connection.execute(query.limit(limit + 1))).all()
    entries = [
        Entry(row.id, row.at, row.tenant, row.actor, row.action, row.subject, row.detail)
        for row in rows[:limit]
    ]
    return entries, str(entries[-1].id) if len(rows) > limit else None


def _position(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 10):
        raise InvalidInput("cursor is none that this list gave", where="cursor")
    return min(int(cursor), _LARGEST_ID)
