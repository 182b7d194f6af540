"""Rows for the outbox, and the channels' store."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, update

from service.domain.clock import ManualClock
from service.domain.notifications import DeliveryState, Notification
from service.notify.outbox import Outbox
from service.notify.store import ChannelStore
from service.security import outgoing
from service.security.crypto import SecretBox
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.sql.tables import alerts, outbox


class Rows:
    """Writes rows as the alerts' side does."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock
        self.outbox = Outbox(database, clock)

    async def add(self, *items: Notification, state: str = DeliveryState.PENDING) -> None:
        now = self.clock.now()
        async with self.database.begin() as connection:
            for item in items:
                await connection.execute(
                    insert(outbox).values(
                        id=item.id,
                        tenant=item.tenant,
                        alert_id=item.alert_id,
                        kind=item.kind,
                        step=item.step,
                        channel=item.channel,
                        payload=item.payload,
                        state=state,
                        attempts=item.attempts,
                        created_at=now,
                        due_at=now,
                    )
                )

    async def alert(self, id: str = "a1", tenant: str = "acme") -> None:
        """A firing alert."""
        async with self.database.begin() as connection:
            await connection.execute(
                insert(alerts).values(
                    id=id,
                    tenant=tenant,
                    rule_id="r1",
                    rule_name="High error rate",
                    fingerprint=id,
                    episode=1,
                    state="firing",
                    severity="critical",
                    labels={},
                    annotations={},
                    source="",
                    expectation="above 0.05",
                    started_at=self.clock.now(),
                    version=1,
                )
            )

    async def change(self, id: str = "a1", **values: object) -> None:
        """Acknowledge or resolve it."""
        async with self.database.begin() as connection:
            await connection.execute(update(alerts).where(alerts.c.id == id).values(**values))

    async def state(self, id: str, tenant: str = "acme") -> DeliveryState:
        return (await self.outbox.get(tenant, id)).state


@pytest.fixture
def rows(database: Database, clock: ManualClock) -> Rows:
    """On both databases, one after the other."""
    return Rows(database, clock)


@pytest.fixture
async def channels(
    database: Database, clock: ManualClock, settings: Settings
) -> AsyncIterator[ChannelStore]:
    """Channels that reach loopback and give up quickly."""
    store = ChannelStore(
        database,
        clock,
        SecretBox(b"k" * 32),
        settings,
        lambda private: outgoing.client(private, total=2.0),
    )
    yield store
    await store.close()
