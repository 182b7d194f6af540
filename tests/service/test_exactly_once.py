"""Workers are killed twenty times while stamped samples stream in: each is there exactly once."""

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.series import Series
from service.domain.tenants import Role
from service.settings import Settings
from service.storage import keys
from service.storage.embedded import EmbeddedStore
from service.storage.redis import connect
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready

SERIES, STEPS, KILLS = 50, 2000, 20
A_REQUEST = 10  # steps of every series in one request


@pytest.mark.slow
@pytest.mark.timeout(280)
async def test_every_acknowledged_sample_is_there_exactly_once(
    store: EmbeddedStore, redis: Redis, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'offbeat.db'}"
    environment = environment_of(tmp_path, store.url, database, WORKER_LEASE_SECONDS="1")
    settings = Settings(data_dir=tmp_path, redis_url=store.url, database_url=database)
    await prepare(settings)
    async with wired(settings) as parts:
        await parts.tenants.create("acme", "Acme", "test")
        _, key = await parts.keys.create("acme", Role.WRITER, "test", "test")

    log = tmp_path / "log.txt"
    url = f"http://127.0.0.1:{environment['OFFBEAT_PORT']}"
    api = start_role("api", environment, log)
    workers = [start_role("worker", environment, log) for _ in range(2)]
    client = connect(store.url)
    try:
        await asyncio.to_thread(wait_ready, url, api, log)
        start = int(time.time() * 1000) - STEPS * 1000
        killed: list[int] = []
        kills = asyncio.create_task(_kill(workers, environment, log, client, killed))
        await _stream(url, key, start, kills, killed)
        await kills
        records = await _drained(client, workers, log)
    finally:
        for process in [api, *workers]:
            end(process, signal.SIGKILL)
        await client.aclose()

    assert len(killed) == KILLS
    assert records == SERIES * STEPS
    async with wired(settings) as parts:
        known = await parts.registry.all("acme")
        assert len(known) == SERIES
        for n in range(SERIES):
            series = Series.of("stamped", {"n": str(n)})
            t, v = (await parts.chunks.read("acme", [series.id], start, start + STEPS * 1000))[
                series.id
            ]
            assert np.array_equal(t, start + np.arange(STEPS) * 1000)
            assert np.array_equal(v, n * STEPS + np.arange(STEPS))


async def _stream(
    url: str, key: str, start: int, kills: "asyncio.Task[None]", killed: list[int]
) -> None:
    """Send every sample once, spread over the time of the kills; all must be acknowledged."""
    async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30) as http:
        for step in range(0, STEPS, A_REQUEST):
            body = [
                {
                    "name": "stamped",
                    "labels": {"n": str(n)},
                    "timestamp": (start + s * 1000) / 1000,
                    "value": n * STEPS + s,
                }
                for s in range(step, step + A_REQUEST)
                for n in range(SERIES)
            ]
            answer = await http.post(f"{url}/analytics/metrics", content=json.dumps(body))
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"accepted": len(body)}
            # In step with the kills, so that every one of them hits a worker that is busy.
            if not kills.done():
                await asyncio.sleep(0.02 if step / STEPS < len(killed) / KILLS else 0.4)


async def _kill(
    workers: list["asyncio.subprocess.Process"],
    environment: dict[str, str],
    log: Path,
    client: Redis,
    killed: list[int],
) -> None:
    """Kill the worker that has just applied something, start another in its place, again."""
    for _ in range(KILLS):
        shard = keys.shard_of("acme", 4)
        before = await client.get(keys.position(shard))
        deadline = time.monotonic() + 30
        while await client.get(keys.position(shard)) == before:
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.005)
        owner = (await client.get(keys.lease(shard)) or b"").decode()
        for i, process in enumerate(workers):
            if owner.split("-")[-1].startswith(f"{process.pid}.") or not owner:
                end(process, signal.SIGKILL)
                killed.append(process.pid)
                workers[i] = start_role("worker", environment, log)
                break
        else:
            pytest.fail(f"no worker of ours owns the shard: {owner}")


async def _drained(client: Redis, workers: object, log: Path) -> int:
    """Records in all chunks, once nothing more is added."""
    deadline = time.monotonic() + 60
    while True:
        names = [name async for name in client.scan_iter(match="*:chunk:acme:*")]
        sizes = [await client.strlen(name) for name in names]
        total = sum(sizes) // 16
        if total >= SERIES * STEPS:
            return total
        assert time.monotonic() < deadline, f"{total} records; {log.read_text()}"
        await asyncio.sleep(0.1)
