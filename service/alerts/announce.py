"""Telling people that an alert fires and that it is over."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.alerts.outbound import COOLDOWN, ESCALATE, SILENCE, Chart, Outbound
from service.domain.alerts import Alert, EventKind
from service.domain.escalation import Escalation, at_once, begin, policy_of, policy_steps
from service.domain.notifications import DeliveryState, NotificationKind
from service.domain.rules import EscalationPolicy, Rule
from service.domain.silences import Quiet
from service.storage.sql.tables import alerts, outbox, timers

_SILENCED = str(DeliveryState.SILENCED)
_UNSENT = (str(DeliveryState.PENDING), str(DeliveryState.RETRY), _SILENCED)


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to tell at once that an alert fires, and the policy that follows."""

    channels: tuple[str, ...]
    policy: EscalationPolicy | None

    @classmethod
    def of(
        cls, rule: Rule, policy: EscalationPolicy | None, default_channels: Sequence[str]
    ) -> "Plan":
        """The rule's channels and the policy's first step; the default where neither says."""
        channels = (*rule.channels, *at_once(policy))
        if not channels and policy is None:
            channels = tuple(default_channels)
        return cls(tuple(dict.fromkeys(channels)), policy)

    def snapshot(self) -> dict[str, Any]:
        """As a timer keeps it."""
        policy = self.policy and {"name": self.policy.name, "steps": policy_steps(self.policy)}
        return {"channels": list(self.channels), "policy": policy}

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> "Plan":
        """From what a timer keeps."""
        policy = snapshot["policy"]
        return cls(
            tuple(snapshot["channels"]),
            policy_of(policy["name"], policy["steps"]) if policy else None,
        )


async def announce(
    out: Outbound, alert: Alert, plan: Plan, now: float, chart: Chart | None = None
) -> None:
    """Tell that the alert fires, and plan the escalation's next step."""
    if plan.channels:
        await out.notify(alert, NotificationKind.FIRING, plan.channels, chart=chart)
    escalation = begin(plan.policy, now)
    if escalation is not None:
        plan_step(out, alert, escalation)
    elif not plan.channels:
        out.note(alert, EventKind.SUPPRESSED, reason="no channel is configured")


def plan_step(out: Outbound, alert: Alert, escalation: Escalation) -> None:
    """A timer for the step to come."""
    id = f"{ESCALATE}:{alert.id}:{escalation.number}"
    out.plan(id, ESCALATE, escalation.due_at, escalation.snapshot(), alert.id)


def postpone(out: Outbound, alert: Alert, plan: Plan, until: float) -> None:
    """Keep quiet until `until`; then tell, if the alert still fires."""
    out.note(
        alert, EventKind.SUPPRESSED, reason="cooldown", until=until, channels=list(plan.channels)
    )
    out.plan(f"{COOLDOWN}:{alert.id}", COOLDOWN, until, plan.snapshot(), alert.id)


def hush(
    out: Outbound,
    alert: Alert,
    quiet: Quiet,
    kind: str,
    payload: Mapping[str, Any],
    known: Sequence[str] = (),
) -> None:
    """Keep quiet until the silences end; then do what a timer of that kind would, if it fires.

    `known` are the silences of which the timeline tells already.
    """
    if list(known) != quiet.ids:
        out.note(alert, EventKind.SUPPRESSED, **quiet.detail)
    held = {"kind": kind, "payload": dict(payload), "silences": quiet.ids}
    out.plan(f"{SILENCE}:{alert.id}", SILENCE, quiet.until, held, alert.id)


async def forget_silenced(
    connection: AsyncConnection, tenant: str, alert_ids: Collection[str], reason: str
) -> None:
    """Cancel what waits for the end of a silence to say that alerts fire: nobody needs it."""
    await connection.execute(
        update(outbox)
        .where(
            outbox.c.tenant == tenant,
            outbox.c.alert_id.in_(list(alert_ids)),
            outbox.c.kind == str(NotificationKind.FIRING),
            outbox.c.state == _SILENCED,
        )
        .values(state=str(DeliveryState.CANCELLED), last_error=reason)
    )


async def last_announced(connection: AsyncConnection, alert: Alert) -> float | None:
    """When people were last told that this rule fires for this series; Unix seconds."""
    found: float | None = await connection.scalar(
        select(outbox.c.created_at)
        .join(alerts, alerts.c.id == outbox.c.alert_id)
        .where(
            alerts.c.tenant == alert.tenant,
            alerts.c.rule_id == alert.rule_id,
            alerts.c.fingerprint == alert.fingerprint,
            outbox.c.tenant == alert.tenant,
            outbox.c.kind == str(NotificationKind.FIRING),
            outbox.c.state != str(DeliveryState.CANCELLED),
        )
        .order_by(outbox.c.created_at.desc())
        .limit(1)
    )
    return found


async def stop_escalating(
    connection: AsyncConnection, tenant: str, alert_ids: Collection[str]
) -> None:
    """Cancel what of the escalations has not gone out yet."""
    await connection.execute(
        update(outbox)
        .where(
            outbox.c.tenant == tenant,
            outbox.c.alert_id.in_(list(alert_ids)),
            outbox.c.kind == str(NotificationKind.ESCALATED),
            outbox.c.state.in_(_UNSENT),
        )
        .values(state=str(DeliveryState.CANCELLED))
    )


async def conclude(
    connection: AsyncConnection,
    out: Outbound,
    tenant: str,
    ended: Sequence[Alert],
    reasons: Mapping[str, str],
) -> None:
    """Tell that alerts are over, on exactly the channels that were told that they fire.

    Whoever will hear of the firing only in a summary hears of the end in the same one.
    `reasons` says, by alert id, why one is over whose series did not get well.
    """
    ids = [alert.id for alert in ended]
    mine = timers.c.tenant == tenant
    await connection.execute(delete(timers).where(mine, timers.c.alert_id.in_(ids)))
    await stop_escalating(connection, tenant, ids)
    await forget_silenced(connection, tenant, ids, "the alert was over before its silence")
    rows = await connection.execute(
        select(outbox.c.alert_id, outbox.c.channel, outbox.c.state, outbox.c.sent_at)
        .where(
            outbox.c.tenant == tenant,
            outbox.c.alert_id.in_(ids),
            outbox.c.kind.in_([str(NotificationKind.FIRING), str(NotificationKind.ESCALATED)]),
            outbox.c.state.not_in([str(DeliveryState.CANCELLED), str(DeliveryState.DEAD)]),
        )
        .order_by(outbox.c.created_at, outbox.c.step, outbox.c.channel)
    )
    told: dict[str, dict[str, bool]] = {}
    for row in rows:
        held = row.state == DeliveryState.SUMMARISED and row.sent_at is None
        channels = told.setdefault(row.alert_id, {})
        channels[row.channel] = channels.get(row.channel, True) and held
    for alert in ended:
        channels = told.get(alert.id, {})
        if channels:
            waiting = [channel for channel, held in channels.items() if held]
            await out.notify(
                alert,
                NotificationKind.RESOLVED,
                channels,
                held=waiting,
                reason=reasons.get(alert.id, ""),
            )
