"""Drift: near 0 for scores of a model that fits, near 1 where they all lie at an end."""

import numpy as np
import pytest
from redis.asyncio import Redis

from service import telemetry
from service.detection.drift import DRIFTED, ROWS_MIN, covered, drift
from service.detection.health import PARTS, Health
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.domain.clock import ManualClock
from service.domain.series import EXPECTED_LOWER, EXPECTED_UPPER, SCORE, Series
from service.storage.columns import Columns
from service.storage.sql.engine import Database
from tests.support.seed import Seed


def test_uniform_scores_are_no_drift_and_others_are() -> None:
    rng = np.random.default_rng(0)
    found = [drift(rng.uniform(size=300)) for _ in range(200)]
    assert np.mean([d > 0 for d in found]) <= 0.02
    assert drift(1 - rng.uniform(size=300) / 50) > 0.9
    assert drift(rng.uniform(size=300) / 50) > 0.9
    assert DRIFTED <= drift(rng.uniform(0.7, 1, 300)) < 0.8
    assert drift(np.full(ROWS_MIN - 1, 1.0)) is None
    assert drift(np.full(ROWS_MIN, np.nan)) is None
    assert drift(np.zeros(ROWS_MIN)) == pytest.approx(1.0)


def test_scores_that_hang_together_are_given_more_room() -> None:
    rng = np.random.default_rng(1)
    found = [drift(np.repeat(rng.uniform(size=12), 25)) for _ in range(200)]
    assert np.mean([d >= DRIFTED for d in found]) <= 0.01


def test_coverage_is_of_values_that_have_a_band() -> None:
    t = np.arange(6)
    values = Columns(t, np.array([0.0, 1.0, 2.0, 3.0, np.nan, 9.0]))
    band = [Columns(t[1:5], np.full(4, edge)) for edge in (0.5, 2.5)]
    assert covered(values, *band) == (pytest.approx(2 / 3), 3)
    nothing = Columns(t[:0], values.v[:0])
    assert covered(values, nothing, nothing) == (None, 0)


async def test_the_scheduler_notes_drift_and_sets_the_metrics(
    redis: Redis, sqlite: Database, clock: ManualClock
) -> None:
    now, rows = clock.now(), 200
    seed = Seed(redis, sqlite, now)
    t = now - 60.0 * np.arange(rows)[::-1]
    rng = np.random.default_rng(2)
    fits, not_any_more = Series.of("cpu", {"host": "a"}), Series.of("cpu", {"host": "b"})
    for series, low in ((fits, 0.0), (not_any_more, 0.95)):
        await seed.put_all(
            [
                (series, t, np.where(np.arange(rows) % 4, 1.0, 5.0)),
                (series.derived(SCORE), t, rng.uniform(low, 1, rows)),
                (series.derived(EXPECTED_LOWER), t, np.zeros(rows)),
                (series.derived(EXPECTED_UPPER), t, np.full(rows, 2.0)),
            ]
        )
    records = ModelRecords(sqlite)
    age = 60.0 * rows
    quality = {"step_seconds": 60.0}
    told = {"version": 1, "newest": 1, "trained_at": now, "trained_to": now - age}
    await records.put(
        [
            ModelRecord("acme", s.hex, ModelState.READY, **told, quality=quality)
            for s in (fits, not_any_more)
        ]
    )

    async def rules_of(_: str) -> list[object]:
        return []

    health = Health(records, seed.source, clock, rules_of)
    for _ in range(PARTS):
        await health.look(["acme"])
    known = await records.all("acme")
    assert known[fits.hex].drift < 0.1
    assert known[not_any_more.hex].drift > 0.8
    assert telemetry.MODELS_DRIFTED._value.get() == 1
    assert telemetry.MODEL_AGE._value.get() == age
    await health.look(["acme"])
