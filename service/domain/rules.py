"""What a rule is. How it is read from YAML or JSON stands in `service.rules.schema`."""

from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.series import Selector

#: The escalation policy of rules that name none.
DEFAULT_POLICY = "default"

#: How likely a series crosses a threshold that the middle of its forecast crosses, at least.
LIKELY = 0.5


class Severity(StrEnum):
    """How bad, worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for critical, growing as it matters less."""
        return list(Severity).index(self)


class Condition(StrEnum):
    """What makes a series break the rule."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EQ = "eq"
    NE = "ne"
    ANOMALY = "anomaly"  # anomaly score at or above `threshold`, or alerts within `alert_budget`
    FORECAST = "forecast"  # the forecast crosses `threshold` within `horizon_seconds`
    NO_DATA = "no_data"  # no sample for `window_seconds`
    CHANGE = "change"  # the level changed within `window_seconds`
    PEERS = "peers"  # unlike the others of its group over `window_seconds`
    EXPR = "expr"  # the rule's own expression gives it

    @property
    def compares(self) -> bool:
        """Whether it compares the value itself with the threshold."""
        return self in _SIGN

    @property
    def sign(self) -> str:
        """`>` and the like; empty for conditions that do not compare."""
        return _SIGN.get(self, "")


_SIGN = {
    Condition.GT: ">",
    Condition.GTE: "≥",
    Condition.LT: "<",
    Condition.LTE: "≤",
    Condition.EQ: "=",
    Condition.NE: "≠",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One alerting rule. `tenant` is None for a rule of the file that holds for every tenant.

    It has a `query` of series that are judged by a condition, or a PromQL expression `expr`, whose
    selectors are `watches` then; its `query` accepts nothing.

    Durations are seconds. `alert_budget` is alerts a week over all series, of an anomaly rule that
    has no threshold. `operator` is gt, gte, lt or lte and says how a forecast crosses,
    `probability` how likely it must; with None its middle must.
    `peers_by` are labels that are equal within a group of peers.
    `escalation` names a policy; None uses the policy called `default`, if there is one.
    """

    id: str
    tenant: str | None
    name: str
    query: Selector
    condition: Condition
    threshold: float | None
    severity: Severity
    for_seconds: float = 0.0
    cooldown_seconds: float = 900.0
    window_seconds: float = 300.0
    horizon_seconds: float | None = None
    operator: Condition = Condition.GT
    probability: float | None = None
    peers_by: tuple[str, ...] = ()
    expr: str = ""
    watches: tuple[Selector, ...] = ()
    alert_budget: float | None = None
    channels: tuple[str, ...] = ()
    escalation: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    enabled: bool = True

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """Of the series that it looks at."""
        return self.watches or (self.query,)

    @property
    def from_file(self) -> bool:
        """Whether it stands in the rules file and not in SQL."""
        return self.id.startswith("file:")


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """Notify `channels` when `after_seconds` have passed since the alert fired, unanswered."""

    after_seconds: float
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EscalationPolicy:
    """Steps in order of time. An escalation keeps a snapshot, so that editing never corrupts it."""

    name: str
    steps: tuple[EscalationStep, ...]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All that a rules file says, and where it stands."""

    rules: tuple[Rule, ...] = ()
    policies: tuple[EscalationPolicy, ...] = ()
    source: str = ""

    def policy(self, name: str | None) -> EscalationPolicy | None:
        """The policy of that name; without a name, or for one that is gone, `default` if any."""
        named = {policy.name: policy for policy in self.policies}
        return named.get(name or DEFAULT_POLICY) or named.get(DEFAULT_POLICY)

    def rules_for(self, tenant: str) -> list[Rule]:
        """The rules that hold for a tenant."""
        return [rule for rule in self.rules if rule.tenant in (None, tenant)]
