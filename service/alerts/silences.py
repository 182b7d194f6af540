"""Silences, kept in SQL: made, changed and ended by people, each time with a line in the audit log.

A change is in force when it returns: whoever tells of alerts reads the silences when he does.
"""

import math
import re
import uuid
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.quiet import rouse, silence_of, silences_of
from service.domain.clock import Clock, iso
from service.domain.errors import InvalidInput, NotFound, OverLimit, Unprocessable
from service.domain.series import MatchType
from service.domain.silences import Draft, Edit, Silence, SilenceState, check, edit
from service.query.matchers import accepts, check_pattern
from service.security import audit
from service.storage.sql.engine import Database
from service.storage.sql.statements import lock_tenant
from service.storage.sql.tables import silences

#: Silences of a tenant that have not ended, and ended ones that are kept.
LIVE_MAX, ENDED_MAX = 500, 5000
#: Ended ones are kept so long, and as long as training looks back.
KEPT_SECONDS = 90 * 86_400.0

# Microseconds and id, as in the lists of alerts.
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})")
_PATTERNS = (MatchType.REGEX, MatchType.NOT_REGEX)


class Silences:
    """Makes, changes, ends and reads silences. `look_back` (seconds) is how far training looks."""

    def __init__(self, database: Database, clock: Clock, look_back: float) -> None:
        self._database, self._clock = database, clock
        self._kept = max(KEPT_SECONDS, look_back)

    async def create(self, tenant: str, wanted: Draft, actor: str) -> Silence:
        """A new silence. One that was to begin in the past begins now.

        Raises `Unprocessable`, and `OverLimit` for a tenant that has as many as it may.
        """
        now = _milliseconds(self._clock.now())
        wanted = _checked(wanted, now)
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            return await self._insert(connection, tenant, wanted, actor, now)

    async def update(self, tenant: str, silence_id: str, wanted: Draft, actor: str) -> Silence:
        """The silence as it is wanted; under a new id where `domain.silences.edit` says so.

        Raises `Unprocessable`, `NotFound`, and `Conflict` for one that has ended.
        """
        now = _milliseconds(self._clock.now())
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            before = await _one(connection, tenant, silence_id)
            if wanted.starts_at is not None:
                wanted = replace(wanted, starts_at=_milliseconds(wanted.starts_at))
            wanted = replace(wanted, ends_at=_milliseconds(wanted.ends_at))
            way = edit(before, wanted, now)
            if way is Edit.NOTHING:
                return before
            if way is Edit.REPLACE:
                wanted = _checked(wanted, now)
                await _end(connection, before, actor, now)
                after = await self._insert(connection, tenant, wanted, actor, now)
            else:
                begun = before.state(now) is SilenceState.ACTIVE
                starts_at = before.starts_at if wanted.starts_at is None else wanted.starts_at
                wanted = replace(wanted, starts_at=starts_at)
                wanted = _checked(wanted, starts_at if begun else now, now)
                after = _made(before.id, tenant, wanted, before.created_by, before.created_at)
                after = replace(after, updated_at=now)
                await connection.execute(
                    update(silences)
                    .where(silences.c.tenant == tenant, silences.c.id == silence_id)
                    .values(**_row(after))
                )
                await _note(connection, "silence.updated", after, actor, now)
            await rouse(connection, tenant, now)
        return after

    async def expire(self, tenant: str, silence_id: str, actor: str) -> Silence:
        """End a silence now; one that has ended stays as it is. `NotFound`."""
        now = _milliseconds(self._clock.now())
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            before = await _one(connection, tenant, silence_id)
            if before.state(now) is SilenceState.EXPIRED:
                return before
            after = await _end(connection, before, actor, now)
            await rouse(connection, tenant, now)
        return after

    async def get(self, tenant: str, silence_id: str) -> Silence:
        """One silence; `NotFound`."""
        async with self._database.read() as connection:
            return await _one(connection, tenant, silence_id)

    async def list(
        self,
        tenant: str,
        state: SilenceState | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Silence], str | None]:
        """Silences, newest first, and the cursor of the page that follows, if one does.

        Raises `InvalidInput` for a cursor that this function did not give.
        """
        now = self._clock.now()
        query = select(silences).where(silences.c.tenant == tenant)
        if state is SilenceState.EXPIRED:
            query = query.where(silences.c.ends_at <= now)
        elif state is not None:
            begun = silences.c.starts_at <= now
            wanted = begun if state is SilenceState.ACTIVE else ~begun
            query = query.where(silences.c.ends_at > now, wanted)
        if cursor is not None:
            at, id = _position(cursor)
            created = silences.c.created_at
            query = query.where(or_(created < at, and_(created == at, silences.c.id < id)))
        query = query.order_by(silences.c.created_at.desc(), silences.c.id.desc())
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).mappings().all()
        if len(rows) <= limit:
            return silences_of(rows), None
        last = rows[limit - 1]
        return silences_of(rows[:limit]), f"{round(last['created_at'] * 1e6)}-{last['id']}"

    async def _insert(
        self, connection: AsyncConnection, tenant: str, wanted: Draft, actor: str, now: float
    ) -> Silence:
        await self._prune(connection, tenant, now)
        held = await connection.scalar(
            select(func.count())
            .select_from(silences)
            .where(silences.c.tenant == tenant, silences.c.ends_at > now)
        )
        if (held or 0) >= LIVE_MAX:
            raise OverLimit(
                f"the tenant has {held} silences that have not ended and may have {LIVE_MAX}; "
                "end one first",
                retry_after=math.inf,  # no waiting helps that one can count on
            )
        made = _made(uuid.uuid4().hex, tenant, wanted, actor[:240], now)
        await connection.execute(insert(silences).values(**_row(made)))
        await _note(connection, "silence.created", made, actor, now)
        return made

    async def _prune(self, connection: AsyncConnection, tenant: str, now: float) -> None:
        """Forget what ended long ago, and of more the oldest."""
        mine = silences.c.tenant == tenant
        newest = (
            select(silences.c.ends_at)
            .where(mine, silences.c.ends_at <= now)
            .order_by(silences.c.ends_at.desc())
            .offset(ENDED_MAX)
            .limit(1)
        )
        beyond: float | None = await connection.scalar(newest)
        oldest = max(now - self._kept, beyond or 0.0)
        await connection.execute(delete(silences).where(mine, silences.c.ends_at <= oldest))


def _checked(wanted: Draft, earliest: float, now: float | None = None) -> Draft:
    """The draft to the millisecond, its beginning no earlier than `earliest`."""
    for number, matcher in enumerate(wanted.matchers):
        if matcher.type in _PATTERNS:
            try:
                check_pattern(matcher.value)
            except InvalidInput as error:
                raise Unprocessable(str(error), where=f"matchers.{number}.value") from error
    starts_at = earliest if wanted.starts_at is None else max(wanted.starts_at, earliest)
    wanted = replace(
        wanted, starts_at=_milliseconds(starts_at), ends_at=_milliseconds(wanted.ends_at)
    )
    check(wanted, earliest if now is None else now, accepts)
    return wanted


def _milliseconds(seconds: float) -> float:
    # As answers show it, so that what is sent back is the same; rounded down, it has begun.
    return math.floor(seconds * 1000) / 1000


def _made(id: str, tenant: str, wanted: Draft, actor: str, created_at: float) -> Silence:
    return Silence(
        id=id,
        tenant=tenant,
        kind=wanted.kind,
        matchers=wanted.matchers,
        starts_at=created_at if wanted.starts_at is None else wanted.starts_at,
        ends_at=wanted.ends_at,
        created_by=actor,
        comment=wanted.comment.strip(),
        created_at=created_at,
        updated_at=created_at,
    )


def _row(silence: Silence) -> dict[str, Any]:
    row = {column.name: getattr(silence, column.name) for column in silences.c}
    row["kind"] = str(silence.kind)
    row["matchers"] = [[m.name, str(m.type), m.value] for m in silence.matchers]
    return row


async def _one(connection: AsyncConnection, tenant: str, silence_id: str) -> Silence:
    query = select(silences).where(silences.c.tenant == tenant, silences.c.id == silence_id)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise NotFound(f"there is no silence {silence_id[:64]!r}")
    return silence_of(row)


async def _end(connection: AsyncConnection, before: Silence, actor: str, now: float) -> Silence:
    after = replace(before, starts_at=min(before.starts_at, now), ends_at=now, updated_at=now)
    await connection.execute(
        update(silences)
        .where(silences.c.tenant == before.tenant, silences.c.id == before.id)
        .values(**_row(after))
    )
    await _note(connection, "silence.expired", after, actor, now)
    return after


async def _note(
    connection: AsyncConnection, action: str, silence: Silence, actor: str, at: float
) -> None:
    await audit.record(
        connection,
        tenant=silence.tenant,
        actor=actor,
        action=action,
        subject=silence.id,
        detail={
            "kind": str(silence.kind),
            "matchers": [str(matcher) for matcher in silence.matchers],
            "starts_at": iso(silence.starts_at),
            "ends_at": iso(silence.ends_at),
            "comment": silence.comment,
        },
        at=at,
    )


def _position(cursor: str) -> tuple[float, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidInput("cursor is none that this list gave", where="cursor")
    return int(found[1]) / 1e6, found[2]
