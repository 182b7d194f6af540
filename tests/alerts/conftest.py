"""An engine, an escalator and readers on real databases."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.settings import Settings
from service.storage.sql.engine import Database
from service.storage.wake import WakeUps
from tests.support.alerting import START, Bench


@pytest.fixture
def make_bench(redis: Redis, clock: ManualClock, settings: Settings) -> Callable[..., Bench]:
    def make(database: Database, **changes: Any) -> Bench:
        clock.set(START)
        return Bench(database, clock, WakeUps(redis), settings.model_copy(update=changes))

    return make


@pytest.fixture
def bench(database: Database, make_bench: Callable[..., Bench]) -> Bench:
    """On both databases."""
    return make_bench(database)


@pytest.fixture
def quick(sqlite: Database, make_bench: Callable[..., Bench]) -> Bench:
    """On SQLite alone, for what does not depend on the database."""
    return make_bench(sqlite)
