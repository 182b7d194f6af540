"""A verdict over HTTP changes what a running worker says, at once, and what models learn."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis

from service.detection.records import ModelRecord, ModelState
from service.domain.clock import ManualClock, SystemClock
from service.domain.series import SCORE, Series
from service.domain.tenants import Role
from service.settings import Settings
from service.storage.columns import Columns
from service.wiring import Wiring
from tests.support.seed import Seed, times
from tests.support.whole import calling, headers_of, made, until, working

PLAYS = Series.of("plays", {"region": "eu"})
RULE = {"name": "Odd", "query": "plays", "condition": "anomaly", "threshold": 0.999}


@pytest.fixture
async def parts(settings: Settings, redis: Redis) -> AsyncIterator[Wiring]:
    rare = settings.model_copy(update={"alert_evaluation_interval": 86_400.0})
    async with made(rare, SystemClock()) as parts:
        yield parts


@pytest.fixture
async def client(parts: Wiring) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(parts, await headers_of(parts, Role.OPERATOR)) as client:
        yield client


async def test_noise_ends_the_alert_and_keeps_its_like_away(
    parts: Wiring, client: httpx.AsyncClient
) -> None:
    assert (await client.post("/alerts/rules", json=RULE)).status_code == 201
    now = parts.clock.now()
    known = ModelRecord("acme", PLAYS.hex, ModelState.READY, version=1, trained_at=now, rows=4000)
    known.quality["coverage"] = 0.99
    await parts.model_records.put([known])
    at = np.array([round(now * 1000)], np.int64)
    told = [(PLAYS, Columns(at, np.array([7.0])))]
    told.append((PLAYS.derived(SCORE), Columns(at, np.array([0.9993]))))
    await parts.registry.register("acme", [series for series, _ in told])
    async with working(parts):
        await parts.writer.write("acme", told)

        async def active() -> list[str]:
            found = (await client.get("/alerts/active/acme")).json()["items"]
            return [alert["id"] for alert in found]

        async def fired() -> list[str]:
            await parts.wake.publish("rules", "acme")
            return await active()

        async def over() -> bool:
            return await active() == []

        await until(fired)
        (alert,) = await active()
        said = await client.post(f"/alerts/{alert}/feedback", json={"verdict": "noise"})
        assert said.status_code == 200, said.text
        await until(over)  # the next evaluation by the clock is hours away
        shown = (await client.get(f"/alerts/{alert}")).json()
        assert shown["state"] == "resolved"
        assert shown["threshold"]["text"] == "threshold 0.9995 (raised from 0.999 by 1 × noise)"
        await client.post(f"/alerts/{alert}/feedback", json={"verdict": "useful"})
        await until(active)


@pytest.mark.slow
async def test_models_learn_nothing_of_what_was_called_useful(
    settings: Settings, redis: Redis, clock: ManualClock
) -> None:
    now = clock.now()
    async with made(settings, clock) as parts:
        seed = Seed(redis, parts.database, now, shards=settings.log_shards)
        t = times(now, hours=30)
        await seed.put(PLAYS, t, np.sin(np.arange(len(t)) / 20) + np.arange(len(t)) % 3)
        hours = {"started_at": now - 9 * 3600, "resolved_at": now - 8 * 3600, "state": "resolved"}
        alert = await seed.alert("Odd", PLAYS, **hours)
        async with calling(parts, await headers_of(parts, Role.RESPONDER)) as client:
            body = {"verdict": "useful", "note": "the cache was cold"}
            said = await client.post(f"/alerts/{alert}/feedback", json=body)
            assert said.status_code == 200, said.text
            report = await parts.trainer.run(["acme"])
            await asyncio.to_thread(parts.trainer.close)
            assert report.trained == 1
            shown = (await client.get(f"/analytics/series/{PLAYS.hex}")).json()
    assert shown["model"]["quality"]["left_out_rows"] == 13  # an hour, both ends included
    assert shown["model"]["rows"] == len(t) - 13
