"""The outbox: what is to be sent, in the database, written in the transaction that decided it.

    pending ──claim──▶ sending(lease) ──▶ sent | retry | silenced | dead | cancelled
       ▲                    │
       └──lease expired─────┘  with the same id, which every receiver that deduplicates gets

What a claim returned may be changed only by whoever holds that claim: each `mark_*` compares the
lease, so that a dispatcher that was away too long cannot overwrite what another one did since.
No transaction is open while a message is on its way.
"""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.quiet import in_force, last_end
from service.alerts.records import alert_of
from service.domain.alerts import EventKind
from service.domain.clock import Clock
from service.domain.errors import Conflict
from service.domain.notifications import DeliveryState, Notification
from service.domain.silences import Quiet
from service.notify.rows import (
    LANE_CLAIM,
    WAITING,
    AlertStatus,
    Claim,
    Delivery,
    DeliveryFilter,
    Lane,
    candidates,
    cursor_after,
    delivery,
    due,
    notification,
    one,
    position,
)
from service.security import audit
from service.storage.sql.engine import Database
from service.storage.sql.statements import lock_tenant
from service.storage.sql.tables import alert_events, alerts, outbox

#: Who the timeline says it was.
ACTOR = "dispatcher"

_ERROR_MAX = 1000


def _any_room(_lane: Lane) -> int:
    return LANE_CLAIM


class Outbox:
    """Claims, results and replays of the rows in `outbox`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, notification: Notification, *, actor: str) -> None:
        """Put one row in that no alert caused (a test), due now; audited."""
        now = self._clock.now()
        async with self._database.begin() as connection:
            await connection.execute(
                insert(outbox).values(
                    id=notification.id,
                    tenant=notification.tenant,
                    alert_id=notification.alert_id,
                    kind=notification.kind,
                    step=notification.step,
                    channel=notification.channel,
                    payload=notification.payload,
                    state=DeliveryState.PENDING,
                    attempts=0,
                    created_at=now,
                    due_at=now,
                )
            )
            await audit.record(
                connection,
                tenant=notification.tenant,
                actor=actor,
                action=f"notification.{notification.kind}",
                subject=notification.id,
                detail={"channel": notification.channel},
                at=now,
            )

    async def claim(
        self,
        limit: int,
        lease_seconds: float,
        now: float,
        *,
        room: Callable[[Lane], int] = _any_room,
        full: Collection[Lane] = (),
        ours: Collection[str] = (),
    ) -> list[Claim]:
        """Take up to `limit` rows that are due, fairly over lanes, for `lease_seconds`.

        Due are waiting rows whose time has come and `sending` ones whose lease has expired, unless
        an earlier row of the same alert and channel is unfinished: people read "firing" before
        "resolved". `room` says how many more rows a lane may take (at most `LANE_CLAIM` a claim),
        lanes in `full` and ids in `ours` (in flight here) are left alone.
        """
        async with self._database.begin() as connection:
            found = (await connection.execute(candidates(limit * 2, now, full, ours))).all()
            chosen: list[str] = []
            left: dict[Lane, int] = {}
            for row in found:
                lane = (row.tenant, row.channel)
                left.setdefault(lane, room(lane))
                if left[lane] > 0 and len(chosen) < limit:
                    left[lane] -= 1
                    chosen.append(row.id)
            if not chosen:
                return []
            # Between the two statements another replica may have taken some; the condition is
            # judged again on the locked row.
            locked = select(outbox).where(outbox.c.id.in_(chosen), due(now))
            if not self._database.is_sqlite:
                locked = locked.with_for_update(skip_locked=True)
            rows = {row.id: row for row in await connection.execute(locked)}
            lease_until = now + lease_seconds
            await connection.execute(
                update(outbox)
                .where(outbox.c.id.in_(list(rows)))
                .values(state=DeliveryState.SENDING, lease_until=lease_until)
            )
        return [Claim(notification(rows[id]), lease_until) for id in chosen if id in rows]

    async def mark_sent(self, claim: Claim) -> bool:
        """It went out. Tells the alert's timeline; False if the claim is no longer ours."""
        now = self._clock.now()
        async with self._database.begin() as connection:
            ours = await self._finish(
                connection,
                claim,
                state=DeliveryState.SENT,
                attempts=claim.notification.attempts + 1,
                sent_at=now,
                last_error=None,
            )
            if ours:
                await self._tell(connection, claim.notification, EventKind.NOTIFIED, now)
        return ours

    async def mark_retry(self, claim: Claim, next_at: float, error: str) -> bool:
        """It failed for now; due again at `next_at`. False if the claim is no longer ours."""
        async with self._database.begin() as connection:
            return await self._finish(
                connection,
                claim,
                state=DeliveryState.RETRY,
                attempts=claim.notification.attempts + 1,
                due_at=next_at,
                last_error=error[:_ERROR_MAX],
            )

    async def mark_dead(self, claim: Claim, error: str) -> bool:
        """It failed for good. The timeline says so; False if the claim is no longer ours."""
        return await self._give_up(claim, DeliveryState.DEAD, error, burnt=1)

    async def mark_cancelled(self, claim: Claim, reason: str) -> bool:
        """Nobody needs it any more. The timeline says why; False if it is no longer ours."""
        return await self._give_up(claim, DeliveryState.CANCELLED, reason, burnt=0)

    async def mark_silenced(self, claim: Claim, quiet: Quiet) -> bool:
        """It waits, untried, for the end of the silences. The timeline says so once.

        False if the claim is no longer ours.
        """
        now = self._clock.now()
        tenant = claim.notification.tenant
        async with self._database.begin() as connection:
            # Whoever ends one meanwhile wakes what waits, and this may not wait yet.
            await lock_tenant(connection, tenant)
            until = await last_end(connection, tenant, quiet.ids)
            before = await one(connection, tenant, claim.notification.id)
            ours = await self._finish(
                connection,
                claim,
                state=DeliveryState.SILENCED,
                due_at=max(now, until),
                last_error=quiet.text[:_ERROR_MAX],
            )
            if ours and before.last_error != quiet.text[:_ERROR_MAX]:
                await self._tell(
                    connection, claim.notification, EventKind.SUPPRESSED, now, **quiet.detail
                )
        return ours

    async def release(
        self, claim: Claim, *, due_at: float | None = None, reason: str | None = None
    ) -> bool:
        """Put it back untried: no attempt is counted. Due at `due_at`, by default as before."""
        values: dict[str, Any] = {"state": DeliveryState.RETRY if reason else DeliveryState.PENDING}
        if due_at is not None:
            values["due_at"] = due_at
        if reason is not None:
            values["last_error"] = reason[:_ERROR_MAX]
        async with self._database.begin() as connection:
            return await self._finish(connection, claim, **values)

    async def postpone(self, tenant: str, channel: str, until: float, reason: str) -> int:
        """Let every due row of a lane wait until `until`, untried; returns how many did."""
        async with self._database.begin() as connection:
            done = await connection.execute(
                update(outbox)
                .where(
                    outbox.c.tenant == tenant,
                    outbox.c.channel == channel,
                    outbox.c.state.in_((DeliveryState.PENDING, DeliveryState.RETRY)),
                    outbox.c.due_at < until,
                )
                .values(state=DeliveryState.RETRY, due_at=until, last_error=reason[:_ERROR_MAX])
            )
        return done.rowcount

    async def next_due(self) -> float | None:
        """When the next row is due or its lease expires; None if nothing is open."""
        async with self._database.read() as connection:
            waiting = await connection.scalar(
                select(func.min(outbox.c.due_at)).where(outbox.c.state.in_(WAITING))
            )
            leased = await connection.scalar(
                select(func.min(outbox.c.lease_until)).where(
                    outbox.c.state == DeliveryState.SENDING
                )
            )
        return min((at for at in (waiting, leased) if at is not None), default=None)

    async def waiting(self) -> int:
        """Notifications of all tenants that are to go out, those under way included."""
        open_states = (DeliveryState.PENDING, DeliveryState.RETRY, DeliveryState.SENDING)
        query = select(func.count()).select_from(outbox).where(outbox.c.state.in_(open_states))
        async with self._database.read() as connection:
            return await connection.scalar(query) or 0

    async def alert_status(self, tenant: str, alert_id: str) -> AlertStatus | None:
        """What has become of an alert and what keeps it quiet now, None if it is gone."""
        now = self._clock.now()
        query = select(alerts).where(alerts.c.tenant == tenant, alerts.c.id == alert_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            if row is None:
                return None
            silences = await in_force(connection, tenant, now)
        alert = alert_of(row)
        return AlertStatus(alert.resolved_at, alert.acknowledged_at, silences.keeps(alert))

    async def list(
        self,
        tenant: str,
        filters: DeliveryFilter | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Delivery], str | None]:
        """A tenant's rows, newest first, and the cursor of the page that follows, if one does.

        Raises `InvalidInput` for a cursor that this function did not give.
        """
        filters = filters or DeliveryFilter()
        if filters.alert_id is not None and not filters.alert_id.isalnum():
            return [], None  # no id of ours; PostgreSQL takes no NUL
        query = select(outbox).where(outbox.c.tenant == tenant)
        if filters.alert_id is not None:
            query = query.where(outbox.c.alert_id == filters.alert_id)
        if filters.state is not None:
            query = query.where(outbox.c.state == filters.state)
        if cursor is not None:
            at, id = position(cursor)
            query = query.where(
                or_(
                    outbox.c.created_at < at,
                    and_(outbox.c.created_at == at, outbox.c.id < id),
                )
            )
        query = query.order_by(outbox.c.created_at.desc(), outbox.c.id.desc()).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        shown = [delivery(row) for row in rows[:limit]]
        return shown, cursor_after(shown[-1]) if len(rows) > limit else None

    async def get(self, tenant: str, id: str) -> Delivery:
        """One row; `NotFound` if there is none of that id for this tenant."""
        async with self._database.read() as connection:
            return delivery(await one(connection, tenant, id))

    async def replay(self, tenant: str, id: str, *, actor: str) -> Delivery:
        """Send a dead row once more, as if it were new; audited.

        Raises `NotFound`, and `Conflict` for a row that is not dead.
        """
        now = self._clock.now()
        async with self._database.begin() as connection:
            row = await one(connection, tenant, id)
            done = await connection.execute(
                update(outbox)
                .where(
                    outbox.c.tenant == tenant,
                    outbox.c.id == id,
                    outbox.c.state == DeliveryState.DEAD,
                )
                .values(
                    state=DeliveryState.PENDING,
                    attempts=0,
                    created_at=now,
                    due_at=now,
                    lease_until=None,
                )
            )
            if not done.rowcount:
                raise Conflict(
                    f"notification {id} is {row.state}; only one that is dead can be replayed"
                )
            row = await one(connection, tenant, id)
            await audit.record(
                connection,
                tenant=tenant,
                actor=actor,
                action="notification.replayed",
                subject=id,
                detail={"channel": row.channel, "error": row.last_error},
                at=now,
            )
        return delivery(row)

    async def _give_up(
        self, claim: Claim, state: DeliveryState, reason: str, *, burnt: int
    ) -> bool:
        async with self._database.begin() as connection:
            ours = await self._finish(
                connection,
                claim,
                state=state,
                attempts=claim.notification.attempts + burnt,
                last_error=reason[:_ERROR_MAX],
            )
            if ours:
                await self._tell(
                    connection,
                    claim.notification,
                    EventKind.SUPPRESSED,
                    self._clock.now(),
                    reason=reason[:_ERROR_MAX],
                )
        return ours

    async def _finish(self, connection: AsyncConnection, claim: Claim, **values: Any) -> bool:
        done = await connection.execute(
            update(outbox)
            .where(
                outbox.c.id == claim.notification.id,
                outbox.c.state == DeliveryState.SENDING,
                outbox.c.lease_until == claim.lease_until,
            )
            .values(lease_until=None, **values)
        )
        return done.rowcount == 1

    async def _tell(
        self,
        connection: AsyncConnection,
        notification: Notification,
        kind: EventKind,
        at: float,
        **more: object,
    ) -> None:
        if notification.alert_id is None:
            return
        await connection.execute(
            insert(alert_events).values(
                tenant=notification.tenant,
                alert_id=notification.alert_id,
                at=at,
                kind=kind,
                actor=ACTOR,
                detail={
                    "channel": notification.channel,
                    "kind": notification.kind,
                    "step": notification.step,
                    "attempt": notification.attempts + 1,
                    "notification": notification.id,
                    **more,
                },
            )
        )
