"""What a notification carries: all that a message needs, as it was when it was decided."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.alerts import Alert


def alert_url(public_url: str, tenant: str, alert_id: str) -> str:
    """Where people see the alert."""
    return f"{public_url}/dashboard/{tenant}#alert-{alert_id}"


def alert_payload(
    alert: Alert,
    *,
    public_url: str,
    step: int = 0,
    chart: Mapping[str, Sequence[float]] | None = None,
    reason: str = "",
) -> dict[str, Any]:
    """The payload of firing, resolved and escalated notifications; times are Unix seconds.

    `step` is the escalation's, from 1, and 0 for what is no escalation. `chart` is
    `{"t": [milliseconds…], "v": [values…]}`. `reason` says why an alert is over whose series did
    not get well: it ended, or the rule was deleted, disabled or changed.
    """
    payload: dict[str, Any] = {
        "alert_id": alert.id,
        "tenant": alert.tenant,
        "rule_name": alert.rule_name,
        "severity": str(alert.severity),
        "state": str(alert.state),
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "value": alert.value,
        "expectation": alert.expectation,
        "started_at": alert.started_at,
        "fired_at": alert.fired_at,
        "resolved_at": alert.resolved_at,
        "fingerprint": alert.fingerprint,
        "episode": alert.episode,
        "step": step,
        "url": alert_url(public_url, alert.tenant, alert.id),
    }
    if reason:
        payload["reason"] = reason
    if chart is not None:
        payload["chart"] = {name: list(values) for name, values in chart.items()}
    return payload


def summary_payload(held: Sequence[Mapping[str, Any]], since: float) -> dict[str, Any]:
    """The payload of a summary. `held` are payloads with their `kind` and the time `at`."""
    return {
        "count": len(held),
        "since": since,
        "alerts": [
            {name: item.get(name) for name in ("rule_name", "severity", "labels", "kind", "at")}
            for item in held[:SUMMARY_LISTS]
        ],
    }


#: Notifications that a summary names; it counts them all.
SUMMARY_LISTS = 20
