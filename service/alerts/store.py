"""What people ask about alerts."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select

from service.alerts.records import alert_of
from service.domain.alerts import ACTIVE, Alert, AlertState, EventKind
from service.domain.errors import InvalidInput, NotFound
from service.domain.rules import Severity
from service.storage.sql.engine import Database
from service.storage.sql.tables import alert_events, alerts

# Microseconds and id; more digits would be years that a calendar does not have.
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """A line of an alert's timeline. `at` is Unix seconds."""

    at: float
    kind: EventKind
    actor: str
    detail: dict[str, Any]


class AlertStore:
    """Reads alerts; the engine and people's acknowledgements change them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def active(
        self,
        tenant: str,
        *,
        state: AlertState | None = None,
        severity: Severity | None = None,
        limit: int = 1000,
    ) -> list[Alert]:
        """Firing before pending ones, then the worst, then the newest."""
        states = ACTIVE if state is None else (state,)
        query = select(alerts).where(
            alerts.c.tenant == tenant, alerts.c.state.in_([str(s) for s in states])
        )
        if severity is not None:
            query = query.where(alerts.c.severity == str(severity))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = [alert_of(row) for row in rows if row["state"] in ACTIVE]
        return sorted(found, key=_worst_first)[:limit]

    async def get(self, tenant: str, alert_id: str) -> Alert:
        """One alert; `NotFound`."""
        query = select(alerts).where(alerts.c.tenant == tenant, alerts.c.id == alert_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"there is no alert {alert_id[:64]!r}")
        return alert_of(row)

    async def events(self, tenant: str, alert_id: str) -> list[AlertEvent]:
        """An alert's timeline, oldest first."""
        query = (
            select(alert_events)
            .where(alert_events.c.tenant == tenant, alert_events.c.alert_id == alert_id)
            .order_by(alert_events.c.at, alert_events.c.id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [AlertEvent(r.at, EventKind(r.kind), r.actor, r.detail) for r in rows]

    async def history(
        self,
        tenant: str,
        cursor: str | None = None,
        limit: int = 100,
        *,
        severity: Severity | None = None,
        rule_id: str | None = None,
    ) -> tuple[list[Alert], str | None]:
        """Alerts that have fired, newest first, and the cursor of the page that follows, if any.

        Raises `InvalidInput` for a cursor that this function did not give.
        """
        query = select(alerts).where(alerts.c.tenant == tenant, alerts.c.fired_at.is_not(None))
        if severity is not None:
            query = query.where(alerts.c.severity == str(severity))
        if rule_id is not None:
            query = query.where(alerts.c.rule_id == rule_id)
        if cursor is not None:
            at, id = _position(cursor)
            query = query.where(
                or_(alerts.c.fired_at < at, and_(alerts.c.fired_at == at, alerts.c.id < id))
            )
        query = query.order_by(alerts.c.fired_at.desc(), alerts.c.id.desc()).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        shown = [alert_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return shown, None
        return shown, f"{round((shown[-1].fired_at or 0) * 1e6)}-{shown[-1].id}"

    async def counts(self, tenant: str) -> dict[str, dict[AlertState, int]]:
        """How many alerts are pending and firing, by rule id."""
        query = (
            select(alerts.c.rule_id, alerts.c.state, func.count())
            .where(alerts.c.tenant == tenant, alerts.c.state.in_([str(s) for s in ACTIVE]))
            .group_by(alerts.c.rule_id, alerts.c.state)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        found: dict[str, dict[AlertState, int]] = {}
        for rule_id, state, count in rows:
            found.setdefault(rule_id, {})[AlertState(state)] = count
        return found


def _worst_first(alert: Alert) -> tuple[bool, int, float]:
    return alert.state is not AlertState.FIRING, alert.severity.rank, -alert.started_at


def _position(cursor: str) -> tuple[float, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidInput("cursor is none that this list gave", where="cursor")
    return int(found[1]) / 1e6, found[2]
