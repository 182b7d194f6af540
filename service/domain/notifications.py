"""What is sent to people, and the id that makes sending it twice impossible to miss."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class NotificationKind(StrEnum):
    """Why a notification goes out."""

    FIRING = "firing"
    RESOLVED = "resolved"
    ESCALATED = "escalated"
    SUMMARY = "summary"  # what the hourly limit held back
    TEST = "test"  # asked for through the API, to try a channel


class DeliveryState(StrEnum):
    """Where an outbox row is: pending → sending(lease) → sent | retry | silenced | dead."""

    PENDING = "pending"
    SENDING = "sending"
    RETRY = "retry"
    SENT = "sent"
    DEAD = "dead"  # given up; the reason stands in the row
    SILENCED = "silenced"  # waits for the end of the silences that hold for its alert
    CANCELLED = "cancelled"  # acknowledged before it went out
    SUMMARISED = "summarised"  # over the hourly limit; told in a summary


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one channel, as the outbox keeps it.

    `payload` is a snapshot, taken in the transaction of the transition, of all that a message
    needs: for an alert the keys of `service.alerts.snapshot.alert_payload`; for a summary
    `{"count", "since", "alerts": [...]}`.
    """

    id: str
    tenant: str
    alert_id: str | None
    kind: NotificationKind
    channel: str
    payload: dict[str, object]
    step: int = 0
    attempts: int = 0
    created_at: float = 0.0


def notification_id(
    tenant: str, alert_id: str, episode: int, kind: str, step: int, repeat: int, channel: str
) -> str:
    """Hash of what makes a notification this one; the same on every replica that decides it."""
    text = "\x1f".join([tenant, alert_id, str(episode), kind, str(step), str(repeat), channel])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
