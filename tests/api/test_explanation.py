"""Why a point has its score, asked of a trained model through the API."""

import asyncio

import httpx
import numpy as np
import pytest

from models.synthetic import daily, times
from service.detection.fitting import FitOptions, train_series
from service.domain.series import SCORE, Series
from service.domain.tenants import Role
from service.storage.columns import Columns
from service.wiring import Wiring
from tests.support.seed import Seed
from tests.support.whole import key_of

STEP = 300_000
ROWS, NEW = 900, 40
LATENCY = Series.of("latency", {"host": "web-1"})
YOUNG = Series.of("latency", {"host": "web-2"})


@pytest.fixture
async def samples(parts: Wiring) -> Columns:
    """Nine hundred rows that are learned, then forty, of which the last thirty are far too high."""
    now_ms = round(parts.clock.now() * 1000)
    t = times(ROWS + NEW, STEP, now_ms - (ROWS + NEW) * STEP)
    v = daily(ROWS + NEW, seed=3)
    v[ROWS + 10 :] += 60.0
    v[-5] -= 60.0  # an ordinary one in between
    seed = Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)
    await seed.put(LATENCY, t / 1000, v)
    await seed.put(YOUNG, t[-5:] / 1000, v[-5:])
    trained = await asyncio.to_thread(train_series, t[:ROWS], v[:ROWS], FitOptions())
    manifest = {"version": 3, "trained_at": 0.0, "trained_to_ms": trained.to_ms}
    parts.models.save("acme", LATENCY.hex, trained.arrays, manifest | {"judged_until_ms": 0})
    return Columns(t, v)


async def test_says_what_who_and_since_when(
    client: httpx.AsyncClient, parts: Wiring, samples: Columns
) -> None:
    key = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
    path = f"/analytics/series/{LATENCY.hex}/explanation"
    answer = await client.get(path, headers=key)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    began = samples.t[ROWS + 10] / 1000
    assert np.datetime64(told["since"][:-1], "ms") == np.datetime64(round(began * 1000), "ms")
    assert told["score"] > 0.99
    assert told["seen"] == samples.v[-1]
    assert told["lower"] <= told["expected"] <= told["upper"] < told["seen"]
    assert told["version"] == 3
    assert not told["counter"]
    surprises = [member["surprise"] for member in told["members"]]
    assert surprises == sorted(surprises, reverse=True)
    assert told["members"][0]["says"] in told["sentence"]
    assert told["features"][0]["says"] in told["sentence"]
    assert abs(told["features"][0]["z"]) == max(abs(f["z"]) for f in told["features"])

    before = samples.t[ROWS + 5] / 1000
    told = (await client.get(path, headers=key, params={"at": str(before + 1)})).json()
    assert told["seen"] == samples.v[ROWS + 5]
    assert told["since"] is None
    assert told["score"] < 0.99


async def test_the_page_says_it_too(
    client: httpx.AsyncClient, parts: Wiring, samples: Columns
) -> None:
    late = samples.t >= samples.t[ROWS]
    seed = Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)
    odd = np.where(np.arange(ROWS + NEW) >= ROWS + 10, 0.9999, 0.5)[late]
    await seed.put(LATENCY.derived(SCORE), samples.t[late] / 1000, odd)
    await seed.model(LATENCY, "ready")
    await client.post("/login", data={"key": await key_of(parts, "acme", Role.READER)})
    page = (await client.get(f"/dashboard/acme/series/{LATENCY.hex}")).text
    assert "Unusual since" in page
    assert "found by: " in page
    other = (await client.get(f"/dashboard/acme/series/{YOUNG.hex}")).text
    assert "Unusual since" not in other


async def test_says_what_is_missing(
    client: httpx.AsyncClient, parts: Wiring, samples: Columns
) -> None:
    key = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
    stranger = {"X-API-Key": await key_of(parts, "other", Role.OPERATOR)}
    path = f"/analytics/series/{LATENCY.hex}/explanation"
    for headers, where, at, reason in (
        (stranger, path, None, "no series"),
        (key, f"/analytics/series/{YOUNG.hex}/explanation", None, "no model yet"),
        (key, path, str(samples.t[0] / 1000 - 86_400), "no point"),
        (key, "/analytics/series/nonsense/explanation", None, "16 hexadecimal digits"),
    ):
        params = {} if at is None else {"at": at}
        refused = await client.get(where, headers=headers, params=params)
        assert refused.status_code == 404
        assert reason in refused.json()["detail"]
    refused = await client.get(path, headers=key, params={"at": "noon"})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("'noon' is neither")
