"""New series a minute: exact across replicas, and in the store's own time."""

import asyncio
import time
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from service.domain.series import Series
from service.settings import Settings
from service.storage import keys
from service.storage.redis import ask
from service.storage.registry import Registered, SeriesRegistry

SHIPPED = Settings().shipped_quota


def some(first: int, count: int) -> list[Series]:
    return [Series.of("plays", {"user": str(i)}) for i in range(first, first + count)]


async def test_replicas_share_one_minute(redis: Redis) -> None:
    replicas = [SeriesRegistry(redis, 4) for _ in range(2)]
    quota = replace(SHIPPED, new_series_per_minute=60)
    begun = time.monotonic()
    answers = await asyncio.gather(
        *(replicas[i % 2].register("acme", some(10 * i, 10), quota) for i in range(20))
    )
    passed = time.monotonic() - begun
    outcomes = [outcome for answer in answers for outcome in answer.outcomes]
    new = outcomes.count(Registered.NEW)
    assert 60 <= new <= 60 + passed
    assert outcomes.count(Registered.OVER_RATE) == 200 - new
    assert len(await replicas[0].all("acme")) == new
    assert all((a.retry_after > 0) == (Registered.OVER_RATE in a.outcomes) for a in answers)
    assert max(a.retry_after for a in answers) <= 1.001
    other = await replicas[0].register("other", some(0, 60), quota)
    assert other.outcomes == [Registered.NEW] * 60, "nobody else's minute is used"


async def test_a_token_comes_back_when_it_was_said_to(redis: Redis) -> None:
    registry = SeriesRegistry(redis, 4)
    quota = replace(SHIPPED, new_series_per_minute=300)
    await registry.register("acme", some(0, 300), quota)
    deadline = time.monotonic() + 10
    while (refused := await registry.register("acme", some(300, 3), quota)).retry_after == 0:
        assert time.monotonic() < deadline
    assert refused.outcomes[-1] is Registered.OVER_RATE
    assert 0 < refused.retry_after <= 0.2
    await asyncio.sleep(refused.retry_after)
    known = len(await registry.all("acme"))
    (outcome,) = (await registry.register("acme", some(1000, 1), quota)).outcomes
    assert outcome is Registered.NEW
    assert len(await registry.all("acme")) == known + 1


async def test_what_is_known_or_derived_needs_no_token(redis: Redis) -> None:
    registry = SeriesRegistry(redis, 4)
    quota = replace(SHIPPED, new_series_per_minute=1)
    first, second = some(0, 2)
    answer = await registry.register("acme", [first, second], quota)
    assert answer.outcomes == [Registered.NEW, Registered.OVER_RATE]
    derived = [s.derived(":anomaly_score") for s in (first, second)]
    again = await registry.register("acme", [first, *derived], quota)
    assert again.outcomes == [Registered.KNOWN, Registered.NEW, Registered.NEW]
    assert again.retry_after == 0


async def test_a_changed_quota_holds_at_once(redis: Redis) -> None:
    registry = SeriesRegistry(redis, 4)
    await registry.register("acme", some(0, 1000), SHIPPED)
    few = replace(SHIPPED, new_series_per_minute=2)
    assert (await registry.register("acme", some(1000, 1), few)).retry_after == pytest.approx(
        30, abs=1
    )
    raised = replace(SHIPPED, new_series_per_minute=60_000_000)
    deadline = time.monotonic() + 10
    while (await registry.register("acme", some(1000, 1), raised)).retry_after:
        assert time.monotonic() < deadline
    lowered = await registry.register("acme", some(2000, 3), few)
    assert lowered.outcomes.count(Registered.NEW) == 2, "a smaller bucket holds less"


async def test_what_is_left_is_kept_no_longer_than_it_takes_to_be_full(redis: Redis) -> None:
    registry = SeriesRegistry(redis, 4)
    await registry.register("acme", some(0, 500), SHIPPED)
    key = keys.new_series(keys.shard_of("acme", 4), "acme")
    assert 25_000 < await ask(redis, "PTTL", key) <= 30_001
