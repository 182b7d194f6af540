"""What an outbox row is to the dispatcher and to people, and which rows may be claimed."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, and_, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import InvalidInput, NotFound
from service.domain.notifications import DeliveryState, Notification, NotificationKind
from service.domain.silences import Quiet
from service.storage.sql.tables import outbox

#: Rows of one tenant's channel that a single claim takes at most.
LANE_CLAIM = 4

# Due rows that one claim ranks: a backlog must not make every claim slow.
_WINDOW = 2000

#: States in which a row waits for its time.
WAITING = (DeliveryState.PENDING, DeliveryState.RETRY, DeliveryState.SILENCED)
#: States in which a row is not finished.
OPEN = (*WAITING, DeliveryState.SENDING)

Lane = tuple[str, str]  # tenant, channel


@dataclass(frozen=True, slots=True)
class Claim:
    """A notification that is ours to send until `lease_until` (Unix seconds)."""

    notification: Notification
    lease_until: float

    @property
    def lane(self) -> Lane:
        """Tenant and channel: what must not wait for each other is told apart by it."""
        return self.notification.tenant, self.notification.channel


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row as people see it. Times are Unix seconds."""

    id: str
    alert_id: str | None
    kind: NotificationKind
    step: int
    channel: str
    state: DeliveryState
    attempts: int
    created_at: float
    due_at: float
    sent_at: float | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which rows a list shows; None means any."""

    alert_id: str | None = None
    state: DeliveryState | None = None


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """What has become of the alert since the row was written, and what keeps it quiet now."""

    resolved_at: float | None
    acknowledged_at: float | None
    quiet: Quiet | None = None


def due(now: float) -> Any:
    """Waiting and its time has come, or being sent by somebody whose lease has expired."""
    return or_(
        and_(outbox.c.state.in_(WAITING), outbox.c.due_at <= now),
        and_(outbox.c.state == DeliveryState.SENDING, outbox.c.lease_until <= now),
    )


def candidates(
    limit: int, now: float, full: Collection[Lane], ours: Collection[str]
) -> Select[Any]:
    """Due rows, first of every lane before second of any, so that a long queue starves nobody."""
    earlier = outbox.alias("earlier")
    unfinished = exists().where(
        earlier.c.alert_id == outbox.c.alert_id,
        earlier.c.tenant == outbox.c.tenant,
        earlier.c.channel == outbox.c.channel,
        earlier.c.state.in_(OPEN),
        earlier.c.created_at < outbox.c.created_at,
    )
    found = select(
        outbox.c.id, outbox.c.tenant, outbox.c.channel, outbox.c.due_at, outbox.c.created_at
    ).where(due(now), ~unfinished)
    if full:
        found = found.where(tuple_(outbox.c.tenant, outbox.c.channel).not_in(list(full)))
    if ours:
        found = found.where(outbox.c.id.not_in(list(ours)))
    # A lane that fills this window is full after one claim, and left out of the next.
    oldest = found.order_by(outbox.c.due_at, outbox.c.id).limit(_WINDOW).subquery()
    place = (
        func.row_number()
        .over(
            partition_by=(oldest.c.tenant, oldest.c.channel),
            order_by=(oldest.c.due_at, oldest.c.created_at, oldest.c.id),
        )
        .label("place")
    )
    ranked = select(oldest, place).subquery()
    return (
        select(ranked.c.id, ranked.c.tenant, ranked.c.channel)
        .where(ranked.c.place <= LANE_CLAIM)
        .order_by(ranked.c.place, ranked.c.due_at, ranked.c.id)
        .limit(limit)
    )


async def one(connection: AsyncConnection, tenant: str, id: str) -> Row[Any]:
    """The row of that id; `NotFound` if the tenant has none."""
    if not (id.isascii() and id.isalnum()):  # no id of ours; PostgreSQL takes no NUL
        raise NotFound(f"there is no notification {id[:64]!r}")
    query = select(outbox).where(outbox.c.tenant == tenant, outbox.c.id == id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no notification {id[:64]!r}")
    return row


def notification(row: Row[Any]) -> Notification:
    """As the channels take it."""
    return Notification(
        id=row.id,
        tenant=row.tenant,
        alert_id=row.alert_id,
        kind=NotificationKind(row.kind),
        channel=row.channel,
        payload=row.payload,
        step=row.step,
        attempts=row.attempts,
        created_at=row.created_at,
    )


def delivery(row: Row[Any]) -> Delivery:
    """As people see it."""
    return Delivery(
        id=row.id,
        alert_id=row.alert_id,
        kind=NotificationKind(row.kind),
        step=row.step,
        channel=row.channel,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        created_at=row.created_at,
        due_at=row.due_at,
        sent_at=row.sent_at,
        last_error=row.last_error,
    )


def cursor_after(last: Delivery) -> str:
    """The cursor of the page that follows `last`."""
    return f"{round(last.created_at * 1e6)}-{last.id}"


def position(cursor: str) -> tuple[float, str]:
    """Where a cursor stands; `InvalidInput` for one that `cursor_after` did not give."""
    micros, dash, id = cursor.partition("-")
    if not (dash and micros.isascii() and micros.isdigit() and len(micros) <= 16 and id.isalnum()):
        raise InvalidInput("cursor is none that this list gave", where="cursor")
    return int(micros) / 1e6, id[:64]
