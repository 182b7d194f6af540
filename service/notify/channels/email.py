"""E-mail: text and HTML side by side, one thread an alert.

The Message-ID comes from the notification's id, so that a mail sent twice after a crash is the
same mail to every server and reader. All mails of one episode refer to the same root, and a
resolve to its firing, so that readers thread them.
"""

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

import aiosmtplib
import structlog

from service.domain.errors import InvalidInput
from service.domain.notifications import Notification, NotificationKind, notification_id
from service.notify.channels.base import ChannelType, Permanent, Retryable
from service.notify.messages import Message, Tone

log = structlog.get_logger(__name__)

_COLOUR = {Tone.BAD: "#b42318", Tone.GOOD: "#1a7f37", Tone.PLAIN: "#475467"}
_TOTAL_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class MailServer:
    """How mail leaves. `tls` is starttls, tls or none."""

    host: str
    port: int
    user: str
    password: str
    tls: str
    sender: str


class EmailChannel:
    """Receivers behind the platform's mail server."""

    type = ChannelType.EMAIL

    def __init__(self, server: MailServer, to: tuple[str, ...]) -> None:
        self._server = server
        self._to = to

    async def send(self, notification: Notification, message: Message) -> None:
        """Hand the mail over; `Retryable` or `Permanent` if the server does not take it."""
        try:
            mail = render(notification, message, self._server.sender, self._to)
        except (ValueError, MessageError) as error:
            raise Permanent(f"the mail cannot be written: {error}") from error
        server = self._server
        try:
            async with asyncio.timeout(_TOTAL_SECONDS):
                refused, _ = await aiosmtplib.send(
                    mail,
                    sender=Address(addr_spec=server.sender).addr_spec,
                    recipients=list(self._to),
                    hostname=server.host,
                    port=server.port,
                    username=server.user or None,
                    password=server.password or None,
                    use_tls=server.tls == "tls",
                    start_tls=server.tls == "starttls",
                    timeout=_TOTAL_SECONDS,
                )
        except aiosmtplib.SMTPAuthenticationError as error:
            # The operator can mend a password within the hours that retries go on.
            raise Retryable(f"the mail server refuses our login: {_said(error)}") from error
        except aiosmtplib.SMTPResponseException as error:
            kind = Permanent if 500 <= error.code < 600 else Retryable
            raise kind(f"the mail server answered {error.code}: {_said(error)}") from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [r.code for r in error.recipients if isinstance(r.code, int)]
            kind = Permanent if codes and all(500 <= c < 600 for c in codes) else Retryable
            names = ", ".join(f"{r.recipient} ({r.code})" for r in error.recipients)
            raise kind(f"the mail server refuses every receiver: {names[:300]}") from error
        except TimeoutError as error:
            raise Retryable(f"the mail server {server.host} did not answer in time") from error
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError) as error:
            raise Retryable(f"mail server {server.host}:{server.port}: {error}") from error
        for receiver, answer in refused.items():
            log.warning(
                "mail receiver refused",
                tenant=notification.tenant,
                notification=notification.id,
                receiver=receiver,
                code=answer.code,
            )


def check_address(text: str, where: str) -> str:
    """The plain address `user@host`, as servers without extensions take it; `InvalidInput`."""
    text = text.strip()
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, MessageError) as error:
        raise InvalidInput(f"{text[:100]!r} is not an e-mail address", where=where) from error
    good = text.isascii() and text.isprintable() and " " not in text and len(text) <= 254
    if not (good and address.username and address.domain):
        raise InvalidInput(f"{text[:100]!r} is not an e-mail address", where=where)
    return text


def render(
    notification: Notification, message: Message, sender: str, to: tuple[str, ...]
) -> EmailMessage:
    """The mail. Headers take one line of clean text only, so nothing can be injected."""
    domain = sender.rpartition("@")[2] or "localhost"
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("Offbeat", addr_spec=sender)
    mail["To"] = [Address(addr_spec=address) for address in to]
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(datetime.now(UTC))  # mail servers judge it by the wall clock
    mail["Message-ID"] = f"<{notification.id}@{domain}>"
    firing = _firing_id(notification)
    if firing is not None:
        root = f"<alert.{notification.alert_id}@{domain}>"
        if firing != notification.id:
            mail["In-Reply-To"] = f"<{firing}@{domain}>"
            mail["References"] = f"{root} <{firing}@{domain}>"
        else:
            mail["References"] = root
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if message.severity in ("critical", "high") and message.tone is Tone.BAD:
        mail["Importance"] = "high"
    mail.set_content(_text(message), cte="quoted-printable")
    mail.add_alternative(_html(message), subtype="html", cte="quoted-printable")
    return mail


def _firing_id(notification: Notification) -> str | None:
    """Id of the first message about the same episode in this channel."""
    if notification.alert_id is None:
        return None
    if notification.kind is NotificationKind.FIRING:
        return notification.id
    episode = notification.payload.get("episode")
    return notification_id(
        notification.tenant,
        notification.alert_id,
        episode if isinstance(episode, int) else 1,
        NotificationKind.FIRING,
        0,
        0,
        notification.channel,
    )


def _said(error: aiosmtplib.SMTPResponseException) -> str:
    return " ".join(str(error.message).split())[:200]


def _text(message: Message) -> str:
    parts = [message.headline, "\n".join(message.body)]
    if message.items:
        parts.append("\n".join(f"- {item}" for item in message.items))
    if message.labels:
        parts.append("\n".join(f"{k}: {v}" for k, v in message.labels))
    if message.trend:
        parts.append(message.trend)
    links = [(message.link_text, message.link), ("Runbook", message.runbook)]
    parts.append("\n".join(f"{text}: {url}" for text, url in links if url))
    parts.append(f"-- \nOffbeat, tenant {message.tenant}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(message: Message) -> str:
    colour = _COLOUR[message.tone]
    state = ", ".join(part for part in (message.severity, message.status) if part)
    rows = "".join(
        f'<tr><td style="padding:2px 16px 2px 0;color:#667085">{escape(k)}</td>'
        f'<td style="padding:2px 0">{escape(v)}</td></tr>'
        for k, v in message.labels
    )
    parts = [
        f'<p style="margin:0;color:{colour};font-weight:600">{escape(state)}</p>',
        f'<h1 style="margin:4px 0 12px;font-size:20px">{escape(message.headline)}</h1>',
        *(f'<p style="margin:0 0 8px">{escape(line)}</p>' for line in message.body),
    ]
    if message.items:
        lines = "".join(f"<li>{escape(item)}</li>" for item in message.items)
        parts.append(f'<ul style="padding-left:20px">{lines}</ul>')
    if rows:
        parts.append(f'<table style="margin:12px 0;border-collapse:collapse">{rows}</table>')
    if message.trend:
        parts.append(f'<p style="margin:12px 0;font-size:18px;color:{colour}">{message.trend}</p>')
    if message.link:
        parts.append(
            f'<p style="margin:20px 0"><a href="{escape(message.link)}" style="background:{colour};'
            "color:#ffffff;padding:10px 16px;border-radius:6px;text-decoration:none;"
            f'font-weight:600">{escape(message.link_text)}</a></p>'
        )
    if message.runbook:
        parts.append(f'<p><a href="{escape(message.runbook)}">Runbook</a></p>')
    parts.append(
        f'<p style="color:#667085;font-size:12px">Offbeat, tenant {escape(message.tenant)}</p>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark"></head>'
        '<body style="margin:0;padding:24px;font:15px/1.5 system-ui,sans-serif">'
        f'<div style="max-width:600px;border-left:4px solid {colour};padding-left:16px">'
        f"{''.join(parts)}</div></body></html>\n"
    )
