"""A worker and a series without a model: judged and shown from its first rows, waking nobody."""

import numpy as np
import pytest

from service.detection import standing
from service.detection.records import ModelRecord, ModelState
from service.domain.clock import SystemClock
from service.domain.series import EXPECTED_UPPER, SCORE, Series
from service.wiring import Wiring
from tests.support.whole import record, until, until_true, working

PLAYS = Series.of("plays", {"region": "eu"})
RULE = {"name": "Unlike its past", "query": "plays", "condition": "anomaly", "threshold": 0.99}


async def send(parts: Wiring, values: np.ndarray) -> np.ndarray:
    """The last minutes, one value each; their times."""
    now = int(SystemClock().now() * 1000)
    t = now - 60_000 * np.arange(len(values), dtype=np.int64)[::-1]
    await record(parts, PLAYS, t, values)
    return t


async def test_it_is_judged_and_alerts_nobody_until_enough_is_known(
    parts: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_LOOK_SECONDS", 0.0)
    rule = await parts.rules.create("acme", RULE, "test")
    values = 50.0 + np.random.default_rng(0).normal(size=40)
    values[-1] = 500.0
    async with working(parts) as worker:
        t = await send(parts, values)
        scores = PLAYS.derived(SCORE)

        def scored() -> bool:
            found = worker.head.columns("acme", scores.id)
            return len(found.t) > 0 and int(found.t[-1]) == int(t[-1])

        await until_true(scored)
        assert worker.head.columns("acme", scores.id).v[-1] > 0.99
        upper = worker.head.columns("acme", PLAYS.derived(EXPECTED_UPPER).id)
        assert 50 < upper.v[-1] < 60

        async def told() -> dict[str, str]:
            return await parts.rule_health.errors("acme")

        await until(told)
        assert (await told())[rule.rule.id] == (
            '1 series is unlike its past and opens no alert: plays{region="eu"}: too little is '
            "known of it (confidence 0.00, 0.5 is needed)"
        )
        assert parts.engine.open("acme") == []
        # as after a training
        await parts.model_records.put(
            [
                ModelRecord(
                    "acme",
                    PLAYS.hex,
                    ModelState.READY,
                    version=1,
                    trained_at=SystemClock().now(),
                    rows=900,
                    quality={"coverage": 0.99},
                )
            ]
        )
        await until_true(lambda: parts.engine.open("acme"))
        (alert,) = parts.engine.open("acme")
        assert alert.expectation.startswith("expected ")
