"""Appending: rates exact over replicas, small requests together, deletions noticed."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.errors import OverLimit, StaleSeries, Unavailable
from service.domain.quotas import BURST_SECONDS, Quota
from service.storage import keys
from service.storage.append import LogWriter
from service.storage.columns import Batch
from service.storage.embedded import EmbeddedStore
from service.storage.log import START, LogReader
from service.storage.redis import ask, connect

NOON = 1_700_000_000.0  # 2023-11-14
WIDE = Quota(1e9, 1e9, 100, 1000, 10, 10, 3600)


def samples(count: int, first: int = 0) -> Batch:
    t = np.arange(first, first + count, dtype=np.int64)
    return Batch(np.ones(count, np.int64), t, t.astype(float))


async def usage(redis: Redis, tenant: str = "acme") -> dict[str, int]:
    found: dict[bytes, bytes] = await ask(redis, "HGETALL", keys.usage(0, tenant, "20231114"))
    return {name.decode(): int(count) for name, count in found.items()}


async def test_concurrent_appends_go_together_and_lose_nothing(redis: Redis) -> None:
    writer = LogWriter(redis, 1, 1000, ManualClock(NOON))
    await asyncio.gather(
        *(writer.append("acme", samples(3, 3 * i), quota=WIDE, generation=0) for i in range(200)),
        *(writer.append("blue", samples(1, i)) for i in range(50)),
    )
    entries = await LogReader(redis).read(0, START, count=1000, block_ms=10)
    assert len(entries) <= 10  # not 250
    acme = Batch.join([e.batch for e in entries if e.tenant == "acme"])
    assert acme.t.tolist() == list(range(600))  # in the order in which they came
    assert sum(len(e.batch.t) for e in entries if e.tenant == "blue") == 50
    assert await usage(redis) == {"samples": 600, "requests": 200}
    assert await usage(redis, "blue") == {}  # what the service writes itself is no usage


async def test_the_rate_holds_over_replicas_and_only_whole_requests_are_refused(
    redis: Redis, store: EmbeddedStore
) -> None:
    quota = replace(WIDE, samples_per_second=50.0)  # a burst of 1,000
    other = connect(store.url)
    replicas = [LogWriter(r, 1, 1000, ManualClock(NOON)) for r in (redis, other)]
    begun = asyncio.get_running_loop().time()
    answers = await asyncio.gather(
        *(replicas[i % 2].append("acme", samples(40, 40 * i), quota=quota) for i in range(60)),
        return_exceptions=True,
    )
    seconds = asyncio.get_running_loop().time() - begun
    kept = sum(answer is None for answer in answers)
    assert 25 <= kept <= 25 + seconds * 50 / 40 + 1  # 1,000 samples, and what came in meanwhile
    refused = [answer for answer in answers if isinstance(answer, OverLimit)]
    assert kept + len(refused) == 60
    assert "more than its 50 samples a second" in str(refused[0])
    assert 0 < refused[0].retry_after < 2
    entries = await LogReader(redis).read(0, START, count=1000, block_ms=10)
    assert sum(len(e.batch.t) for e in entries) == kept * 40
    assert await usage(redis) == {
        "samples": kept * 40,
        "requests": kept,
        "refused": len(refused),
    }
    await other.aclose()


async def test_a_bucket_may_go_into_debt_and_its_rate_holds_in_the_long_run(redis: Redis) -> None:
    quota = replace(WIDE, samples_per_second=1000.0)
    writer = LogWriter(redis, 1, 1000, ManualClock(NOON))
    large = round(1000 * BURST_SECONDS) + 500
    await writer.append("acme", samples(large), quota=quota)  # more than a whole burst
    with pytest.raises(OverLimit) as caught:
        await writer.append("acme", samples(1), quota=quota)
    assert 0.3 < caught.value.retry_after < 0.6
    with pytest.raises(OverLimit, match="1000 samples a second"):
        writer.admit("acme")  # known without asking
    writer.admit("blue")
    async with asyncio.timeout(5):
        while True:
            try:
                writer.admit("acme")
                break
            except OverLimit as error:
                await asyncio.sleep(error.retry_after)
    await writer.append("acme", samples(1), quota=quota)
    found = await usage(redis)
    assert found["samples"] == large + 1
    assert found["refused"] >= 3  # those refused without asking are counted with the next


async def test_requests_have_a_rate_of_their_own(redis: Redis) -> None:
    quota = replace(WIDE, requests_per_second=0.5)
    writer = LogWriter(redis, 1, 1000, ManualClock(NOON))
    for i in range(10):
        await writer.append("acme", samples(0 if i else 1), quota=quota)  # an empty one counts
    with pytest.raises(OverLimit, match="more than its 0\\.5 requests") as caught:
        await writer.append("acme", samples(1), quota=quota)
    assert caught.value.retry_after < 2.1
    entries = await LogReader(redis).read(0, START, count=1000, block_ms=10)
    assert len(entries) == 1


async def test_ids_from_before_a_deletion_are_refused_and_cost_nothing(redis: Redis) -> None:
    writer = LogWriter(redis, 1, 1000, ManualClock(NOON))
    await redis.set(keys.generation(0, "acme"), 4)
    fine, stale = await asyncio.gather(
        writer.append("acme", samples(2), quota=WIDE, generation=4),
        writer.append("acme", samples(5), quota=WIDE, generation=3),
        return_exceptions=True,
    )
    assert fine is None
    assert isinstance(stale, StaleSeries)
    assert await usage(redis) == {"samples": 2, "requests": 1}


async def test_a_store_that_hangs_is_reported_in_time_and_to_all_who_wait(redis: Redis) -> None:
    writer = LogWriter(redis, 1, 1000, ManualClock(NOON))
    await writer.append("acme", samples(1))
    await redis.client_pause(2500)
    begun = asyncio.get_running_loop().time()
    first = [asyncio.create_task(writer.append("acme", samples(1))) for _ in range(5)]
    await asyncio.sleep(0.5)
    later = [asyncio.create_task(writer.append("acme", samples(1))) for _ in range(5)]
    answers = await asyncio.gather(*first, *later, return_exceptions=True)
    assert asyncio.get_running_loop().time() - begun < 2.0
    assert all(isinstance(answer, Unavailable) for answer in answers)
    async with asyncio.timeout(10):
        while True:
            try:
                await writer.append("acme", samples(1))
                break
            except Unavailable:
                pass


async def test_the_request_that_empties_a_bucket_closes_it(redis: Redis) -> None:
    quota = replace(WIDE, requests_per_second=0.05)  # one, then one in 20 s
    writer = LogWriter(redis, 1, 1000, ManualClock(NOON))
    await writer.append("acme", samples(1), quota=quota)  # kept, and the last for now
    with pytest.raises(OverLimit, match="more than its 0\\.05 requests") as caught:
        writer.admit("acme")
    assert 19 < caught.value.retry_after <= 20.1
    assert await usage(redis) == {"samples": 1, "requests": 1}
    batches = (writer.append("blue", samples(1, i), quota=quota) for i in range(3))
    answers = await asyncio.gather(*batches, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), OverLimit, OverLimit]
