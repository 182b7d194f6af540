"""Series that the bench makes without learning each of them are such as the service has made."""

import time
from pathlib import Path

import numpy as np
import pytest
from redis import Redis as Blocking
from redis.asyncio import Redis

from bench import trained
from bench.trained import METRIC, STEP_MS, series_of
from service.detection.records import ModelRecords
from service.detection.registry import ModelRegistry
from service.detection.scoring import Scorer
from service.domain.series import DERIVED, SCORE
from service.settings import Settings
from service.storage.sql.engine import Database
from service.wiring import wired

COUNT, ROWS, TICKS = 7, 420, 3
KEY = b"k" * 32


@pytest.fixture(scope="module")
def newest_ms() -> int:
    return round(time.time() * 1000) // STEP_MS * STEP_MS


@pytest.fixture(scope="module")
def shapes(newest_ms: int) -> list[trained.Shape]:
    return trained.learn(2, ROWS, newest_ms, processes=1)


def test_every_series_has_a_model_that_scores_what_comes_next(
    tmp_path: Path, shapes: list[trained.Shape], newest_ms: int
) -> None:
    size = trained.save_models(tmp_path, KEY, "bench", COUNT, shapes, processes=1)
    registry = ModelRegistry(tmp_path / "models", KEY)
    ids = {series_of(number).id for number in range(COUNT)}
    assert registry.trained("bench") == ids
    assert size > COUNT * 100_000
    scorer = Scorer(registry)
    work = []
    for number in range(COUNT):
        own = trained.samples(shapes[number % 2], TICKS)[""]
        work.append((series_of(number), own, int(own.t[-2])))
    found = dict(scorer.score_all("bench", work).found)
    assert {series.id for series in found} == ids
    assert all(said[0][1].t.tolist() == [newest_ms + TICKS * STEP_MS] for said in found.values())


async def test_history_and_what_models_said_of_it_stand_in_the_store(
    settings: Settings,
    redis: Redis,
    sqlite: Database,
    shapes: list[trained.Shape],
    newest_ms: int,
) -> None:
    await trained.register(settings, "bench", COUNT, shapes)
    with Blocking.from_url(settings.redis_url) as store:
        trained.record(store, "bench", COUNT, shapes, TICKS)
    async with wired(settings) as parts:
        known = await parts.registry.all("bench")
        own, score = series_of(3), series_of(3).derived(SCORE)
        day = 86_400_000
        found = await parts.chunks.read(
            "bench", [own.id, score.id], newest_ms - day, newest_ms + day
        )
    assert len(known) == COUNT * 8
    assert {s.name for s in known.values()} <= {METRIC, *(METRIC + d for d in DERIVED)}
    assert len(await ModelRecords(sqlite).all("bench")) == COUNT
    assert np.array_equal(found[own.id].v, shapes[1].values[: ROWS + TICKS])
    assert found[own.id].t[-1] == found[score.id].t[-1] == newest_ms + TICKS * STEP_MS
    assert ((found[score.id].v >= 0) & (found[score.id].v < 1)).all()
