"""Labels, their values, and deleting a series, with a worker at its work."""

import time
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from service.domain.clock import SystemClock
from service.domain.series import SCORE, Series
from service.domain.tenants import Role
from service.settings import Settings
from service.storage.columns import Columns
from service.wiring import Wiring
from service.worker import Worker
from tests.support.whole import calling, headers_of, made, until, working

EU, US = (Series.of("plays", {"region": region}) for region in ("eu", "us"))


@pytest.fixture
async def parts(settings: Settings, redis: object) -> AsyncIterator[Wiring]:
    async with made(settings, SystemClock()) as parts:
        yield parts


@pytest.fixture
async def worker(parts: Wiring) -> AsyncIterator[Worker]:
    async with working(parts) as worker:
        yield worker


@pytest.fixture
async def client(parts: Wiring) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(parts, await headers_of(parts, Role.OPERATOR)) as client:
        yield client


async def record(client: httpx.AsyncClient, series: Series, *values: float) -> None:
    now = time.time()
    answer = await client.post(
        "/analytics/metrics",
        json=[
            {"name": series.name, "labels": series.tags, "value": value, "timestamp": now - 10 + i}
            for i, value in enumerate(values)
        ],
    )
    assert answer.json() == {"accepted": len(values)}


async def values(client: httpx.AsyncClient, series: Series) -> list[float] | None:
    answer = await client.get(f"/analytics/series/{series.hex}/samples")
    return answer.json()["v"] if answer.status_code == 200 else None


async def test_labels_and_their_values(client: httpx.AsyncClient) -> None:
    await record(client, EU, 1)
    await record(client, US, 1)
    await record(client, Series.of("cpu", {"host": "a", "mode": "idle"}), 1)
    assert (await client.get("/analytics/labels")).json() == {
        "items": ["__name__", "host", "mode", "region"],
        "next": None,
    }
    only = await client.get("/analytics/labels", params={"match": "plays"})
    assert only.json()["items"] == ["__name__", "region"]
    first = (await client.get("/analytics/labels/region/values", params={"limit": 1})).json()
    assert first == {"items": ["eu"], "next": "eu"}
    rest = await client.get(
        "/analytics/labels/region/values", params={"limit": 1, "cursor": first["next"]}
    )
    assert rest.json() == {"items": ["us"], "next": None}
    names = (await client.get("/analytics/labels/__name__/values")).json()["items"]
    assert names == ["cpu", "plays"]
    assert (await client.get("/analytics/labels/colour/values")).json()["items"] == []
    wrong = await client.get("/analytics/labels", params={"match": "plays{"})
    assert wrong.status_code == 400


async def test_a_deleted_series_is_gone_and_one_sent_again_begins_anew(
    parts: Wiring, client: httpx.AsyncClient, worker: Worker
) -> None:
    await record(client, EU, 1, 2, 3)
    await record(client, US, 7)
    await parts.writer.write(
        "acme", [(EU.derived(SCORE), Columns(np.array([1_000]), np.array([0.5])))]
    )

    async def kept() -> bool:
        return await values(client, EU) == [1, 2, 3] and await values(client, US) == [7]

    await until(kept)
    assert (await client.delete(f"/analytics/series/{EU.hex}")).status_code == 204
    assert await values(client, EU) is None
    assert (await client.delete(f"/analytics/series/{EU.hex}")).status_code == 404
    assert set(await parts.registry.all("acme")) == {US.id}  # what models said went too

    # This client's keys are in the caches; the deletion makes them be looked up again.
    await record(client, EU, 4, 5)

    async def anew() -> bool:
        seen = worker.head.columns("acme", EU.id).v.tolist()
        return await values(client, EU) == [4, 5] == seen

    await until(anew)
    assert await values(client, US) == [7]
    trail = (await client.get("/audit")).json()["items"]
    told = next(entry for entry in trail if entry["action"] == "series.deleted")
    assert (told["subject"], told["detail"]) == (EU.hex, {"series": 'plays{region="eu"}'})


async def test_what_waits_in_the_log_when_its_series_or_tenant_is_deleted_goes_with_it(
    parts: Wiring, client: httpx.AsyncClient
) -> None:
    await record(client, EU, 1)
    await record(client, US, 2)
    assert (await client.delete(f"/analytics/series/{EU.hex}")).status_code == 204
    await parts.tenants.delete("other", "test")  # a tombstone without any samples
    async with working(parts) as worker:

        async def kept() -> bool:
            return await values(client, US) == [2] and not await parts.redis.keys(f"*:{EU.hex}:*")

        await until(kept)
        await parts.tenants.delete("acme", "test")

        async def gone() -> bool:
            return (
                await parts.redis.keys("*:chunk:acme:*") == []
                and "acme" not in worker.head.tenants()
            )

        await until(gone)
