"""Silences over HTTP, and what running services do by them: training, timers, the dispatcher."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.clock import ManualClock, SystemClock
from service.domain.series import Series
from service.domain.tenants import Role
from service.scheduler import Scheduler
from service.settings import Settings
from tests.support.alerting import RULE, judged
from tests.support.receivers import http_receiver
from tests.support.seed import Seed, times
from tests.support.whole import calling, headers_of, made, until_true

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
        # what has learned the outage is worse: the model of before stays
        gates = {s: shown[s]["gate"] for s in (EU, US)}
        assert (gates[EU]["decision"], gates[US]["decision"]) == ("taken", "kept")
        fits = {s: gate["figures"]["range"] for s, gate in gates.items()}
        assert fits[EU] < 0.7 * fits[US]


async def test_what_a_silence_kept_back_is_told_when_somebody_ends_it(
    settings: Settings, redis: Redis
) -> None:
    async with made(settings, SystemClock()) as parts, http_receiver() as receiver:
        stop = asyncio.Event()
        scheduling = asyncio.create_task(Scheduler(parts).run(stop))
        slack = {"type": "slack", "webhook_url": receiver.url}
        await parts.channels.put("acme", "slack", slack, actor="test")
        async with calling(parts, await headers_of(parts, Role.RESPONDER)) as client:
            body = {
                "matchers": [{"name": "alertname", "value": RULE.name}],
                "duration": "2h",
                "comment": "a move",
            }
            silence = (await client.post("/silences", json=body)).json()["id"]
            now = parts.clock.now()
            judgements = [judged(True, "eu"), judged(True, "us")]
            eu, us = await parts.engine.apply("acme", RULE, judgements, now)
            other = replace(RULE, id="r2", name="Other")
            await parts.engine.apply("acme", other, [judged(True, "eu", other)], now)
            await until_true(lambda: receiver.received)  # of the other rule
            await parts.engine.apply("acme", RULE, [judged(False, "us")], now + 1)
            assert (await client.delete(f"/silences/{silence}")).status_code == 200
            await until_true(lambda: len(receiver.received) == 2)
            told = (await client.get("/alerts/notifications")).json()["items"]
            assert {item["alert_id"] for item in told} == {eu.id} | {
                alert["id"] for alert in (await client.get("/alerts/active/acme")).json()["items"]
            }
            shown = (await client.get(f"/alerts/{us.id}")).json()
            kinds = [event["kind"] for event in shown["timeline"]]
            assert kinds == ["fired", "suppressed", "resolved"]
        stop.set()
        await asyncio.wait_for(scheduling, 20)
