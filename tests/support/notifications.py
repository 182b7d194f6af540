"""Notifications as the alerts' side writes them."""

from typing import Any

from service.domain.notifications import Notification, NotificationKind, notification_id

NOW = 1_700_000_000.0  # 22:13:20 UTC

ALERT: dict[str, Any] = {
    "alert_id": "a1",
    "tenant": "acme",
    "rule_name": "High error rate",
    "severity": "critical",
    "state": "firing",
    "labels": {
        "__name__": "error_rate",
        "alertname": "High error rate",
        "service": "checkout",
        "region": "eu-west",
        "severity": "critical",
    },
    "annotations": {
        "description": "Customers cannot pay.",
        "runbook_url": "https://wiki.example/checkout",
    },
    "value": 0.1234,
    "expectation": "above 0.05",
    "started_at": NOW - 250,
    "fired_at": NOW - 190,
    "resolved_at": None,
    "fingerprint": "f00d",
    "episode": 1,
    "step": 0,
    "url": "https://offbeat.example/alerts/a1",
    "chart": {"t": list(range(8)), "v": [0.01, 0.02, 0.01, 0.02, 0.03, 0.08, 0.1, 0.12]},
}


def notification(
    kind: NotificationKind,
    *,
    tenant: str = "acme",
    channel: str = "slack",
    alert_id: str = "a1",
    step: int = 0,
    attempts: int = 0,
    **changed: Any,
) -> Notification:
    """One of that kind, with the usual payload changed where the test says so."""
    payload: dict[str, Any]
    if kind is NotificationKind.TEST:
        payload, alert = {"message": "Asked for by operator:ann."}, None
    elif kind is NotificationKind.SUMMARY:
        item = {k: ALERT[k] for k in ("rule_name", "severity", "labels")}
        items = [
            {**item, "kind": "firing", "at": NOW - 60},
            {**item, "severity": "low", "kind": "resolved", "at": NOW - 30},
        ]
        payload, alert = {"count": 37, "since": NOW - 3000, "alerts": items}, None
    else:
        payload, alert = {**ALERT, "alert_id": alert_id, "tenant": tenant}, alert_id
        if kind is NotificationKind.ESCALATED:
            payload["step"] = step = step or 2
        if kind is NotificationKind.RESOLVED:
            payload |= {"state": "resolved", "resolved_at": NOW - 10, "value": 0.01}
    id = notification_id(tenant, alert_id, 1, kind, step, 0, channel)
    return Notification(
        id, tenant, alert, kind, channel, {**payload, **changed}, step, attempts, NOW
    )
