"""What a notification passes on its way, and what each stage decided, by name.

    wanted? → channel → compose → send → record

The reason is what the row keeps, the log says and the metric counts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from service.domain.notifications import Notification, NotificationKind
from service.domain.silences import Quiet
from service.notify.channels.base import Channel, ChannelType, Permanent, Retryable
from service.notify.messages import compose
from service.notify.retry import retry_delay
from service.notify.rows import AlertStatus

log = structlog.get_logger(__name__)

#: A firing message that comes later than this, after the alert has resolved, only alarms.
STALE_FIRING_SECONDS = 3600.0


class Reason(StrEnum):
    """How a notification's turn ended."""

    SENT = "sent"
    RETRY = "retry"  # failed for now
    DEAD = "dead"  # refused for good, or out of tries
    ACKNOWLEDGED = "acknowledged"  # somebody answered before the escalation went out
    RESOLVED = "resolved"  # over before the escalation went out
    STALE = "stale"  # over, and more than an hour late
    GONE = "gone"  # the alert itself was deleted
    SILENCED = "silenced"  # waits for the end of a silence
    HELD = "held"  # the channel rests after failures; nothing was tried


_EXPLAINED = {
    Reason.ACKNOWLEDGED: "the alert was acknowledged before this escalation went out",
    Reason.RESOLVED: "the alert was over before this escalation went out",
    Reason.STALE: "the alert was over when this could be sent, more than an hour late; "
    "its resolved message is sent",
    Reason.GONE: "the alert no longer exists",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. `delay` (seconds) is set for retries, `explanation` for all but sent.

    `quiet` is set for what is silenced.
    """

    reason: Reason
    explanation: str = ""
    delay: float = 0.0
    channel: str = "unknown"  # its type
    quiet: Quiet | None = None

    @property
    def cancels(self) -> bool:
        """Whether nobody needs the notification any more."""
        return self.reason in _EXPLAINED


def unwanted(notification: Notification, alert: AlertStatus | None, now: float) -> Reason | None:
    """Why a notification need not go out any more, None if it must.

    Escalations stop for an answer. A firing message goes out even if the alert is over by now
    (it happened, and its resolve follows), unless it is more than an hour late: then it would
    alarm someone about what has long passed, and the resolve tells the whole story. While the
    alert is silenced nothing of it goes out, its end included.
    """
    if notification.alert_id is None:
        return None
    if alert is None:
        return Reason.GONE
    over = alert.resolved_at is not None
    if notification.kind is NotificationKind.ESCALATED:
        if alert.acknowledged_at is not None:
            return Reason.ACKNOWLEDGED
        if over:
            return Reason.RESOLVED
    late = now - notification.created_at > STALE_FIRING_SECONDS
    if notification.kind is NotificationKind.FIRING and over and late:
        return Reason.STALE
    return Reason.SILENCED if alert.quiet is not None else None


async def judge(
    notification: Notification,
    status: Callable[[str, str], Awaitable[AlertStatus | None]],
    now: float,
) -> Outcome | None:
    """Stage 1: is it still wanted? None if so, or if nobody can say: a page too many is better."""
    if notification.alert_id is None:
        return None
    try:
        alert = await status(notification.tenant, notification.alert_id)
    except Exception as error:
        log.warning("alert unknown, sending", notification=notification.id, error=str(error))
        return None
    reason = unwanted(notification, alert, now)
    if reason is Reason.SILENCED and alert is not None and alert.quiet is not None:
        return Outcome(reason, alert.quiet.text, quiet=alert.quiet)
    return Outcome(reason, _EXPLAINED[reason]) if reason else None


async def deliver(
    notification: Notification,
    resolve: Callable[[str, str], Awaitable[Channel]],
    now: float,
    public_url: str,
    timeout: float,  # noqa: ASYNC109 (of the whole stage, whatever the channel does)
) -> Outcome:
    """Stages 2 to 4: find the channel, compose, send once within `timeout` real seconds."""
    kind: ChannelType | None = None
    try:
        channel = await resolve(notification.tenant, notification.channel)
        kind = channel.type
        message = compose(notification, now, public_url)
        async with asyncio.timeout(timeout):
            await channel.send(notification, message)
    except Permanent as error:
        return Outcome(Reason.DEAD, str(error), channel=kind or "unknown")
    except Retryable as error:
        return _again(notification, kind, str(error), error.retry_after)
    except TimeoutError:
        return _again(notification, kind, f"not delivered within {timeout:g} s", None)
    except Exception as error:
        # A fault of ours or of the database: trying again is safe, losing a page is not.
        log.exception("delivery failed unexpectedly", notification=notification.id)
        return _again(notification, kind, f"{type(error).__name__}: {error}", None)
    return Outcome(Reason.SENT, channel=channel.type)


def _again(
    notification: Notification, kind: ChannelType | None, why: str, asked: float | None
) -> Outcome:
    channel = kind or ChannelType.SLACK
    tries = notification.attempts + 1
    delay = retry_delay(channel, tries, asked)
    shown = kind or "unknown"
    if delay is None:
        return Outcome(Reason.DEAD, f"given up after {tries} attempts: {why}", channel=shown)
    return Outcome(Reason.RETRY, why, delay, shown)
