"""Acts on timers that are due: escalations, ends of cooldowns and of silences, summaries.

Each timer is claimed and acted upon in one transaction under its tenant's lock, which an
acknowledgement and a resolution take too: nothing escalates after either.
"""

import structlog
from sqlalchemy import RowMapping, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service import telemetry
from service.alerts.announce import Plan, announce, hush, plan_step
from service.alerts.outbound import COOLDOWN, ESCALATE, SILENCE, SUMMARY, Limits, Outbound
from service.alerts.quiet import in_force, silence_summarised
from service.alerts.records import locked
from service.alerts.snapshot import summary_payload
from service.domain.alerts import Alert, AlertState, EventKind
from service.domain.clock import Clock
from service.domain.escalation import Escalation
from service.domain.notifications import DeliveryState, NotificationKind, notification_id
from service.domain.rules import Severity
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.statements import insert_new, lock_tenant
from service.storage.sql.tables import outbox, timers

log = structlog.get_logger(__name__)

ACTOR = "escalator"

#: Timers that one run acts upon at most; the next run takes the rest.
_AT_ONCE = 1000
#: A timer that fails is tried again so many seconds later.
_TRY_AGAIN = 30.0


class Escalator:
    """Runs timers. Any number of replicas may do so at the same time."""

    def __init__(self, database: Database, clock: Clock, settings: Settings) -> None:
        self._database, self._clock = database, clock
        self._limits = Limits(settings.max_alerts_per_hour, settings.public_url)

    async def run_due(self, now: float) -> int:
        """Act on the timers with `due_at <= now` (Unix seconds), earliest first; how many."""
        query = (
            select(timers.c.id, timers.c.tenant)
            .where(timers.c.due_at <= now)
            .order_by(timers.c.due_at, timers.c.id)
            .limit(_AT_ONCE)
        )
        async with self._database.read() as connection:
            due = (await connection.execute(query)).all()
        done = 0
        for id, tenant in due:
            try:
                done += await self._run(id, tenant, now)
            except Exception:
                # One timer that cannot be read must not stop those behind it.
                log.exception("timer failed", timer=id, tenant=tenant)
                await self._put_off(id, now + _TRY_AGAIN)
        return done

    async def next_due(self) -> float | None:
        """When the next timer is due (Unix seconds), None without any."""
        async with self._database.read() as connection:
            found: float | None = await connection.scalar(select(func.min(timers.c.due_at)))
        return found

    async def _run(self, id: str, tenant: str, now: float) -> bool:
        async with self._database.begin() as connection:
            await lock_tenant(connection, tenant)
            query = select(timers).where(timers.c.id == id, timers.c.due_at <= now)
            claimed = await connection.execute(query.with_for_update(skip_locked=True))
            timer = claimed.mappings().first()
            if timer is None:
                return False  # another replica has acted, or an acknowledgement removed it
            await connection.execute(delete(timers).where(timers.c.id == id))
            out = Outbound(connection, tenant, self._limits, now, ACTOR)
            if timer["kind"] == SUMMARY:
                acted = await _summarise(connection, tenant, now)
            else:
                acted = await _remind(connection, out, timer, now)
            await out.flush()
        if acted:
            telemetry.TIMERS_FIRED.labels(kind=timer["kind"]).inc()
        return acted

    async def _put_off(self, id: str, due_at: float) -> None:
        async with self._database.begin() as connection:
            await connection.execute(update(timers).where(timers.c.id == id).values(due_at=due_at))


async def _remind(
    connection: AsyncConnection, out: Outbound, timer: RowMapping, now: float
) -> bool:
    """Escalate, or tell what a cooldown or a silence kept back; whether anybody is told."""
    alert = await locked(connection, timer["tenant"], timer["alert_id"])
    if alert is None or alert.state is not AlertState.FIRING or alert.acknowledged_at is not None:
        return False
    kind, payload = timer["kind"], timer["payload"]
    known: list[str] = []
    if kind == SILENCE:
        kind, payload, known = payload["kind"], payload["payload"], payload["silences"]
    if kind not in (ESCALATE, COOLDOWN):
        log.error("unknown kind of timer", kind=kind, timer=timer["id"])
        return False
    quiet = (await in_force(connection, alert.tenant, now)).keeps(alert)
    if quiet is not None:
        hush(out, alert, quiet, kind, payload, known)
        return False
    if kind == COOLDOWN:
        await announce(out, alert, Plan.from_snapshot(payload), now)
        return True
    escalation = Escalation.of(payload)
    if timer["kind"] == SILENCE:  # or all steps that would have followed were due at once
        escalation = escalation.resumed(now)
    await _escalate(out, alert, escalation)
    return True


async def _escalate(out: Outbound, alert: Alert, escalation: Escalation) -> None:
    channels = escalation.step.channels
    await out.notify(alert, NotificationKind.ESCALATED, channels, step=escalation.number)
    out.note(
        alert,
        EventKind.ESCALATED,
        step=escalation.number,
        channels=list(channels),
        policy=escalation.policy.name,
    )
    following = escalation.following()
    if following is not None:
        plan_step(out, alert, following)


async def _summarise(connection: AsyncConnection, tenant: str, now: float) -> bool:
    """One message to each channel about all that the hourly limit has held back from it.

    What is silenced by now waits for the end of the silence instead. `sent_at` of a row that was
    held back says when a summary has told it.
    """
    untold = (
        outbox.c.tenant == tenant,
        outbox.c.state == str(DeliveryState.SUMMARISED),
        outbox.c.sent_at.is_(None),
    )
    await silence_summarised(connection, tenant, now)
    rows = await connection.execute(
        select(outbox).where(*untold).order_by(outbox.c.created_at, outbox.c.id)
    )
    held: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        item = {**row.payload, "kind": row.kind, "at": row.created_at}
        held.setdefault(row.channel, []).append(item)
    for channel, items in held.items():
        since = min(float(str(item["at"])) for item in items)
        # The worst first, so that a summary that cannot name all names those.
        items.sort(key=lambda item: Severity(str(item["severity"])).rank)
        id = notification_id(tenant, "", 0, NotificationKind.SUMMARY, 0, round(now), channel)
        await connection.execute(
            insert_new(connection, outbox).values(
                id=id,
                tenant=tenant,
                alert_id=None,
                kind=str(NotificationKind.SUMMARY),
                step=0,
                channel=channel,
                payload=summary_payload(items, since),
                state=str(DeliveryState.PENDING),
                attempts=0,
                created_at=now,
                due_at=now,
            )
        )
    await connection.execute(update(outbox).where(*untold).values(sent_at=now))
    return bool(held)
