"""A webhook: Alertmanager's payload, version 4, signed as Standard Webhooks says.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
https://www.standardwebhooks.com
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook

from service.domain.clock import Clock, iso
from service.domain.errors import InvalidInput
from service.domain.notifications import Notification, NotificationKind
from service.notify.channels.base import ChannelType, post
from service.notify.messages import Message
from service.notify.plain import whole

#: How Alertmanager's Go program writes "no time yet".
OPEN = "0001-01-01T00:00:00Z"

_PREFIX = "whsec_"
_SECRET_MIN = 16


class WebhookChannel:
    """One URL. Without a secret the calls are not signed."""

    type = ChannelType.WEBHOOK

    def __init__(
        self,
        http: httpx.AsyncClient,
        clock: Clock,
        url: str,
        secret: str = "",
        external_url: str = "",
    ) -> None:
        self._http = http
        self._clock = clock
        self._url = url
        self._signer = signer(secret) if secret else None
        self._external_url = external_url
        self._agent = f"offbeat/{version('offbeat')}"

    async def send(self, notification: Notification, message: Message) -> None:
        """Post the alert; `Retryable` or `Permanent` if the receiver does not take it."""
        body = json.dumps(payload(notification, message, self._external_url))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            "Idempotency-Key": notification.id,
            "webhook-id": notification.id,
        }
        if self._signer is not None:
            now = datetime.now(UTC)  # receivers refuse what is five minutes off the wall clock
            headers["webhook-timestamp"] = str(int(now.timestamp()))
            headers["webhook-signature"] = self._signer.sign(notification.id, now, body)
        await post(self._http, self._url, body.encode(), headers, self._clock.now())


def signer(secret: str) -> Webhook:
    """Signs with `whsec_` + base64, the form of Standard Webhooks; `InvalidInput` for others."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX) + "==", validate=False)
        if len(key) < _SECRET_MIN or not secret.isascii():
            raise ValueError("too short")
        return Webhook(key)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(
            f"a webhook's secret is {_PREFIX} and base64 of at least {_SECRET_MIN} random bytes",
            where="secret",
        ) from error


def payload(notification: Notification, message: Message, external_url: str) -> dict[str, Any]:
    """Version 4 of Alertmanager's webhook: each of our alerts is a group of its own."""
    if notification.kind is NotificationKind.SUMMARY:
        alerts = _summarised(notification, external_url)
        count = notification.payload.get("count")
        left_out = max(0, count - len(alerts)) if isinstance(count, int) else 0
        note = {"summary": message.headline, "description": message.sentence}
        return _envelope(notification, {}, alerts, note, left_out, external_url)
    if notification.kind is NotificationKind.TEST:
        labels = {"alertname": "OffbeatTest", "severity": "info"}
        note = {"summary": message.headline, "description": " ".join(message.body)}
        at = iso(notification.created_at) or OPEN
        alert = _alert("firing", labels, note, at, OPEN, external_url, notification.id)
        return _envelope(notification, labels, [alert], note, 0, external_url)
    found = notification.payload
    labels = {
        "alertname": whole(found.get("rule_name", "")),
        "severity": message.severity,
        **_strings(found.get("labels")),
    }
    note = {
        "summary": message.headline,
        "description": " ".join((message.urgent, message.sentence)).strip(),
        **_strings(found.get("annotations")),
    }
    alert = _alert(
        "resolved" if notification.kind is NotificationKind.RESOLVED else "firing",
        labels,
        note,
        _time(found.get("fired_at")) or _time(found.get("started_at")) or OPEN,
        _time(found.get("resolved_at")) or OPEN,
        whole(found.get("url") or external_url),
        whole(found.get("fingerprint", "")),
    )
    return _envelope(notification, labels, [alert], note, 0, external_url)


def _summarised(notification: Notification, external_url: str) -> list[dict[str, Any]]:
    listed = notification.payload.get("alerts")
    alerts = []
    for item in listed if isinstance(listed, list) else []:
        if not isinstance(item, dict):
            continue
        labels = {
            "alertname": whole(item.get("rule_name", "")),
            "severity": whole(item.get("severity", "")),
            **_strings(item.get("labels")),
        }
        over = item.get("kind") == NotificationKind.RESOLVED
        at = _time(item.get("at")) or OPEN
        status, ends = ("resolved", at) if over else ("firing", OPEN)
        alerts.append(_alert(status, labels, {}, at, ends, external_url, ""))
    return alerts


def _alert(
    status: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    starts_at: str,
    ends_at: str,
    url: str,
    fingerprint: str,
) -> dict[str, Any]:
    return {
        "status": status,
        "labels": dict(labels),
        "annotations": dict(annotations),
        "startsAt": starts_at,
        "endsAt": ends_at if status == "resolved" else OPEN,
        "generatorURL": url,
        "fingerprint": fingerprint,
    }


def _envelope(
    notification: Notification,
    group_labels: Mapping[str, str],
    alerts: list[dict[str, Any]],
    annotations: Mapping[str, str],
    left_out: int,
    external_url: str,
) -> dict[str, Any]:
    firing = not alerts or any(alert["status"] == "firing" for alert in alerts)
    inner = ", ".join(f"{k}={json.dumps(v)}" for k, v in sorted(group_labels.items()))
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{inner}}}",
        "truncatedAlerts": left_out,
        "status": "firing" if firing else "resolved",
        "receiver": notification.channel,
        "groupLabels": dict(group_labels),
        "commonLabels": dict(group_labels),
        "commonAnnotations": dict(annotations),
        "externalURL": external_url,
        "alerts": alerts,
    }


def _strings(found: object) -> dict[str, str]:
    return {whole(k): whole(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _time(found: object) -> str | None:
    return iso(float(found)) if isinstance(found, int | float) and 0 <= found < 1e11 else None
