"""Series, what models said of them and alerts, written straight into the stores."""

import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.rules import Rule
from service.insights.finding import Finding
from service.insights.findings import Findings
from service.settings import Settings
from service.storage.sql.engine import Database
from tests.support.seed import Seed

#: When `clock` starts.
NOW = 1_700_000_000.0


@pytest.fixture
def seed(redis: Redis, sqlite: Database) -> Seed:
    """Writes what one tenant has."""
    return Seed(redis, sqlite, NOW)


def engine(
    seed: Seed, clock: ManualClock, settings: Settings, rules: tuple[Rule, ...] = ()
) -> Findings:
    """What finds, over the stores of `seed`, whose tenant has these rules."""

    async def rules_of(tenant: str) -> tuple[Rule, ...]:
        return rules if tenant == seed.tenant else ()

    return Findings(seed.source, seed.database, clock, settings, rules_of)


async def findings(
    seed: Seed, clock: ManualClock, settings: Settings, rules: tuple[Rule, ...] = ()
) -> list[Finding]:
    """What is told of the tenant of `seed`."""
    return await engine(seed, clock, settings, rules).for_tenant(seed.tenant)
