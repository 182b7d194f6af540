"""An alert's life.

An alert is (tenant, rule, fingerprint, episode): one series (or label set) that breaks one rule,
once. `version` grows with each change; a change is compare-and-set on it.

    pending ──(for passed)──▶ firing ──(condition gone)──▶ resolved
       └──(condition gone)──▶ removed
"""

from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.rules import Rule, Severity


class AlertState(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


ACTIVE = (AlertState.PENDING, AlertState.FIRING)


class EventKind(StrEnum):
    """What happened to an alert; the timeline and the audit log use these."""

    PENDING = "pending"
    FIRED = "fired"
    ACKNOWLEDGED = "acknowledged"
    ESCALATED = "escalated"
    NOTIFIED = "notified"
    SUPPRESSED = "suppressed"  # not notified, with the reason in the detail
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as SQL keeps it. Times are Unix seconds.

    `labels` are the series' labels with `alertname` and the rule's own labels; `source` is the
    series judged (16 hex digits, empty for none); `expectation` is a short sentence such as
    "above 0.05" or "expected 12 to 19".
    """

    id: str
    tenant: str
    rule_id: str
    rule_name: str
    fingerprint: str
    episode: int
    state: AlertState
    severity: Severity
    labels: dict[str, str]
    started_at: float
    value: float | None = None
    source: str = ""
    expectation: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    fired_at: float | None = None
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    last_seen_at: float | None = None
    version: int = 1

    @property
    def active(self) -> bool:
        """Pending or firing."""
        return self.state in ACTIVE


class Move(StrEnum):
    """What a judgement does to an alert."""

    NOTHING = "nothing"  # there is no alert and none begins
    START = "start"  # a pending one begins
    FIRE = "fire"  # a pending one has waited long enough, or one begins that need not wait
    KEEP = "keep"
    REMOVE = "remove"  # a pending one goes as if it had never been
    RESOLVE = "resolve"


@dataclass(frozen=True, slots=True)
class Decision:
    """A move, with its reason where the condition's end is not the reason."""

    move: Move
    reason: str = ""


SERIES_ENDED = "series ended"


def step(
    alert: Alert | None,
    rule: Rule,
    active: bool | None,
    now: float,
    *,
    lookback_seconds: float,
    absent_resolve_seconds: float,
) -> Decision:
    """What to do with `alert` (None: no open one) when its series is judged at `now`.

    `active` says whether the condition holds, None that nobody knows: the series has no sample
    that is young enough. Missing data resolves nothing until it has been missing for
    `absent_resolve_seconds` since `last_seen_at`; a pending alert waits `lookback_seconds` for it.
    """
    if alert is None:
        if not active:
            return Decision(Move.NOTHING)
        return Decision(Move.START if rule.for_seconds > 0 else Move.FIRE)
    pending = alert.state is AlertState.PENDING
    if active:
        waited = now - alert.started_at >= rule.for_seconds
        return Decision(Move.FIRE if pending and waited else Move.KEEP)
    if active is None:
        silent = now - (alert.started_at if alert.last_seen_at is None else alert.last_seen_at)
        if silent < (lookback_seconds if pending else absent_resolve_seconds):
            return Decision(Move.KEEP)
        return Decision(Move.REMOVE if pending else Move.RESOLVE, SERIES_ENDED)
    return Decision(Move.REMOVE if pending else Move.RESOLVE)
