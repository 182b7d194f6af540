"""What SQL says about a tenant: alerts, models, notifications, timers."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.records import alert_of
from service.detection.drift import DRIFTED
from service.domain.alerts import ACTIVE, Alert, AlertState
from service.domain.notifications import DeliveryState
from service.storage.sql.tables import alert_events, alerts, models, outbox, timers

_MOST_ALERTS = 200
_MOST_EPISODES = 5000


async def active_alerts(connection: AsyncConnection, tenant: str) -> list[Alert]:
    """Pending and firing alerts, worst and then newest first."""
    rows = await connection.execute(
        select(alerts)
        .where(alerts.c.tenant == tenant, alerts.c.state.in_([str(s) for s in ACTIVE]))
        .order_by(alerts.c.started_at.desc())
        .limit(_MOST_ALERTS)
    )
    found = [alert_of(row) for row in rows.mappings()]
    return sorted(found, key=worst_first)


def worst_first(alert: Alert) -> tuple[bool, bool, int, float]:
    """Firing before pending, unanswered before acknowledged, then by severity and age."""
    return (
        alert.state is not AlertState.FIRING,
        alert.acknowledged_at is not None,
        alert.severity.rank,
        -alert.started_at,
    )


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing of a rule, for judging the rule. Times are Unix seconds."""

    rule_id: str
    rule_name: str
    started_at: float
    fired_at: float
    resolved_at: float | None
    acknowledged: bool


async def episodes(connection: AsyncConnection, tenant: str, since: float) -> list[Episode]:
    """What fired since then, newest first, at most 5,000."""
    rows = await connection.execute(
        select(
            alerts.c.rule_id,
            alerts.c.rule_name,
            alerts.c.started_at,
            alerts.c.fired_at,
            alerts.c.resolved_at,
            alerts.c.acknowledged_at,
        )
        .where(alerts.c.tenant == tenant, alerts.c.fired_at >= since)
        .order_by(alerts.c.fired_at.desc())
        .limit(_MOST_EPISODES)
    )
    return [
        Episode(
            r.rule_id,
            r.rule_name,
            r.started_at,
            r.fired_at,
            r.resolved_at,
            r.acknowledged_at is not None,
        )
        for r in rows
    ]


@dataclass(frozen=True, slots=True)
class ModelStates:
    """Models by state; of the failed some errors by series id; the most rows of a cold one.

    `drifted` is how many have drifted, `drifting` are some of them (series ids), of which the one
    longest ago was trained at `drifting_since`.
    """

    counts: dict[str, int]
    failed: dict[str, str]
    cold_rows: int
    drifted: int = 0
    drifting: tuple[str, ...] = ()
    drifting_since: float | None = None


async def model_states(connection: AsyncConnection, tenant: str) -> ModelStates:
    """How far the learning is."""
    mine = models.c.tenant == tenant
    counts = await connection.execute(
        select(models.c.state, func.count(), func.max(models.c.rows))
        .where(mine)
        .group_by(models.c.state)
    )
    by_state = {state: (number, most) for state, number, most in counts}
    failed: dict[str, str] = {}
    if "failed" in by_state:
        rows = await connection.execute(
            select(models.c.series_id, models.c.error)
            .where(mine, models.c.state == "failed")
            .order_by(models.c.series_id)
            .limit(20)
        )
        failed = {r.series_id: r.error or "no reason was noted" for r in rows}
    adrift = (
        select(models.c.series_id, models.c.trained_at)
        .where(mine, models.c.version > 0, models.c.drift >= DRIFTED)
        .order_by(models.c.drift.desc(), models.c.series_id)
    )
    drifting = (await connection.execute(adrift)).all()
    trained = [r.trained_at for r in drifting if r.trained_at is not None]
    return ModelStates(
        {state: number for state, (number, _) in by_state.items()},
        failed,
        by_state.get("cold", (0, 0))[1] or 0,
        len(drifting),
        tuple(r.series_id for r in drifting[:20]),
        min(trained, default=None),
    )


@dataclass(frozen=True, slots=True)
class Told:
    """One notification of an alert. `at` is when it was sent, else when it is due."""

    alert_id: str
    channel: str
    kind: str
    step: int
    state: DeliveryState
    at: float
    error: str | None


async def told(connection: AsyncConnection, tenant: str, ids: Sequence[str]) -> list[Told]:
    """The notifications of these alerts, oldest first."""
    if not ids:
        return []
    rows = await connection.execute(
        select(outbox)
        .where(outbox.c.tenant == tenant, outbox.c.alert_id.in_(list(ids)))
        .order_by(outbox.c.created_at, outbox.c.channel)
        .limit(2000)
    )
    return [
        Told(
            r.alert_id,
            r.channel,
            r.kind,
            r.step,
            DeliveryState(r.state),
            r.sent_at if r.sent_at is not None else r.due_at,
            r.last_error,
        )
        for r in rows
    ]


@dataclass(frozen=True, slots=True)
class Due:
    """A timer of an alert: its next escalation step, with the snapshot of the policy."""

    alert_id: str
    at: float
    payload: dict[str, object]


async def escalations(
    connection: AsyncConnection, tenant: str, ids: Sequence[str]
) -> dict[str, Due]:
    """The next escalation of each of these alerts that has one."""
    if not ids:
        return {}
    rows = await connection.execute(
        select(timers)
        .where(
            timers.c.tenant == tenant,
            timers.c.alert_id.in_(list(ids)),
            timers.c.kind == "escalate",
        )
        .order_by(timers.c.due_at.desc())
    )
    return {r.alert_id: Due(r.alert_id, r.due_at, dict(r.payload)) for r in rows}


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Notifications to one channel that were given up. `since` is the first one's time."""

    channel: str
    count: int
    since: float
    error: str


async def undelivered(connection: AsyncConnection, tenant: str, since: float) -> list[Undelivered]:
    """What was given up since then, by channel, with the newest reason."""
    rows = await connection.execute(
        select(outbox.c.channel, outbox.c.created_at, outbox.c.last_error)
        .where(
            outbox.c.tenant == tenant,
            outbox.c.state == str(DeliveryState.DEAD),
            outbox.c.created_at >= since,
        )
        .order_by(outbox.c.created_at)
        .limit(1000)
    )
    found: dict[str, Undelivered] = {}
    for r in rows:
        before = found.get(r.channel)
        found[r.channel] = Undelivered(
            r.channel,
            (before.count if before else 0) + 1,
            before.since if before else r.created_at,
            r.last_error or "no reason was noted",
        )
    return sorted(found.values(), key=lambda u: (-u.count, u.channel))


async def sent_since(connection: AsyncConnection, tenant: str, since: float) -> int:
    """How many notifications were sent since then."""
    number = await connection.scalar(
        select(func.count())
        .select_from(outbox)
        .where(outbox.c.tenant == tenant, outbox.c.sent_at >= since)
    )
    return int(number or 0)


async def firing(connection: AsyncConnection, tenant: str) -> int:
    """How many alerts fire now."""
    number = await connection.scalar(
        select(func.count())
        .select_from(alerts)
        .where(alerts.c.tenant == tenant, alerts.c.state == str(AlertState.FIRING))
    )
    return int(number or 0)


async def resolved(
    connection: AsyncConnection, tenant: str, before: float | None, most: int
) -> list[Alert]:
    """Resolved alerts that began before a time, newest first."""
    query = select(alerts).where(
        alerts.c.tenant == tenant, alerts.c.state == str(AlertState.RESOLVED)
    )
    if before is not None:
        query = query.where(alerts.c.started_at < before)
    rows = await connection.execute(query.order_by(alerts.c.started_at.desc()).limit(most))
    return [alert_of(row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of an alert's timeline."""

    alert_id: str
    at: float
    kind: str
    actor: str
    detail: dict[str, object]


async def events(
    connection: AsyncConnection, tenant: str, ids: Sequence[str]
) -> dict[str, list[Event]]:
    """The timelines of these alerts, oldest entry first, at most 5,000 entries in all."""
    found: dict[str, list[Event]] = {}
    if not ids:
        return found
    rows = await connection.execute(
        select(alert_events)
        .where(alert_events.c.tenant == tenant, alert_events.c.alert_id.in_(list(ids)))
        .order_by(alert_events.c.id)
        .limit(_MOST_EPISODES)
    )
    for r in rows:
        event = Event(r.alert_id, r.at, r.kind, r.actor, dict(r.detail))
        found.setdefault(r.alert_id, []).append(event)
    return found


async def models_of(
    connection: AsyncConnection, tenant: str, ids: Sequence[str]
) -> dict[str, RowMapping]:
    """Rows of the models table by series id, for those of `ids` that have one."""
    if not ids:
        return {}
    rows = await connection.execute(
        select(models).where(models.c.tenant == tenant, models.c.series_id.in_(list(ids)))
    )
    return {row["series_id"]: row for row in rows.mappings()}
