"""Every part with a tenant, at the pace of tests."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service.domain.clock import SystemClock
from service.settings import Settings
from service.wiring import Wiring
from tests.support.whole import made


@pytest.fixture
async def parts(settings: Settings, redis: Redis) -> AsyncIterator[Wiring]:
    """Every part, in real time: rules are judged five times a second, leases last one."""
    fast = settings.model_copy(
        update={"worker_lease_seconds": 1.0, "alert_evaluation_interval": 0.2}
    )
    async with made(fast, SystemClock()) as parts:
        yield parts
