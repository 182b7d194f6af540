"""Channels of tenants and of the platform."""

import pytest
from pydantic import SecretStr

from service.domain.clock import ManualClock
from service.domain.errors import ConfigurationError, InvalidInput
from service.domain.notifications import NotificationKind
from service.notify.channels.base import ChannelType, Permanent
from service.notify.messages import compose
from service.notify.store import ChannelStore
from service.security.crypto import SecretBox
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import channels as table
from tests.support.notifications import NOW, notification

SLACK = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/T/B/one"}
OTHER = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/T/B/two"}


def platform(settings: Settings, **changed: object) -> Settings:
    return settings.model_copy(update=changed)


ALL = {
    "slack_webhook_url": SecretStr("http://127.0.0.1:1/slack"),
    "smtp_host": "127.0.0.1",
    "alert_email_to": "ops@example.org, night@example.org",
    "alert_webhook_url": "http://127.0.0.1:1/hook",
    "alert_webhook_secret": SecretStr("whsec_" + "c2VjcmV0" * 4),
}


async def test_the_platforms_channels_serve_tenants_without_their_own(
    database: Database, clock: ManualClock, settings: Settings
) -> None:
    store = ChannelStore(database, clock, SecretBox(b"k" * 32), platform(settings, **ALL))
    for name in ("slack", "email", "webhook"):
        assert (await store.resolve("acme", name)).type == name
        assert await store.exists("acme", name)
    shown = await store.list("acme")
    assert [(v.name, v.platform) for v in shown] == [
        ("email", True),
        ("slack", True),
        ("webhook", True),
    ]
    assert "127.0.0.1" not in str(shown)
    assert "example.org" not in str(shown)
    shared = await store.resolve("acme", "slack")
    assert shared is await store.resolve("other", "slack")
    await store.put("acme", "slack", SLACK, actor="test")
    assert await store.resolve("acme", "slack") is not shared
    assert await store.resolve("other", "slack") is shared
    await store.delete("acme", "slack", actor="test")
    assert await store.resolve("acme", "slack") is shared
    await store.close()


async def test_what_is_not_configured_says_so(channels: ChannelStore) -> None:
    with pytest.raises(Permanent) as caught:
        await channels.resolve("acme", "slack")
    assert str(caught.value) == "channel 'slack' is not configured for tenant acme"
    assert not await channels.exists("acme", "slack")


async def test_a_change_made_by_another_process_holds_at_once(
    database: Database, clock: ManualClock, settings: Settings, channels: ChannelStore
) -> None:
    await channels.put("acme", "slack", SLACK, actor="test")
    first = await channels.resolve("acme", "slack")
    assert await channels.resolve("acme", "slack") is first
    elsewhere = ChannelStore(database, clock, SecretBox(b"k" * 32), settings)
    await elsewhere.put("acme", "slack", OTHER, actor="test")
    assert await channels.resolve("acme", "slack") is not first
    await elsewhere.delete("acme", "slack", actor="test")
    with pytest.raises(Permanent):
        await channels.resolve("acme", "slack")


async def test_a_channel_stolen_from_another_tenant_does_not_open(
    database: Database, channels: ChannelStore
) -> None:
    await channels.put("acme", "slack", SLACK, actor="test")
    await channels.put("other", "slack", OTHER, actor="test")
    async with database.begin() as connection:
        stolen = table.update().where(table.c.tenant == "other")
        sealed = (await connection.execute(table.select().where(table.c.tenant == "acme"))).one()
        await connection.execute(stolen.values(config=sealed.config))
    with pytest.raises(Permanent, match="configure it again"):
        await channels.resolve("other", "slack")
    [view] = await channels.list("other")
    assert view.config == {"type": "slack", "problem": "cannot be opened"}
    await channels.put("other", "slack", OTHER, actor="test")
    assert (await channels.resolve("other", "slack")).type is ChannelType.SLACK


async def test_tenants_reach_no_private_address_unless_the_operator_says_so(
    database: Database, clock: ManualClock, settings: Settings
) -> None:
    strict = platform(settings, outgoing_allow_private=False)
    store = ChannelStore(database, clock, SecretBox(b"k" * 32), strict)
    inside = {"type": "slack", "webhook_url": "http://127.0.0.1:9/x"}
    with pytest.raises(InvalidInput, match="loopback"):
        await store.put("acme", "slack", inside, actor="test")
    loose = ChannelStore(database, clock, SecretBox(b"k" * 32), settings)
    await loose.put("acme", "slack", inside, actor="test")
    # Allowed once, forbidden since: the client refuses when it sends.
    item = notification(NotificationKind.FIRING)
    channel = await store.resolve("acme", "slack")
    with pytest.raises(Permanent, match="loopback"):
        await channel.send(item, compose(item, NOW, ""))
    await store.close()


@pytest.mark.parametrize(
    ("changed", "variable"),
    [
        ({"slack_webhook_url": SecretStr("hooks.slack.com")}, "SLACK_WEBHOOK_URL"),
        ({"alert_webhook_url": "http://169.254.169.254/"}, "ALERT_WEBHOOK_URL"),
        ({**ALL, "alert_webhook_secret": SecretStr("x")}, "ALERT_WEBHOOK_SECRET"),
        ({**ALL, "smtp_host": ""}, "SMTP_HOST"),
        ({**ALL, "alert_email_to": "nobody"}, "ALERT_EMAIL_TO"),
        ({**ALL, "smtp_from": "x\r\ny"}, "SMTP_FROM"),
    ],
)
async def test_a_wrong_environment_stops_the_start_and_is_named(
    database: Database,
    clock: ManualClock,
    settings: Settings,
    changed: dict[str, object],
    variable: str,
) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        ChannelStore(database, clock, SecretBox(b"k" * 32), platform(settings, **changed))
