"""The whole application in this process, on real stores, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import numpy as np

from service.app import create_app
from service.domain.clock import Clock
from service.domain.series import Series
from service.domain.tenants import PLATFORM, Role
from service.settings import Settings
from service.storage.append import LogWriter
from service.storage.columns import Batch
from service.wiring import Wiring, wired
from service.worker import Worker
from tests.support.migrated import migrated


@asynccontextmanager
async def made(settings: Settings, clock: Clock) -> AsyncIterator[Wiring]:
    """Every part, as the program makes it; the tenants acme and other exist."""
    async with wired(settings, clock) as parts:
        await migrated(parts.database)
        for tenant in ("acme", "other"):
            await parts.tenants.create(tenant, tenant.title(), "test")
        yield parts


async def key_of(parts: Wiring, tenant: str, role: Role) -> str:
    """A live key."""
    _, key = await parts.keys.create(tenant, role, f"{role} of {tenant}", "test")
    return key


async def headers_of(parts: Wiring, role: Role, tenant: str = "acme") -> dict[str, str]:
    """Of somebody with that role; an admin is of the platform."""
    owner = PLATFORM if role is Role.ADMIN else tenant
    return {"Authorization": f"Bearer {await key_of(parts, owner, role)}"}


def calling(parts: Wiring, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """A client of the application."""
    transport = httpx.ASGITransport(create_app(parts))
    return httpx.AsyncClient(
        transport=transport, base_url="http://offbeat.test", headers=headers or {}
    )


@asynccontextmanager
async def working(parts: Wiring) -> AsyncIterator[Worker]:
    """A worker that runs until the end of the block."""
    stop = asyncio.Event()
    worker = Worker(parts)
    running = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def record(parts: Wiring, series: Series, t: np.ndarray, v: np.ndarray) -> None:
    """Write acme's samples to the log, as a request does: `t` in milliseconds (n,), `v` (n,)."""
    await parts.registry.register("acme", [series])
    log = LogWriter(parts.redis, parts.settings.log_shards, 1000)
    await log.append("acme", Batch(np.full(len(t), series.id, np.int64), t, v))


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 15) -> None:
    """Wait until the condition holds; `TimeoutError` if it does not in time."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - it looks at other processes and stores
            await asyncio.sleep(0.02)


async def until_true(condition: Callable[[], object], seconds: float = 15) -> None:
    """The same for a condition that needs no waiting to be looked at."""

    async def holds() -> object:
        return condition()

    await until(holds, seconds)
