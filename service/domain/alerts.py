"""An alert's life.

An alert is (tenant, rule, fingerprint, episode): one series (or label set) that breaks one rule,
once. `version` grows with each change; a change is compare-and-set on it.

    pending ──(for passed)──▶ firing ──(condition gone)──▶ resolved
       └──(condition gone)──▶ removed
"""

from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.rules import Severity


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
