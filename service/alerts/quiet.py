"""Which silences hold for an alert, and waking what waits for their end."""

from collections.abc import Collection, Iterable, Sequence

import structlog
from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.outbound import SILENCE
from service.alerts.records import alert_of
from service.domain.alerts import Alert
from service.domain.errors import InvalidInput
from service.domain.notifications import DeliveryState
from service.domain.series import Matcher, MatchType
from service.domain.silences import Quiet, Silence, SilenceKind, alert_labels, quiet
from service.query.matchers import accepts
from service.storage.sql.engine import Database
from service.storage.sql.tables import alerts, outbox, silences, timers

log = structlog.get_logger(__name__)


class InForce:
    """The silences of a tenant that are active at `now` (Unix seconds)."""

    def __init__(self, silences: Iterable[Silence], now: float) -> None:
        self._now = now
        # Most demand a value: of thousands of alerts each is held against those that demand its.
        self._demanding: dict[tuple[str, str], list[Silence]] = {}
        self._others: list[Silence] = []
        for silence in silences:
            pair = next((_pair(m) for m in silence.matchers if _pair(m)), None)
            if pair is None:
                self._others.append(silence)
            else:
                self._demanding.setdefault(pair, []).append(silence)

    def keeps(self, alert: Alert) -> Quiet | None:
        """What keeps an alert quiet, None if people are to be told."""
        if not (self._demanding or self._others):
            return None
        labels = alert_labels(alert)
        asked = [s for pair in labels.items() for s in self._demanding.get(pair, ())]
        try:
            return quiet([*asked, *self._others], labels, self._now, accepts)
        except InvalidInput as error:  # an expression that this version no longer takes
            log.error("silences cannot be matched", tenant=alert.tenant, error=str(error))
            return None


def _pair(matcher: Matcher) -> tuple[str, str] | None:
    demands = matcher.type is MatchType.EQUAL and matcher.value
    return (matcher.name, matcher.value) if demands else None


async def in_force(connection: AsyncConnection, tenant: str, now: float) -> InForce:
    """The silences of a tenant that are active at `now` (Unix seconds)."""
    query = select(silences).where(
        silences.c.tenant == tenant, silences.c.starts_at <= now, silences.c.ends_at > now
    )
    return InForce(silences_of((await connection.execute(query)).mappings()), now)


def silences_of(rows: Iterable[RowMapping]) -> list[Silence]:
    """The silences of rows; one that cannot be read is left out: a page too many is better."""
    found = []
    for row in rows:
        try:
            found.append(silence_of(row))
        except (ValueError, TypeError, KeyError) as error:
            log.error(
                "silence cannot be read", tenant=row["tenant"], silence=row["id"], error=str(error)
            )
    return found


def silence_of(row: RowMapping) -> Silence:
    """The silence of a row; `ValueError` for what is none."""
    fields = dict(row)
    fields["kind"] = SilenceKind(fields["kind"])
    fields["matchers"] = tuple(
        Matcher(str(name), MatchType(operator), str(value))
        for name, operator, value in fields["matchers"]
    )
    return Silence(**fields)


async def quiets(
    database: Database, tenant: str, listed: Sequence[Alert], now: float
) -> dict[str, Quiet]:
    """What keeps which of these alerts quiet, by alert id; those that are over are left out."""
    active = [alert for alert in listed if alert.active]
    if not active:
        return {}
    async with database.read() as connection:
        found = await in_force(connection, tenant, now)
    kept = ((alert.id, found.keeps(alert)) for alert in active)
    return {id: why for id, why in kept if why is not None}


async def last_end(connection: AsyncConnection, tenant: str, ids: Collection[str]) -> float:
    """When the last of these silences ends as they are now, Unix seconds; 0 without any."""
    found: float | None = await connection.scalar(
        select(func.max(silences.c.ends_at)).where(
            silences.c.tenant == tenant, silences.c.id.in_(list(ids))
        )
    )
    return found or 0.0


async def silence_summarised(connection: AsyncConnection, tenant: str, now: float) -> None:
    """Of what a summary is to tell, let that of silenced alerts wait for the end of the silence."""
    untold = (
        outbox.c.tenant == tenant,
        outbox.c.state == str(DeliveryState.SUMMARISED),
        outbox.c.sent_at.is_(None),
    )
    concerned = select(outbox.c.alert_id).where(*untold)
    found = await in_force(connection, tenant, now)
    rows = await connection.execute(
        select(alerts).where(alerts.c.tenant == tenant, alerts.c.id.in_(concerned))
    )
    for alert in map(alert_of, rows.mappings()):
        why = found.keeps(alert)
        if why is not None:
            await connection.execute(
                update(outbox)
                .where(*untold, outbox.c.alert_id == alert.id)
                .values(state=str(DeliveryState.SILENCED), due_at=why.until, last_error=why.text)
            )


async def rouse(connection: AsyncConnection, tenant: str, now: float) -> None:
    """Let all that waits for the end of a silence be looked at now: silences have changed."""
    await connection.execute(
        update(timers)
        .where(timers.c.tenant == tenant, timers.c.kind == SILENCE, timers.c.due_at > now)
        .values(due_at=now)
    )
    await connection.execute(
        update(outbox)
        .where(
            outbox.c.tenant == tenant,
            outbox.c.state == str(DeliveryState.SILENCED),
            outbox.c.due_at > now,
        )
        .values(due_at=now)
    )
