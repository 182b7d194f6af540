"""What becomes of a trained model: stored with its neighbours, taken or not, told or not."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from models.synthetic import daily, times
from service.detection.catalogue import Catalogue
from service.detection.fitting import FitOptions, Trained, train_series
from service.detection.gate import Gate
from service.detection.publishing import Publisher
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.registry import ModelRegistry
from service.domain.clock import ManualClock
from service.domain.series import SCORE, Series
from service.storage.sql.engine import Database

NOW = 1_800_000_000.0
CPU, LOAD = Series.of("cpu"), Series.of("load")


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train_series(times(300), daily(300, seed=1), FitOptions())


class House:
    """A publisher on a real database and folder; what it tells is kept."""

    def __init__(self, database: Database, folder: Path) -> None:
        clock = ManualClock(NOW)
        self.models = ModelRegistry(folder, b"k" * 32)
        self.records = ModelRecords(database)
        catalogue = Catalogue(self.records, self.models, clock)
        self.publisher = Publisher(self.models, self.records, catalogue, clock, self, self)
        self.told: list[str] = []
        self.woken: list[str] = []

    async def write(self, tenant: str, samples: list[tuple[Series, object]]) -> None:
        self.told += [series.name for series, _ in samples]

    async def publish(self, topic: str, payload: str = "") -> None:
        self.woken.append(payload)

    async def take(self, series: Series, trained: Trained) -> ModelRecord | None:
        with self.publisher.coming():
            before = await self.records.one("acme", series.hex)
            before = before or ModelRecord("acme", series.hex, ModelState.COLD)
            return await self.publisher.publish("acme", series, before, trained, NOW)


@pytest.fixture
def house(sqlite: Database, tmp_path: Path) -> House:
    return House(sqlite, tmp_path)


async def test_models_that_come_together_are_one_file(house: House, trained: Trained) -> None:
    await asyncio.gather(house.take(CPU, trained), house.take(LOAD, trained))
    places = (await house.records.places("acme")).found
    assert places[CPU.id][0].segment == places[LOAD.id][0].segment
    assert sorted(house.woken) == sorted(f"acme/{series.hex}" for series in (CPU, LOAD))
    await house.take(CPU, trained)
    versions = (await house.records.places("acme")).found[CPU.id]
    assert [place.version for place in versions] == [2, 1]
    assert house.told.count("cpu" + SCORE) == 1  # history is judged once


async def test_a_model_that_is_worse_is_written_about_and_nothing_else(
    house: House, trained: Trained
) -> None:
    await house.take(CPU, trained)
    before, told = await house.records.places("acme"), list(house.told)
    shut = Gate("kept", "expectations are off", 1, {"error": 2.0})
    kept = await house.take(CPU, replace(trained, gate=shut))
    record = await house.records.one("acme", CPU.hex)
    assert kept is not None
    assert record is not None
    assert (record.version, record.newest, record.trained_at) == (1, 1, NOW)
    assert record.quality["gate"] == shut.plain()
    assert record.quality["judged_until_ms"] == trained.to_ms
    assert await house.records.places("acme") == before
    assert house.told == told
    assert len(house.woken) == 1


async def test_who_comes_too_late_changes_nothing(house: House, trained: Trained) -> None:
    await house.take(CPU, trained)
    stale = ModelRecord("acme", CPU.hex, ModelState.COLD)
    late = await house.publisher.publish("acme", CPU, stale, trained, NOW)
    assert late is None
    assert len((await house.records.places("acme")).found[CPU.id]) == 1
    assert len(house.woken) == 1


async def test_a_store_that_fails_fails_all_that_wait_and_not_those_after(
    house: House, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(house.models.packs.files, "write", full)
        found = await asyncio.gather(
            house.take(CPU, trained), house.take(LOAD, trained), return_exceptions=True
        )
    assert [str(error) for error in found] == ["no space left"] * 2
    assert await house.take(CPU, trained) is not None
