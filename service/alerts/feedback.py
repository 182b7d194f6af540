"""What people say of alerts, kept; and what follows from it for rules."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import RowMapping, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.records import locked
from service.domain.alerts import Alert, AlertState
from service.domain.clock import Clock
from service.domain.errors import Conflict, NotFound
from service.domain.feedback import (
    FORGOTTEN_SECONDS,
    Adjustment,
    Verdict,
    adjustment,
)
from service.security import audit
from service.storage.sql.engine import Database
from service.storage.sql.statements import lock_tenant
from service.storage.sql.tables import alert_feedback

#: How long a worker goes by what it has read when no wake-up tells it more.
_REMEMBER_SECONDS = 60.0

#: Adjustments by rule id and fingerprint.
Adjustments = Mapping[str, Mapping[str, Adjustment]]


@dataclass(frozen=True, slots=True)
class Given:
    """One person's verdict on an alert. `at` is Unix seconds."""

    verdict: Verdict
    actor: str
    at: float
    note: str = ""


class Feedback:
    """Takes verdicts and says what they come to."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._known: dict[str, tuple[float, Adjustments]] = {}

    async def give(
        self, tenant: str, alert_id: str, verdict: Verdict, *, actor: str, note: str = ""
    ) -> tuple[Alert, Given]:
        """Note a verdict in the place of the same person's former one; audited.

        Raises `NotFound`, and `Conflict` for an alert that has not fired yet.
        """
        given = Given(verdict, actor[:240], self._clock.now(), note)
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            alert = await locked(connection, tenant, alert_id)
            if alert is None:
                raise NotFound(f"there is no alert {alert_id[:64]!r}")
            if alert.state is AlertState.PENDING:
                raise Conflict("the alert is pending: it has not fired, and told nobody anything")
            await _put(connection, alert, given)
        self.forget(tenant)
        return alert, given

    async def of_alert(self, tenant: str, alert_id: str) -> list[Given]:
        """Everybody's verdict on an alert, the newest first."""
        query = select(alert_feedback).where(
            alert_feedback.c.tenant == tenant, alert_feedback.c.alert_id == alert_id
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(*_NEWEST))).mappings().all()
        return [_given(row) for row in rows]

    async def newest_of(self, tenant: str, alert_ids: Collection[str]) -> dict[str, Given]:
        """The newest verdict on each of these alerts that has one."""
        if not alert_ids:
            return {}
        query = select(alert_feedback).where(
            alert_feedback.c.tenant == tenant, alert_feedback.c.alert_id.in_(list(alert_ids))
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(*_NEWEST))).mappings().all()
        return {r["alert_id"]: _given(r) for r in reversed(rows)}

    async def refresh(self, tenant: str) -> None:
        """Have `factors` know what is said, as it was at most a minute ago."""
        now = self._clock.now()
        read_at, _ = self._known.get(tenant, (-math.inf, {}))
        if not 0 <= now - read_at < _REMEMBER_SECONDS:
            self._known[tenant] = now, await self.adjustments(tenant)

    def factors(self, tenant: str, rule_id: str) -> dict[str, float]:
        """What a rule's share of rows that may alert is multiplied by, by fingerprint."""
        _, known = self._known.get(tenant, (-math.inf, {}))
        return {name: found.factor for name, found in known.get(rule_id, {}).items()}

    def forget(self, tenant: str) -> None:
        """Something was said, or the tenant is judged elsewhere: read again when asked."""
        self._known.pop(tenant, None)

    async def adjustments(self, tenant: str) -> Adjustments:
        """What is said of each rule and series comes to now."""
        now = self._clock.now()
        async with self._database.read() as connection:
            said_of = await newest(connection, tenant, now - FORGOTTEN_SECONDS)
        said: dict[str, dict[str, list[tuple[Verdict, float]]]] = {}
        for row in said_of.values():
            series = said.setdefault(row["rule_id"], {}).setdefault(row["fingerprint"], [])
            series.append((Verdict(row["verdict"]), row["at"]))
        return {
            rule_id: {name: adjustment(verdicts, now) for name, verdicts in series.items()}
            for rule_id, series in said.items()
        }


def _given(row: RowMapping) -> Given:
    return Given(Verdict(row["verdict"]), row["actor"], row["at"], row["note"])


_NEWEST = (alert_feedback.c.at.desc(), alert_feedback.c.actor)


async def _put(connection: AsyncConnection, alert: Alert, given: Given) -> None:
    table = alert_feedback
    await connection.execute(
        delete(table).where(table.c.alert_id == alert.id, table.c.actor == given.actor)
    )
    await connection.execute(
        insert(table).values(
            tenant=alert.tenant,
            alert_id=alert.id,
            actor=given.actor,
            rule_id=alert.rule_id,
            fingerprint=alert.fingerprint,
            verdict=str(given.verdict),
            note=given.note,
            at=given.at,
        )
    )
    await audit.record(
        connection,
        tenant=alert.tenant,
        actor=given.actor,
        action="alert.feedback",
        subject=alert.id,
        detail={
            "rule": alert.rule_name,
            "verdict": str(given.verdict),
            **({"note": given.note} if given.note else {}),
        },
        at=given.at,
    )


async def newest(connection: AsyncConnection, tenant: str, since: float) -> dict[str, RowMapping]:
    """The newest verdict on each alert that is no older than `since`, by alert."""
    query = select(alert_feedback).where(
        alert_feedback.c.tenant == tenant, alert_feedback.c.at >= since
    )
    rows = (await connection.execute(query.order_by(*_NEWEST))).mappings().all()
    return {row["alert_id"]: row for row in reversed(rows)}
