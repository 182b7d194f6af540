"""What one transaction about one tenant's alerts sends, notes and plans.

Notifications are counted against the tenant's hourly limit. What is over it becomes a row in state
`summarised` and is told in a summary: five minutes after the first such row, later ones at most
once an hour. The summary itself does not count.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.snapshot import alert_payload
from service.domain.alerts import Alert, EventKind
from service.domain.notifications import DeliveryState, NotificationKind, notification_id
from service.storage.sql.statements import insert_new
from service.storage.sql.tables import alert_events, outbox, timers

HOUR = 3600.0
SUMMARY_DELAY = 300.0

ESCALATE, COOLDOWN, SILENCE, SUMMARY = "escalate", "cooldown", "silence", "summary"

#: Of these nothing goes out, so they do not count.
_NEVER_SENT = (DeliveryState.SUMMARISED, DeliveryState.CANCELLED)

Chart = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What notifications need of the settings: how many an hour, and where links lead."""

    per_hour: int
    public_url: str


class Outbound:
    """Gathers rows; `flush` writes them. Use one per transaction, under the tenant's lock."""

    def __init__(
        self, connection: AsyncConnection, tenant: str, limits: Limits, now: float, actor: str
    ) -> None:
        self._connection = connection
        self._tenant, self._limits, self._now, self._actor = tenant, limits, now, actor
        self._room: int | None = None
        self._held = False
        self._outbox: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._timers: list[dict[str, Any]] = []

    async def notify(
        self,
        alert: Alert,
        kind: NotificationKind,
        channels: Iterable[str],
        *,
        step: int = 0,
        chart: Chart | None = None,
        held: Iterable[str] = (),
        reason: str = "",
    ) -> None:
        """One row for each channel; for those in `held`, and over the limit, for a summary."""
        payload = alert_payload(
            alert, public_url=self._limits.public_url, step=step, chart=chart, reason=reason
        )
        over, apart = [], frozenset(held)
        for channel in dict.fromkeys(channels):
            summarised = channel in apart or await self._left() <= 0
            if summarised:
                over.append(channel)
            elif self._room is not None:
                self._room -= 1
            self._outbox.append(
                {
                    "id": notification_id(
                        self._tenant, alert.id, alert.episode, kind, step, 0, channel
                    ),
                    "tenant": self._tenant,
                    "alert_id": alert.id,
                    "kind": str(kind),
                    "step": step,
                    "channel": channel,
                    "payload": payload,
                    "state": str(DeliveryState.SUMMARISED if summarised else DeliveryState.PENDING),
                    "attempts": 0,
                    "created_at": self._now,
                    "due_at": self._now,
                }
            )
        if over:
            self._held = True
            self.note(alert, EventKind.SUPPRESSED, reason="hourly limit", kind=kind, channels=over)

    def note(self, alert: Alert, event: EventKind, /, **detail: Any) -> None:
        """A line of the alert's timeline; what is None is left out."""
        self._events.append(
            {
                "tenant": self._tenant,
                "alert_id": alert.id,
                "at": self._now,
                "kind": str(event),
                "actor": self._actor,
                "detail": {k: v for k, v in detail.items() if v is not None},
            }
        )

    def plan(
        self, id: str, kind: str, due_at: float, payload: dict[str, Any], alert_id: str | None
    ) -> None:
        """A timer."""
        self._timers.append(
            {
                "id": id,
                "tenant": self._tenant,
                "kind": kind,
                "alert_id": alert_id,
                "due_at": due_at,
                "payload": payload,
            }
        )

    async def flush(self) -> bool:
        """Write everything; whether anything waits to be sent or planned now."""
        if self._held:
            due_at = await self._summary_due()
            self.plan(_summary_id(self._tenant), SUMMARY, due_at, {}, None)
        for table, rows in ((outbox, self._outbox), (timers, self._timers)):
            if rows:
                await self._connection.execute(insert_new(self._connection, table), rows)
        if self._events:
            await self._connection.execute(insert(alert_events), self._events)
        return bool(self._outbox or self._timers)

    async def _left(self) -> int:
        """How many more notifications the last hour has room for."""
        if self._room is None:
            sent = await self._connection.scalar(
                select(func.count())
                .select_from(outbox)
                .where(
                    outbox.c.tenant == self._tenant,
                    outbox.c.created_at > self._now - HOUR,
                    outbox.c.state.not_in([str(state) for state in _NEVER_SENT]),
                    outbox.c.kind != str(NotificationKind.SUMMARY),
                )
            )
            self._room = self._limits.per_hour - (sent or 0)
        return self._room

    async def _summary_due(self) -> float:
        last = await self._connection.scalar(
            select(func.max(outbox.c.created_at)).where(
                outbox.c.tenant == self._tenant,
                outbox.c.kind == str(NotificationKind.SUMMARY),
                outbox.c.created_at > self._now - HOUR,
            )
        )
        return max(self._now + SUMMARY_DELAY, 0.0 if last is None else last + HOUR)


def _summary_id(tenant: str) -> str:
    # One at a time; a tenant's id may be as long as a timer's.
    return f"{SUMMARY}:{hashlib.blake2b(tenant.encode(), digest_size=16).hexdigest()}"
