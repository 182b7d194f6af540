"""From samples to an alert: a worker, a trained model and a rule that has a budget."""

import asyncio

import numpy as np
import pytest

from service.domain.alerts import AlertState
from service.domain.clock import SystemClock
from service.domain.series import ALERT, SCORE, Series
from service.wiring import Wiring
from tests.support.whole import record, until_true, working

PLAYS = Series.of("plays", {"region": "eu"})
ROWS, STEP_MS = 700, 1000


@pytest.mark.slow
async def test_an_anomaly_that_goes_on_is_one_alert(parts: Wiring) -> None:
    rule = {"name": "Unlike its past", "query": "plays", "condition": "alert_budget"}
    await parts.rules.create("acme", rule | {"alert_budget": "2/week"}, "test")
    end = int(SystemClock().now() * 1000)
    t = end - STEP_MS * np.arange(ROWS, dtype=np.int64)[::-1]
    v = 50 + np.sin(np.arange(ROWS) / 20) + np.random.default_rng(0).normal(0, 0.05, ROWS)
    v[ROWS - 20 :] += 6.0

    async def send(first: int, last: int) -> None:
        await record(parts, PLAYS, t[first:last], v[first:last])

    scores = PLAYS.derived(SCORE)

    async with working(parts) as worker:

        def scored(row: int) -> bool:
            found = worker.head.columns("acme", scores.id).t
            return len(found) > 0 and int(found[-1]) == int(t[row])

        await send(0, ROWS - 40)
        await until_true(lambda: len(worker.head.columns("acme", PLAYS.id).t) == ROWS - 40)
        assert (await parts.trainer.run(["acme"])).trained == 1
        await asyncio.to_thread(parts.trainer.close)
        await send(ROWS - 40, ROWS - 20)
        await until_true(lambda: scored(ROWS - 21))
        assert parts.engine.open("acme") == []
        await send(ROWS - 20, ROWS)
        await until_true(lambda: parts.engine.open("acme"))
        (alert,) = parts.engine.open("acme")
        assert alert.state is AlertState.FIRING
        assert alert.expectation.startswith("unlike its past, as happens ")
        assert "over 1 series; seen 5" in alert.expectation
        spoken = worker.head.columns("acme", PLAYS.derived(ALERT).id)
        assert (spoken.t[spoken.v > 0.99999] >= t[ROWS - 20]).all()
    every, _ = await parts.alerts.history("acme")
    assert [alert.episode for alert in every] == [1]
