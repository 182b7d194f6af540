"""What every channel is, and how sending can fail."""

from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Protocol

import httpx

from service.domain.errors import OffbeatError
from service.domain.notifications import Notification
from service.notify.messages import Message
from service.security.outgoing import Refused

#: A receiver may not ask us to stay away for longer.
RETRY_AFTER_MAX = 3600.0

_RETRYABLE_4XX = frozenset({408, 425, 429})


class ChannelType(StrEnum):
    """What a channel speaks."""

    SLACK = "slack"
    EMAIL = "email"
    WEBHOOK = "webhook"


class Retryable(OffbeatError):
    """It failed for now. `retry_after` is what the receiver asked for, in seconds."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(OffbeatError):
    """It will never work as it is: trying again changes nothing."""


class Channel(Protocol):
    """One configured receiver."""

    @property
    def type(self) -> ChannelType:
        """What it speaks; decides how often is retried."""
        ...

    async def send(self, notification: Notification, message: Message) -> None:
        """Deliver once. Raises `Retryable` or `Permanent`, with the reason; nothing else."""
        ...


async def post(
    http: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str], now: float
) -> None:
    """POST and judge the answer as every HTTP channel does; `now` is for dates in Retry-After."""
    try:
        answer = await http.post(url, content=body, headers=headers)
    except Refused as error:
        raise Permanent(str(error)) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise Permanent(f"the URL or a header cannot be used: {error}") from error
    except httpx.TimeoutException as error:
        raise Retryable(f"no answer in time ({type(error).__name__}: {error})") from error
    except httpx.HTTPError as error:
        raise Retryable(f"{type(error).__name__}: {error}") from error
    status = answer.status_code
    if 200 <= status < 300:
        return
    said = " ".join(answer.text.split())[:200]
    reason = f"the receiver answered {status}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        raise Permanent(f"{reason} (redirects are not followed; configure the final address)")
    if 400 <= status < 500 and status not in _RETRYABLE_4XX:
        raise Permanent(reason)
    raise Retryable(reason, retry_after=retry_after(answer.headers.get("retry-after"), now))


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date), at most an hour."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_MAX)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(0.0, moment - now), RETRY_AFTER_MAX)
