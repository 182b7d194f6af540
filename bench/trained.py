"""A tenant whose series all have a trained model and a history, without learning each of them.

Some tens of shapes (`models.synthetic`, on a grid of ten seconds) are learned as the scheduler
would; every series has one of them. Models, history and what models said of it are stored as the
service stores them: artifacts in its registry, records in SQL, chunks sealed once they are over.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from redis import Redis

from bench.bodies import labels_of
from models.ensemble import Scores
from models.synthetic import errors, latency, machine, web
from service.detection.fitting import FitOptions, Trained, train_series
from service.detection.records import ModelRecord, ModelState
from service.detection.registry import ModelRegistry
from service.domain.series import (
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    FORECAST_LOWER,
    FORECAST_UPPER,
    SCORE,
    Series,
)
from service.settings import Settings
from service.storage import keys
from service.storage.columns import Columns, Times, Values
from service.storage.sealed import seal
from service.wiring import wired

T = TypeVar("T")
R = TypeVar("R")

STEP_MS = 10_000
METRIC = "bench_load"
_FAMILIES = (web, latency, machine, errors)
_PIPELINE = 1000


@dataclass(frozen=True)
class Shape:
    """What the series of a shape have in common: their model, and their values, which go on.

    The model knows the first `rows` of them.
    """

    values: Values
    rows: int
    trained: Trained

    def at(self, tick: int) -> float:
        """The value at a row, counted from the first that the model does not know."""
        return float(self.values[(self.rows + tick) % len(self.values)])


def learn(shapes: int, rows: int, newest_ms: int, processes: int | None = None) -> list[Shape]:
    """So many shapes, each known for `rows` up to `newest_ms`; learned on all cores."""
    t_ms = newest_ms + STEP_MS * np.arange(1 - rows, 1)
    values = [_FAMILIES[n % len(_FAMILIES)](n, clean=True).values for n in range(shapes)]
    train = partial(_train, t_ms)
    trained = _on_cores(train, [v[:rows] for v in values], processes)
    return [Shape(v, rows, model) for v, model in zip(values, trained, strict=True)]


def _train(t_ms: Times, values: Values) -> Trained:
    return train_series(t_ms, values, FitOptions())


def _on_cores(work: Callable[[T], R], items: Sequence[T], processes: int | None) -> list[R]:
    """What `work` makes of each item, in processes of its own; in this one if it is to be one."""
    if processes == 1:
        return list(map(work, items))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return list(pool.map(work, items))


def series_of(number: int) -> Series:
    """The series of a number."""
    return Series.of(METRIC, labels_of(number))


def save_models(
    data: Path,
    key: bytes,
    tenant: str,
    count: int,
    shapes: Sequence[Shape],
    processes: int | None = None,
) -> int:
    """Store a model for each series; the size of them all in bytes."""
    root = data / "models"
    _on_cores(partial(_save_models, root, key, tenant), _stripes(count, shapes), processes)
    return sum(file.stat().st_size for file in (root / tenant).iterdir())


_Job = tuple[Shape, list[int]]


def _stripes(count: int, shapes: Sequence[Shape]) -> list[_Job]:
    """The numbers of the series of each shape."""
    return [(shape, list(range(first, count, len(shapes)))) for first, shape in enumerate(shapes)]


def _save_models(root: Path, key: bytes, tenant: str, job: _Job) -> None:
    shape, numbers = job
    registry, trained = ModelRegistry(root, key), shape.trained
    for number in numbers:
        series = series_of(number)
        manifest = {
            "tenant": tenant,
            "series": series.hex,
            "labels": [list(pair) for pair in series.labels],
            "version": 1,
            "trained_at": trained.to_ms / 1000,
            "trained_from_ms": trained.from_ms,
            "trained_to_ms": trained.to_ms,
            "judged_until_ms": trained.to_ms,
            "rows": trained.rows,
            "features": list(trained.features),
            "counter": False,
            "quality": trained.quality,
        }
        registry.save(tenant, series.hex, trained.arrays, manifest)


async def register(settings: Settings, tenant: str, count: int, shapes: Sequence[Shape]) -> None:
    """Make the series known, those of models too, and tell SQL of the models."""
    async with wired(settings) as parts:
        for shape, numbers in _stripes(count, shapes):
            own = [series_of(number) for number in numbers]
            said = [suffix for suffix in samples(shape, 0) if suffix]
            every = own + [series.derived(suffix) for series in own for suffix in said]
            for first in range(0, len(every), _PIPELINE):
                await parts.registry.register(tenant, every[first : first + _PIPELINE])
            trained = shape.trained
            record = ModelRecord(
                tenant,
                "",
                ModelState.READY,
                version=1,
                trained_at=trained.to_ms / 1000,
                trained_from=trained.from_ms / 1000,
                trained_to=trained.to_ms / 1000,
                rows=trained.rows,
                seconds=trained.seconds,
                quality=trained.quality | {"judged_until_ms": trained.to_ms},
            )
            await parts.model_records.put([replace(record, series_id=s.hex) for s in own])


def record(redis: Redis, tenant: str, count: int, shapes: Sequence[Shape], ticks: int) -> None:
    """Write the history up to `ticks` rows after the models' newest, as it would stand there."""
    settings = Settings()
    bucket_ms = round(settings.chunk_seconds * 1000)
    shard = keys.shard_of(tenant, settings.log_shards)
    life = round((settings.chunk_seconds + settings.retention_seconds) * 1000)
    slack = bucket_ms + round(settings.seal_after_seconds * 1000)
    now_ms = round(time.time() * 1000)
    redis.config_set("appendfsync", "no")  # it is gigabytes
    pipe = redis.pipeline(transaction=False)
    for shape, numbers in _stripes(count, shapes):
        for suffix, columns in samples(shape, ticks).items():
            for bucket, part in _buckets(columns, bucket_ms):
                over = bucket * bucket_ms + slack <= now_ms
                raw = seal(part) if over else part.pack()
                for number in numbers:
                    series = series_of(number)
                    named = series.derived(suffix) if suffix else series
                    member = keys.chunk_member(tenant, named.id, bucket)
                    name = keys.chunk_prefix(shard) + member
                    pipe.set(name, raw, pxat=bucket * bucket_ms + life)
                    if not over:
                        pipe.zadd(keys.unsealed(shard), {member: bucket * bucket_ms + slack})
                    if len(pipe) >= _PIPELINE:
                        pipe.execute()
    pipe.execute()
    redis.config_set("appendfsync", "always")


def samples(shape: Shape, ticks: int) -> dict[str, Columns]:
    """What a series recorded up to then, under "", and by suffix what models said of it.

    Of the `ticks` rows that they did not know it is something that they might say.
    """
    values = np.array([shape.at(tick) for tick in range(ticks)])
    own = Columns(_times(shape, ticks), np.append(shape.values[: shape.rows], values))
    scores = _extended(shape.trained.holdout, ticks)
    t_ms = _times(shape, ticks)[-len(scores.score) :]
    expected = {
        SCORE: scores.score,
        EXPECTED: scores.expected,
        EXPECTED_LOWER: scores.lower,
        EXPECTED_UPPER: scores.upper,
        FORECAST: scores.expected,
        FORECAST_LOWER: scores.lower,
        FORECAST_UPPER: scores.upper,
    }
    return {"": own} | {suffix: Columns(t_ms, values) for suffix, values in expected.items()}


def _times(shape: Shape, ticks: int) -> Times:
    last = shape.trained.to_ms + ticks * STEP_MS
    return last + STEP_MS * np.arange(1 - shape.rows - ticks, 1)


def _extended(scores: Scores, ticks: int) -> Scores:
    ordinary = {"score": 0.5, "alert": 0.0}
    more = {
        name: np.append(column, np.full(ticks, ordinary.get(name, column[-1])))
        for name, column in asdict(scores).items()
    }
    return Scores(**more)


def _buckets(columns: Columns, bucket_ms: int) -> Iterator[tuple[int, Columns]]:
    of = columns.t // bucket_ms
    for bucket in np.unique(of).tolist():
        own = of == bucket
        yield bucket, Columns(columns.t[own], columns.v[own])
