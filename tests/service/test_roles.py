"""A process that starts while the store is down waits for it, and says so to who asks."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from service.api.gate import Gate
from service.app import create_app
from service.domain.errors import ConfigurationError
from service.roles import _laid_out
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.wiring import wired


async def test_it_waits_for_the_store_and_answers_meanwhile(
    settings: Settings, short_tmp: Path
) -> None:
    store = EmbeddedStore(short_tmp / "late")
    settings = settings.model_copy(update={"redis_url": store.url})
    async with wired(settings, patience=1.5) as parts:
        gate = Gate(create_app(parts))
        waiting = asyncio.create_task(_laid_out(parts, asyncio.Event()))
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://offbeat.test") as http:
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/readyz")).status_code == 503
            refused = await http.post("/analytics/metrics", json={"name": "a", "value": 1})
            assert refused.status_code == 503
            assert refused.headers["retry-after"].isdigit()
            assert not waiting.done()
            store.start()
            try:
                gate.is_open = await asyncio.wait_for(waiting, 10)
                assert (await http.get("/readyz")).json()["redis"] == "ok"
                assert (await http.post("/analytics/metrics")).status_code == 401
            finally:
                store.stop()


async def test_it_stops_while_it_waits_and_at_another_layout(
    settings: Settings, redis: Redis, short_tmp: Path
) -> None:
    stop = asyncio.Event()
    missing = settings.model_copy(update={"redis_url": f"unix://{short_tmp}/none.sock"})
    async with wired(missing) as parts:
        waiting = asyncio.create_task(_laid_out(parts, stop))
        stop.set()
        assert await asyncio.wait_for(waiting, 10) is False
    async with wired(settings.model_copy(update={"log_shards": 3})) as parts:
        await parts.check_layout()
    async with wired(settings) as parts:
        with pytest.raises(ConfigurationError, match="laid out with 3 shards"):
            await _laid_out(parts, asyncio.Event())
