"""Slack's incoming webhooks: Block Kit, with a coloured bar and a text for small screens.

https://api.slack.com/messaging/webhooks, https://api.slack.com/reference/block-kit/blocks
"""

import json
from typing import Any

import httpx

from service.domain.clock import Clock
from service.domain.notifications import Notification
from service.notify.channels.base import ChannelType, post
from service.notify.messages import Message, Tone

_COLOUR = {Tone.BAD: "#d1242f", Tone.GOOD: "#1a7f37", Tone.PLAIN: "#57606a"}
_SIGN = {"critical": "🔴", "high": "🟠", "medium": "🟡", "low": "🔵", "info": "⚪"}
_SECTION_MAX = 2900  # Slack takes 3,000


class SlackChannel:
    """One incoming webhook."""

    type = ChannelType.SLACK

    def __init__(self, http: httpx.AsyncClient, clock: Clock, webhook_url: str) -> None:
        self._http = http
        self._clock = clock
        self._url = webhook_url

    async def send(self, notification: Notification, message: Message) -> None:
        """Post the message; `Retryable` or `Permanent` if Slack does not take it."""
        body = json.dumps(render(message)).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        await post(self._http, self._url, body, headers, self._clock.now())


def render(message: Message) -> dict[str, Any]:
    """The body for Slack. All that came from outside is escaped: no links, no mentions."""
    blocks = _sections([_escape(line) for line in message.body], "\n")
    if message.items:
        blocks += _sections([f"• {_escape(item)}" for item in message.items], "\n")
    if message.labels:
        blocks += _sections([f"{_escape(k)}: {_code(v)}" for k, v in message.labels], "   ")
    if message.trend:
        blocks.append(_context(f"`{message.trend}`"))
    buttons = [
        {
            "type": "button",
            "text": {"type": "plain_text", "text": text},
            "url": url,
            "action_id": action,
        }
        for text, url, action in (
            (message.link_text, message.link, "open"),
            ("Runbook", message.runbook, "runbook"),
        )
        if url
    ]
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    blocks.append(_context(f"Offbeat, tenant {_escape(message.tenant)}"))
    return {
        "text": _escape(f"{_sign(message)} {message.subject}: {message.sentence}"),
        "blocks": [_section(f"{_sign(message)} *{_escape(message.headline)}*  {_state(message)}")],
        "attachments": [{"color": _COLOUR[message.tone], "blocks": blocks}],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _sign(message: Message) -> str:
    if message.tone is Tone.GOOD:
        return "🟢"
    return _SIGN.get(message.severity, "⚪")


def _state(message: Message) -> str:
    state = _escape(message.status)
    return f"{message.severity}, {state}" if message.severity else state


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _sections(parts: list[str], between: str) -> list[dict[str, Any]]:
    """As few sections as hold all parts, none of them cut."""
    found, current = [], parts[0]
    for part in parts[1:]:
        if len(current) + len(between) + len(part) > _SECTION_MAX:
            found.append(_section(current))
            current = part
        else:
            current += between + part
    return [*found, _section(current)]


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return f"`{_escape(text).replace('`', 'ʼ')}`"
