"""Slots of jobs on a real store: each once, whoever believes to lead."""

import asyncio

from redis.asyncio import Redis

from service.storage.lag import Lags
from service.storage.lease import Leases
from service.storage.ticks import Tick, Ticks
from tests.support.whole import until


async def slot(ticks: Ticks, epoch: int, seconds: float = 0.1) -> Tick:
    """The next slot, waited for."""
    found: list[Tick] = []

    async def taken() -> bool:
        tick = await ticks.take("job", seconds, epoch)
        found.extend([tick] if tick else [])
        return bool(found)

    await until(taken)
    return found[0]


async def test_only_the_leader_gets_a_slot_and_each_once(redis: Redis) -> None:
    a, b = (Leases(redis, name, 0.3) for name in "ab")
    ticks_a, ticks_b = Ticks(redis, "a"), Ticks(redis, "b")
    epoch = await a.lead()
    assert epoch == 1
    assert await a.lead() == 1  # renewed
    assert await b.lead() == 0
    assert await ticks_b.take("job", 60, epoch) is None
    first = await ticks_a.take("job", 60, epoch)
    assert first == Tick("job", 0, 1)
    assert await ticks_a.take("job", 60, epoch) is None
    assert await ticks_a.finish(first, 60)
    assert await ticks_a.take("job", 60, epoch) is None
    assert (await ticks_a.take("another", 60, epoch)).slot == 0  # jobs know nothing of each other


async def test_slots_that_passed_are_taken_together(redis: Redis) -> None:
    a = Leases(redis, "a", 30)
    ticks = Ticks(redis, "a")
    epoch = await a.lead()
    first = await slot(ticks, epoch)
    await ticks.finish(first, 0.1)
    await asyncio.sleep(0.35)
    later = await slot(ticks, epoch)
    assert later.slot >= 3
    assert later.passed == later.slot - 1
    assert not later.again


async def test_a_slot_left_unfinished_is_the_next_leaders(redis: Redis) -> None:
    a, b = (Leases(redis, name, 0.2) for name in "ab")
    ticks_a, ticks_b = Ticks(redis, "a"), Ticks(redis, "b")
    begun = await ticks_a.take("job", 60, await a.lead())
    epoch = 0

    async def leads() -> bool:
        nonlocal epoch
        epoch = await b.lead()
        return bool(epoch)

    await until(leads)
    assert epoch == 2
    assert not await a.leads()
    assert await ticks_a.take("job", 60, 1) is None  # it believes to lead, and does not
    again = await ticks_b.take("job", 60, epoch)
    assert again == Tick("job", begun.slot, 2, again=True)
    assert not await ticks_a.finish(begun, 60)  # it is not its slot any more
    assert await ticks_b.finish(again, 60)
    assert await ticks_b.take("job", 60, epoch) is None


async def test_a_lost_word_that_a_slot_is_done_does_no_harm(redis: Redis) -> None:
    a = Leases(redis, "a", 30)
    ticks = Ticks(redis, "a")
    epoch = await a.lead()
    first = await slot(ticks, epoch)
    second = await slot(ticks, epoch)  # the first was never said to be done
    assert second.slot > first.slot
    assert not second.again


async def test_the_longest_lag_of_live_workers_counts(redis: Redis) -> None:
    lags = Lags(redis)
    assert await lags.longest() == 0.0
    await lags.tell("a", 0.25)
    await lags.tell("b", 2.5)
    assert await lags.longest() == 2.5
    await redis.hset("offbeat:lags", "b", b"1000:9.5")  # long dead
    assert await lags.longest() == 0.25
    assert await redis.hlen("offbeat:lags") == 1
