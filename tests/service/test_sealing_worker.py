"""A worker seals what is over while it goes on recording, by its own clock."""

import asyncio
import time

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.series import Series
from service.settings import Settings
from service.storage import keys
from service.storage.columns import Columns
from service.storage.redis import ask
from service.worker import loops
from tests.support import whole

HOUR = 3_600_000
CPU = Series.of("cpu", {"host": "a"})


async def test_what_is_over_is_sealed_and_late_samples_are_sealed_again(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "_SEAL_SECONDS", 0.02)
    settings = settings.model_copy(update={"chunk_seconds": 3600.0, "log_shards": 2})
    begin = int(time.time() * 1000) // HOUR * HOUR - 5 * HOUR
    clock = ManualClock(begin / 1000)
    async with whole.made(settings, clock) as parts, whole.working(parts):
        shard = keys.shard_of("acme", 2)

        async def send(t: np.ndarray, v: np.ndarray) -> None:
            await parts.writer.write("acme", [(CPU, Columns(t, v))])
            ((newest, _),) = await ask(redis, "XREVRANGE", keys.log(shard), "+", "-", "COUNT", 1)

            async def applied() -> bool:
                return bool(await redis.get(keys.position(shard)) == newest)

            await whole.until(applied)

        async def sealed(seconds: float) -> None:
            clock.set(clock.now() + seconds)
            deadline = time.monotonic() + 15
            while await redis.zcount(keys.unsealed(shard), "-inf", clock.now() * 1000):
                assert time.monotonic() < deadline, "waited in vain"
                await asyncio.sleep(0.02)

        t = begin + 10_000 * np.arange(720)
        await send(t, np.arange(720.0))
        await sealed(2 * 3600)
        name = keys.chunk(shard, "acme", CPU.id, begin // HOUR)
        assert 0 < await redis.strlen(name) < 1000
        assert await redis.zcard(keys.unsealed(shard)) == 1  # the second hour's
        await send(t[:5] + 1, np.full(5, -7.0))
        await sealed(61)
        rows = (await parts.source.aggregate("acme", [CPU.id], begin, begin + 2 * HOUR, HOUR))[
            CPU.id
        ]
        assert (rows.count.tolist(), rows.min.tolist(), rows.rolled_up) == (
            [365, 360],
            [-7.0, 360.0],
            True,
        )
        read = (await parts.source.read("acme", [CPU.id], begin, begin + 2 * HOUR))[CPU.id]
        assert len(read.t) == 725
