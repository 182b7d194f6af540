"""Alerts as rows, and the compare-and-set by which they change."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import RowMapping, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.alerts import ACTIVE, Alert, AlertState
from service.domain.rules import Severity
from service.storage.sql.tables import alerts


def alert_of(row: RowMapping) -> Alert:
    """The alert of a row."""
    fields = dict(row)
    fields["state"] = AlertState(fields["state"])
    fields["severity"] = Severity(fields["severity"])
    return Alert(**fields)


def row_of(alert: Alert) -> dict[str, Any]:
    """The row of an alert."""
    row = {column.name: getattr(alert, column.name) for column in alerts.c}
    row["state"], row["severity"] = str(alert.state), str(alert.severity)
    return row


async def latest(
    connection: AsyncConnection, tenant: str, rule_id: str, fingerprints: Collection[str]
) -> dict[str, Alert]:
    """The newest episode of each fingerprint that has one."""
    newest = (
        select(alerts.c.fingerprint, func.max(alerts.c.episode))
        .where(
            alerts.c.tenant == tenant,
            alerts.c.rule_id == rule_id,
            alerts.c.fingerprint.in_(list(fingerprints)),
        )
        .group_by(alerts.c.fingerprint)
    )
    rows = await connection.execute(
        select(alerts).where(
            alerts.c.tenant == tenant,
            alerts.c.rule_id == rule_id,
            tuple_(alerts.c.fingerprint, alerts.c.episode).in_(newest),
        )
    )
    found = [alert_of(row) for row in rows.mappings()]
    return {alert.fingerprint: alert for alert in found}


async def active_count(connection: AsyncConnection, tenant: str) -> int:
    """How many alerts of the tenant are pending or firing."""
    number = await connection.scalar(
        select(func.count())
        .select_from(alerts)
        .where(alerts.c.tenant == tenant, alerts.c.state.in_([str(state) for state in ACTIVE]))
    )
    return int(number or 0)


async def locked(connection: AsyncConnection, tenant: str, alert_id: str) -> Alert | None:
    """One alert, held until the transaction ends; None if the tenant has none of that id."""
    query = select(alerts).where(alerts.c.tenant == tenant, alerts.c.id == alert_id)
    row = (await connection.execute(query.with_for_update())).mappings().first()
    return None if row is None else alert_of(row)


async def change(connection: AsyncConnection, before: Alert, **values: Any) -> Alert | None:
    """The alert with other values, one version on; None if it is no longer as `before`."""
    after = replace(before, **values, version=before.version + 1)
    row = row_of(after)
    done = await connection.execute(
        update(alerts)
        .where(
            alerts.c.tenant == before.tenant,
            alerts.c.id == before.id,
            alerts.c.version == before.version,
        )
        .values({name: row[name] for name in (*values, "version")})
    )
    return after if done.rowcount == 1 else None


async def remove(connection: AsyncConnection, before: Alert) -> bool:
    """Delete an alert; False if it is no longer as `before`."""
    done = await connection.execute(
        delete(alerts).where(
            alerts.c.tenant == before.tenant,
            alerts.c.id == before.id,
            alerts.c.version == before.version,
        )
    )
    return done.rowcount == 1
