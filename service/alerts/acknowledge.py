"""Somebody takes care: an acknowledgement stops what has not gone out yet."""

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.announce import forget_silenced, stop_escalating
from service.alerts.outbound import Limits, Outbound
from service.alerts.records import change, locked
from service.domain.alerts import Alert, AlertState, EventKind
from service.domain.clock import iso
from service.domain.errors import Conflict, NotFound
from service.security import audit
from service.storage.sql.engine import Database
from service.storage.sql.statements import lock_tenant
from service.storage.sql.tables import timers

_NO_LIMITS = Limits(0, "")


async def acknowledge(
    database: Database, tenant: str, alert_id: str, *, actor: str, now: float, note: str = ""
) -> Alert:
    """The alert, acknowledged at `now` (Unix seconds) by `actor`; audited.

    The first acknowledgement stands: a second one changes nothing and is no error. When this
    returns, no escalation begins any more, and what was decided but not yet sent is cancelled.
    Raises `NotFound`, and `Conflict` for an alert that is resolved or has not fired yet.
    """
    async with database.begin() as connection:
        await lock_tenant(connection, tenant)
        alert = await locked(connection, tenant, alert_id)
        if alert is None:
            raise NotFound(f"there is no alert {alert_id[:64]!r}")
        if alert.state is AlertState.RESOLVED:
            raise Conflict(
                f"the alert resolved at {iso(alert.resolved_at)}; there is nothing to acknowledge"
            )
        if alert.state is AlertState.PENDING:
            raise Conflict("the alert is pending: it has not fired, and nobody was notified of it")
        if alert.acknowledged_at is not None:
            return alert
        return await _take(connection, alert, actor, now, note)


async def _take(
    connection: AsyncConnection, alert: Alert, actor: str, now: float, note: str
) -> Alert:
    after = await change(connection, alert, acknowledged_at=now, acknowledged_by=actor[:240])
    if after is None:
        raise Conflict("the alert changes at this moment; try again")
    # The end of a cooldown or of a silence would only tell what somebody knows already.
    await connection.execute(
        delete(timers).where(timers.c.tenant == alert.tenant, timers.c.alert_id == alert.id)
    )
    await stop_escalating(connection, alert.tenant, [alert.id])
    reason = "the alert was acknowledged during its silence"
    await forget_silenced(connection, alert.tenant, [alert.id], reason)
    out = Outbound(connection, alert.tenant, _NO_LIMITS, now, actor[:240])
    out.note(after, EventKind.ACKNOWLEDGED, note=note or None)
    await out.flush()
    await audit.record(
        connection,
        tenant=alert.tenant,
        actor=actor,
        action="alert.acknowledged",
        subject=alert.id,
        detail={"rule": alert.rule_name, **({"note": note} if note else {})},
        at=now,
    )
    return after
