"""The pages on a real server with real stores."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import uvicorn
from redis.asyncio import Redis

from service.app import create_app
from service.domain.tenants import PLATFORM, Role
from service.settings import Settings
from service.wiring import Wiring, wired
from tests.support.migrated import migrated
from tests.support.seed import Seed


@dataclass
class Site:
    """A running service; `url` has no slash at its end."""

    url: str
    parts: Wiring
    seed: Seed

    async def key(self, role: Role, tenant: str = "acme") -> str:
        """A live key."""
        tenant = PLATFORM if role is Role.ADMIN else tenant
        name = {Role.RESPONDER: "Mira"}.get(role, str(role))
        _, key = await self.parts.keys.create(tenant, role, name, "test")
        return key


@pytest.fixture
async def site(settings: Settings, redis: Redis) -> AsyncIterator[Site]:
    """The service on a free port, with the tenants `acme` and `other`."""
    async with wired(settings) as parts:
        await migrated(parts.database)
        await parts.tenants.create("acme", "Acme Music", "test")
        await parts.tenants.create("other", "Other", "test")
        seed = Seed(redis, parts.database, time.time(), shards=settings.log_shards)
        config = uvicorn.Config(create_app(parts), port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  (it has no event to wait for)
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Site(f"http://127.0.0.1:{port}", parts, seed)
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving
