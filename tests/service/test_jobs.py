"""Jobs of one process that loses its lease and gets it again, on a real store."""

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from service.scheduler.jobs import Job, Jobs
from service.storage import keys
from service.storage.lease import Leases
from service.storage.ticks import Ticks
from tests.support.whole import until_true


async def plain(step: Callable[[], Awaitable[object]], name: str) -> bool:
    await step()
    return True


async def test_a_leader_that_lost_its_lease_stops_its_jobs_and_begins_them_again(
    redis: Redis,
) -> None:
    begun, ended = [], []

    async def step() -> None:
        begun.append(len(begun))
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(len(ended))

    leases = Leases(redis, "a", 0.3)
    jobs = Jobs(leases, Ticks(redis, "a"), [Job("job", 0.2, step, "work")], plain)
    running = asyncio.create_task(jobs.run())
    try:
        await until_true(lambda: begun)
        assert await jobs.still_leads()
        await redis.set(keys.LEADER, b"b", px=300)
        await until_true(lambda: ended)  # when it tries to renew
        assert not await jobs.still_leads()
        await until_true(lambda: len(begun) == 2)
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert len(ended) == 2


async def test_a_job_that_is_cancelled_before_its_first_step_is_begun_again(redis: Redis) -> None:
    begun = []

    async def step() -> None:
        begun.append(len(begun))

    leases = Leases(redis, "a", 30)
    job = Job("job", 60, step, "work")
    jobs = Jobs(leases, Ticks(redis, "a"), [job], plain)
    await jobs._lead()
    await jobs._begin(job)  # its task has had no turn yet
    await jobs._led_by(0)
    assert begun == []
    await redis.delete(keys.LEADER)
    await jobs._lead()  # ours again, by another epoch
    await jobs._look(job)
    await until_true(lambda: begun)
