"""Series that queries ask for, and who asks."""

import numpy as np
import pytest

from service.domain.series import MetricType, Series
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.seed import Seed
from tests.support.whole import key_of

#: When `clock` starts.
NOW = 1_700_000_000

Headers = dict[str, str]


@pytest.fixture
def seed(parts: Wiring) -> Seed:
    return Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)


@pytest.fixture
async def key(parts: Wiring) -> str:
    return await key_of(parts, "acme", Role.READER)


@pytest.fixture
def reader(key: str) -> Headers:
    return {"X-API-Key": key}


@pytest.fixture(autouse=True)
async def plays(seed: Seed) -> None:
    """Two series of plays, one of errors; a sample a minute for an hour."""
    t = NOW - 3600 + 60 * np.arange(61)
    await seed.put_all(
        [
            (Series.of("plays", {"region": "eu"}, MetricType.COUNTER), t, np.arange(61.0)),
            (Series.of("plays", {"region": "us"}, MetricType.COUNTER), t[:-10], np.full(51, 0.25)),
            (Series.of("errors", {"code": "500"}), t, np.full(61, 1e-7)),
        ]
    )
