"""The channels of every tenant, encrypted in SQL, and the platform's own from the settings.

A tenant's channel hides the platform's of the same name. A channel is looked up for each message,
so a change holds for the next one, whichever process made it; what is expensive about a channel
is kept while its configuration stays the same.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import delete, func, insert, select, update

from service.domain.clock import Clock
from service.domain.errors import ConfigurationError, InvalidInput, NotFound, Unprocessable
from service.notify.channels.base import Channel, Permanent
from service.notify.channels.config import (
    ChannelConfig,
    EmailConfig,
    SlackConfig,
    dump,
    parse_config,
)
from service.notify.channels.email import EmailChannel, MailServer, check_address
from service.notify.channels.slack import SlackChannel
from service.notify.channels.webhook import WebhookChannel
from service.security import audit, outgoing
from service.security.crypto import CryptoError, SecretBox
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import channels

CHANNELS_MAX = 100

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")
_CACHED = 4096

#: Makes a client; True lets it reach private addresses.
HttpFactory = Callable[[bool], httpx.AsyncClient]


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel as people see it: `config` without secrets. Times are Unix seconds.

    The platform's own channels have no times.
    """

    name: str
    config: dict[str, Any]
    platform: bool = False
    created_at: float | None = None
    updated_at: float | None = None


class ChannelStore:
    """Configures channels, and finds the one that a message goes to."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        secrets: SecretBox,
        settings: Settings,
        http: HttpFactory = outgoing.client,
    ) -> None:
        self._database = database
        self._clock = clock
        self._secrets = secrets
        self._settings = settings
        self._http = http
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._cache: dict[tuple[str, str], tuple[str, Channel]] = {}
        self._defaults = _platform_channels(settings)
        self._platform: dict[str, Channel] = {}

    async def put(
        self, tenant: str, name: str, body: Mapping[str, Any], *, actor: str
    ) -> tuple[ChannelView, bool]:
        """Create or replace a channel; the view, and whether it is new. The same twice is once.

        Raises `InvalidInput` for a body that cannot be used, `Unprocessable` for one that cannot
        be used here. Changes are audited.
        """
        check_name(name)
        config = parse_config(body, allow_private=self._settings.outgoing_allow_private)
        if isinstance(config, EmailConfig) and not self._settings.smtp_host:
            raise Unprocessable(
                "this platform sends no mail: its operator has not set SMTP_HOST", where="type"
            )
        now = self._clock.now()
        plain = json.dumps(dump(config), sort_keys=True).encode()
        async with self._database.begin() as connection:
            row = (await connection.execute(_one(tenant, name))).one_or_none()
            if row is not None and self._opened(tenant, name, row.config) == plain:
                return ChannelView(
                    name, config.shown(), False, row.created_at, row.updated_at
                ), False
            sealed = self._secrets.seal(plain, _context(tenant, name))
            values = {"type": config.type, "config": sealed, "updated_at": now}
            if row is None:
                held = select(func.count()).where(channels.c.tenant == tenant)
                if (await connection.scalar(held) or 0) >= CHANNELS_MAX:
                    raise Unprocessable(f"a tenant has at most {CHANNELS_MAX} channels")
                await connection.execute(
                    insert(channels).values(tenant=tenant, name=name, created_at=now, **values)
                )
            else:
                await connection.execute(
                    update(channels)
                    .where(channels.c.tenant == tenant, channels.c.name == name)
                    .values(**values)
                )
            await audit.record(
                connection,
                tenant=tenant,
                actor=actor,
                action="channel.changed" if row else "channel.created",
                subject=name,
                detail=config.shown(),
                at=now,
            )
        created_at = row.created_at if row else now
        return ChannelView(name, config.shown(), False, created_at, now), row is None

    async def delete(self, tenant: str, name: str, *, actor: str) -> None:
        """Remove a tenant's own channel; audited. `NotFound` if it has none of that name."""
        check_name(name)
        async with self._database.begin() as connection:
            done = await connection.execute(
                delete(channels).where(channels.c.tenant == tenant, channels.c.name == name)
            )
            if not done.rowcount:
                raise NotFound(f"there is no channel {name[:64]!r}")
            await audit.record(
                connection,
                tenant=tenant,
                actor=actor,
                action="channel.deleted",
                subject=name,
                detail={},
                at=self._clock.now(),
            )
        self._cache.pop((tenant, name), None)

    async def list(self, tenant: str) -> list[ChannelView]:
        """Every channel that the tenant's rules can name, by name, without secrets."""
        query = select(channels).where(channels.c.tenant == tenant)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        # What the operator's own receivers are is none of a tenant's business, only that they are.
        found = {
            name: ChannelView(name, {"type": config.type}, platform=True)
            for name, config in self._defaults.items()
        }
        for row in rows:
            config = self._read(tenant, row.name, row.config)
            shown = config.shown() if config else {"type": row.type, "problem": "cannot be opened"}
            found[row.name] = ChannelView(row.name, shown, False, row.created_at, row.updated_at)
        return [found[name] for name in sorted(found)]

    async def exists(self, tenant: str, name: str) -> bool:
        """Whether a message to that channel has somewhere to go."""
        if name in self._defaults:
            return True
        async with self._database.read() as connection:
            return (await connection.execute(_one(tenant, name))).one_or_none() is not None

    async def resolve(self, tenant: str, name: str) -> Channel:
        """The channel to send through; `Permanent` if there is none, or none that can be used."""
        async with self._database.read() as connection:
            row = (await connection.execute(_one(tenant, name))).one_or_none()
        if row is None:
            self._cache.pop((tenant, name), None)
            if name not in self._defaults:
                raise Permanent(f"channel {name!r} is not configured for tenant {tenant}")
            if name not in self._platform:
                self._platform[name] = self._make(self._defaults[name], allow_private=True)
            return self._platform[name]
        sealed, channel = self._cache.get((tenant, name), ("", None))
        if channel is None or sealed != row.config:
            config = self._read(tenant, name, row.config)
            if config is None:
                raise Permanent(
                    f"channel {name!r} of tenant {tenant} cannot be opened: OFFBEAT_SECRET_KEY "
                    "is another one than when it was stored; configure it again"
                )
            channel = self._make(config, self._settings.outgoing_allow_private)
            if len(self._cache) >= _CACHED:
                self._cache.pop(next(iter(self._cache)))
            self._cache[tenant, name] = (row.config, channel)
        return channel

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
        self._cache.clear()
        self._platform.clear()

    def _make(self, config: ChannelConfig, allow_private: bool) -> Channel:
        if isinstance(config, EmailConfig):
            if not self._settings.smtp_host:
                raise Permanent("this platform sends no mail: SMTP_HOST is not set")
            return EmailChannel(_mail_server(self._settings), config.to)
        if allow_private not in self._clients:
            self._clients[allow_private] = self._http(allow_private)
        http = self._clients[allow_private]
        if isinstance(config, SlackConfig):
            return SlackChannel(http, self._clock, config.webhook_url)
        return WebhookChannel(
            http, self._clock, config.url, config.secret, self._settings.public_url
        )

    def _opened(self, tenant: str, name: str, sealed: str) -> bytes | None:
        try:
            return self._secrets.open(sealed, _context(tenant, name))
        except CryptoError:
            return None

    def _read(self, tenant: str, name: str, sealed: str) -> ChannelConfig | None:
        plain = self._opened(tenant, name, sealed)
        # The client judges addresses again at each connection; here the form is enough.
        return parse_config(json.loads(plain), allow_private=True) if plain else None


def check_name(name: str) -> None:
    """`InvalidInput` unless a rule can name a channel so."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "a channel's name is 1 to 64 of a-z, 0-9, - and _, starting and ending with a letter "
            f"or digit, not {name[:80]!r}",
            where="name",
        )


def _context(tenant: str, name: str) -> str:
    return f"channel:{tenant}:{name}"


def _one(tenant: str, name: str) -> Any:
    return select(channels).where(channels.c.tenant == tenant, channels.c.name == name)


def _mail_server(settings: Settings) -> MailServer:
    return MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_user,
        settings.smtp_password.get_secret_value(),
        settings.smtp_tls,
        settings.smtp_from,
    )


def _platform_channels(settings: Settings) -> dict[str, ChannelConfig]:
    """What the environment configures; `ConfigurationError` names the variable that is wrong."""
    bodies: dict[str, tuple[str, dict[str, Any]]] = {}
    if url := settings.slack_webhook_url.get_secret_value():
        bodies["slack"] = ("SLACK_WEBHOOK_URL", {"type": "slack", "webhook_url": url})
    if settings.alert_email_to:
        if not settings.smtp_host:
            raise ConfigurationError("ALERT_EMAIL_TO: needs SMTP_HOST, the server to send through")
        bodies["email"] = ("ALERT_EMAIL_TO", {"type": "email", "to": settings.alert_email_to})
    if settings.smtp_host:
        try:
            check_address(settings.smtp_from, "SMTP_FROM")
        except InvalidInput as error:
            raise ConfigurationError(f"SMTP_FROM: {error}") from error
    if settings.alert_webhook_url:
        secret = settings.alert_webhook_secret.get_secret_value()
        body = {"type": "webhook", "url": settings.alert_webhook_url, "secret": secret}
        bodies["webhook"] = ("ALERT_WEBHOOK_URL", body)
    found: dict[str, ChannelConfig] = {}
    for name, (variable, body) in bodies.items():
        try:
            found[name] = parse_config(body, allow_private=True)
        except InvalidInput as error:
            if error.where == "secret":
                variable = "ALERT_WEBHOOK_SECRET"
            raise ConfigurationError(f"{variable}: {error}") from error
    return found
