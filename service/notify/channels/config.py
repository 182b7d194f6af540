"""How a channel is configured: read from JSON, checked, and shown without its secrets."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from service.domain.errors import InvalidInput
from service.notify.channels.base import ChannelType
from service.notify.channels.email import check_address
from service.notify.channels.webhook import signer
from service.security.outgoing import check_url

RECEIVERS_MAX = 50


@dataclass(frozen=True, slots=True)
class SlackConfig:
    """An incoming webhook; its URL is the secret."""

    webhook_url: str
    type: ChannelType = ChannelType.SLACK

    def shown(self) -> dict[str, Any]:
        """Without the secret."""
        return {"type": self.type, "webhook_url": _shown_url(self.webhook_url)}


@dataclass(frozen=True, slots=True)
class EmailConfig:
    """Receivers; the mail goes through the platform's server."""

    to: tuple[str, ...]
    type: ChannelType = ChannelType.EMAIL

    def shown(self) -> dict[str, Any]:
        """All of it: addresses are no secrets to their tenant."""
        return {"type": self.type, "to": list(self.to)}


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """A URL, and the secret that signs the calls (empty: not signed)."""

    url: str
    secret: str = ""
    type: ChannelType = ChannelType.WEBHOOK

    def shown(self) -> dict[str, Any]:
        """Without secrets; tokens hide in paths and queries too."""
        shown = {"type": self.type, "url": _shown_url(self.url)}
        return {**shown, "secret": _last4(self.secret)} if self.secret else shown


ChannelConfig = SlackConfig | EmailConfig | WebhookConfig


def parse_config(body: Mapping[str, Any], *, allow_private: bool = False) -> ChannelConfig:
    """The configuration in `body`; `InvalidInput` names the field that is wrong and why."""
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in _READERS:
        raise InvalidInput(f"type is one of {', '.join(_READERS)}, not {kind!r}", where="type")
    fields, read = _READERS[kind]
    unknown = sorted(set(body) - {"type", *fields})
    if unknown:
        raise InvalidInput(
            f"a channel of type {kind} has {', '.join(fields)}, but no {unknown[0][:64]!r}",
            where=unknown[0][:64],
        )
    return read(body, allow_private)


def dump(config: ChannelConfig) -> dict[str, Any]:
    """What `parse_config` reads again; contains the secrets."""
    return asdict(config)


def _slack(body: Mapping[str, Any], allow_private: bool) -> SlackConfig:
    url = _text(body, "webhook_url")
    check_url(url, allow_private=allow_private, where="webhook_url")
    return SlackConfig(url)


def _email(body: Mapping[str, Any], _allow_private: bool) -> EmailConfig:
    to = body.get("to")
    listed: list[Any] = []
    if isinstance(to, str):
        listed = [part for part in to.split(",") if part.strip()]
    elif isinstance(to, list | tuple):
        listed = list(to)
    if not listed:
        raise InvalidInput("name at least one e-mail address", where="to")
    if len(listed) > RECEIVERS_MAX:
        raise InvalidInput(f"at most {RECEIVERS_MAX} e-mail addresses", where="to")
    return EmailConfig(tuple(dict.fromkeys(check_address(str(a), "to") for a in listed)))


def _webhook(body: Mapping[str, Any], allow_private: bool) -> WebhookConfig:
    url = _text(body, "url")
    check_url(url, allow_private=allow_private, where="url")
    secret = _text(body, "secret") if body.get("secret") else ""
    if secret:
        signer(secret)
    return WebhookConfig(url, secret)


_Reader = Callable[[Mapping[str, Any], bool], ChannelConfig]
_READERS: dict[str, tuple[tuple[str, ...], _Reader]] = {
    "slack": (("webhook_url",), _slack),
    "email": (("to",), _email),
    "webhook": (("url", "secret"), _webhook),
}


def _text(body: Mapping[str, Any], name: str) -> str:
    found = body.get(name)
    if not isinstance(found, str) or not found.strip():
        raise InvalidInput(f"{name} is missing", where=name)
    return found.strip()


def _last4(secret: str) -> str:
    # Of a short secret, four characters would be too much of it.
    return f"…{secret[-4:]}" if len(secret) >= 16 else "…"


def _shown_url(url: str) -> str:
    parsed = httpx.URL(url)
    authority = parsed.netloc.decode()
    rest = parsed.raw_path.decode()
    return f"{parsed.scheme}://{authority}/" + ("" if rest in ("", "/") else _last4(rest))
