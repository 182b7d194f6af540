"""The scheduler's own jobs on real stores."""

import asyncio

from redis.asyncio import Redis
from sqlalchemy import select

from service.domain.clock import ManualClock
from service.scheduler import Scheduler
from service.settings import Settings
from service.storage import keys
from service.storage.redis import ask
from service.storage.sql.tables import usage
from tests.support.whole import made


async def test_what_was_used_is_kept_at_the_end(
    settings: Settings, redis: Redis, clock: ManualClock
) -> None:
    async with made(settings, clock) as parts:
        key = keys.usage(keys.shard_of("acme", settings.log_shards), "acme", "20231114")
        await ask(redis, "HSET", key, "samples", 5, "requests", 2)
        stop = asyncio.Event()
        stop.set()
        await asyncio.wait_for(Scheduler(parts).run(stop), 30)
        async with parts.database.read() as connection:
            (row,) = await connection.execute(select(usage))
    assert (row.tenant, row.samples, row.requests, row.refused) == ("acme", 5, 2, 0)
