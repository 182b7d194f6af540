"""A maintenance announced over HTTP: the models that are trained after it have not seen it."""

import asyncio

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.series import Series
from service.domain.tenants import Role
from service.settings import Settings
from tests.support.seed import Seed, times
from tests.support.whole import calling, headers_of, made

HOUR = 3600.0
EU, US = (Series.of("plays", {"region": region}) for region in ("eu", "us"))


@pytest.mark.slow
async def test_models_learn_nothing_of_a_maintenance(
    settings: Settings, redis: Redis, clock: ManualClock
) -> None:
    start = clock.now()
    daily = settings.model_copy(update={"ml_model_retrain_frequency": HOUR})
    async with made(daily, clock) as parts:
        seed = Seed(redis, parts.database, start, shards=settings.log_shards)
        t = times(start + 30 * HOUR, hours=78)
        v = 50 + 10 * np.sin(2 * np.pi * t / 86_400)
        v += np.random.default_rng(3).normal(0, 1, len(t))
        v[(t >= start + HOUR) & (t < start + 6 * HOUR)] = 0.0
        before = t < start
        await seed.put_all([(s, t[before], v[before]) for s in (EU, US)])
        assert (await parts.trainer.run(["acme"])).trained == 2
        async with calling(parts, await headers_of(parts, Role.RESPONDER)) as client:
            body = {
                "kind": "maintenance",
                "matchers": [{"name": "region", "value": "e.", "is_regex": True}],
                "duration": "5h",
                "comment": "a new version of the store",
            }
            await clock.advance(HOUR)
            answer = await client.post("/silences", json=body)
            assert answer.status_code == 201, answer.text
            await clock.advance(29 * HOUR)
            await seed.put_all([(s, t[~before], v[~before]) for s in (EU, US)])
            assert (await parts.trainer.run(["acme"])).trained == 2
            await asyncio.to_thread(parts.trainer.close)
            shown = {
                s: (await client.get(f"/analytics/series/{s.hex}")).json()["model"]["quality"]
                for s in (EU, US)
            }
        assert shown[EU]["left_out_rows"] == 61  # both ends included
        assert shown[US]["left_out_rows"] == 0
        models = {s: parts.models.load("acme", s.hex) for s in (EU, US)}
        bands = {}
        for series, model in models.items():
            assert model is not None
            said = model.detector.score(np.round(t * 1000).astype(np.int64), v, 60)
            bands[series] = float(np.mean(said.upper - said.lower))
        assert bands[EU] < 0.7 * bands[US]
