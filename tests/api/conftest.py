"""The whole application on real stores, in this process, by a clock that the test moves."""

from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.settings import Settings
from service.wiring import Wiring
from tests.support.whole import calling, headers_of, made


@pytest.fixture
async def parts(settings: Settings, clock: ManualClock, redis: Redis) -> AsyncIterator[Wiring]:
    """Every part; the tenants acme and other exist."""
    async with made(settings, clock) as parts:
        yield parts


@pytest.fixture
async def client(parts: Wiring) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the application without a key."""
    async with calling(parts) as client:
        yield client


@pytest.fixture
async def admin(parts: Wiring) -> dict[str, str]:
    """Headers of an admin."""
    return await headers_of(parts, Role.ADMIN)


@pytest.fixture
async def operator(parts: Wiring) -> dict[str, str]:
    """Headers of acme's operator."""
    return await headers_of(parts, Role.OPERATOR)
