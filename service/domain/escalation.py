"""An escalation's next step. It works on a snapshot of its policy, kept with its timer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.domain.rules import EscalationPolicy, EscalationStep


@dataclass(frozen=True, slots=True)
class Escalation:
    """One that runs: its policy as it was when it began (Unix seconds) and the step to come."""

    policy: EscalationPolicy
    started_at: float
    position: int

    @property
    def step(self) -> EscalationStep:
        """The step to come."""
        return self.policy.steps[self.position]

    @property
    def number(self) -> int:
        """The step to come as people count, from 1."""
        return self.position + 1

    @property
    def due_at(self) -> float:
        """When it is to be taken, Unix seconds."""
        return self.started_at + self.step.after_seconds

    def following(self) -> "Escalation | None":
        """The same, one step on; None after the last."""
        if self.position + 1 >= len(self.policy.steps):
            return None
        return replace(self, position=self.position + 1)

    def resumed(self, now: float) -> "Escalation":
        """The same with its step due at `now`, and those that follow at their distance from it."""
        return replace(self, started_at=self.started_at + now - self.due_at)

    def snapshot(self) -> dict[str, Any]:
        """As the timer keeps it; `step` and `channels` tell readers what comes next."""
        return {
            "policy": self.policy.name,
            "steps": policy_steps(self.policy),
            "started_at": self.started_at,
            "position": self.position,
            "step": self.number,
            "channels": list(self.step.channels),
        }

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> "Escalation":
        """From what a timer keeps."""
        return cls(
            policy_of(snapshot["policy"], snapshot["steps"]),
            float(snapshot["started_at"]),
            int(snapshot["position"]),
        )


def policy_steps(policy: EscalationPolicy) -> list[dict[str, Any]]:
    """A policy's steps as JSON keeps them."""
    return [{"after": s.after_seconds, "channels": list(s.channels)} for s in policy.steps]


def policy_of(name: str, steps: list[Mapping[str, Any]]) -> EscalationPolicy:
    """The policy of such steps."""
    return EscalationPolicy(
        name, tuple(EscalationStep(float(s["after"]), tuple(s["channels"])) for s in steps)
    )


def at_once(policy: EscalationPolicy | None) -> tuple[str, ...]:
    """Whom a policy wants to hear of an alert in the moment that it fires."""
    if policy is None or not policy.steps or policy.steps[0].after_seconds > 0:
        return ()
    return policy.steps[0].channels


def begin(policy: EscalationPolicy | None, now: float) -> Escalation | None:
    """The escalation that starts when an alert is announced at `now`; None if nothing follows.

    A first step without delay is part of the announcement.
    """
    if policy is None:
        return None
    first = 1 if at_once(policy) else 0
    return Escalation(policy, now, first) if first < len(policy.steps) else None
