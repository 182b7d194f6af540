"""Segments of models on a folder and elsewhere, what SQL says of them, and what may break."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from models import artifact
from models.artifact import ArtifactError
from service.detection import compacting
from service.detection.catalogue import Catalogue
from service.detection.compacting import Compactor
from service.detection.files import files_at
from service.detection.packs import Packed, Packs, Place, Refusal
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.registry import ModelRegistry
from service.domain.clock import ManualClock
from service.domain.errors import ConfigurationError
from service.storage.sql.engine import Database

KEY, NOW = b"k" * 32, 1_800_000_000.0


@pytest.fixture(params=["folder", "memory://"])
def packs(request: pytest.FixtureRequest, tmp_path: Path) -> Packs:
    places = {
        "folder": tmp_path / "models",
        "memory://": f"memory://{uuid4().hex}/models",
    }
    return Packs(files_at(places[request.param]), KEY)


def made(series: int, version: int = 1, tenant: str = "acme", rows: int = 8) -> Packed:
    name = f"{series:016x}"
    arrays = {"a": np.full(rows, float(series))}
    bound = f"{tenant}/{name}/{version}"
    raw = artifact.pack("trial", arrays, {"version": version}, KEY, bound)
    return Packed(tenant, name, version, raw)


def read(packs: Packs, model: Packed, place: Place) -> float:
    arrays, _ = artifact.unpack(packs.read(place), "trial", KEY, model.bound_to)
    return float(arrays["a"][0])


def test_what_is_written_together_is_one_file_and_read_apart(packs: Packs) -> None:
    models = [made(n) for n in range(5)]
    places = packs.write(3, 1_800_000_000_000, models)
    assert len({place.segment for place in places}) == 1
    assert places[0].segment.startswith("00003/1800000000000-")
    for n in (4, 0, 2):
        assert read(packs, models[n], places[n]) == n
    assert packs.segments() == [places[0].segment]
    index = packs.index(places[0].segment)
    assert [(e.bound_to, e.offset, e.length) for e in index] == [
        (m.bound_to, p.offset, p.length) for m, p in zip(models, places, strict=True)
    ]
    packs.delete(places[0].segment)
    packs.delete(places[0].segment)  # twice does no harm
    assert packs.segments() == []
    with pytest.raises(FileNotFoundError):
        packs.read(places[0])
    with pytest.raises(FileNotFoundError):
        packs.index(places[0].segment)


def test_large_segments_are_several(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [made(n) for n in range(5)]
    monkeypatch.setattr("service.detection.packs.SEGMENT_BYTES", 2 * len(models[0].raw))
    places = packs.write(0, 0, models)
    assert len({place.segment for place in places}) == 3
    assert [read(packs, m, p) for m, p in zip(models, places, strict=True)] == [0, 1, 2, 3, 4]


def test_every_byte_counts(tmp_path: Path) -> None:
    models = [made(1, rows=1), made(2, rows=1)]
    (one, two) = Packs(files_at(tmp_path), KEY).write(0, 0, models)
    path = tmp_path / one.segment
    raw = path.read_bytes()
    for at in range(0, len(raw), 7):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        packs, harmed = Packs(files_at(tmp_path), KEY), 0
        for model, place in zip(models, (one, two), strict=True):
            try:
                read(packs, model, place)
            except ArtifactError:
                harmed += 1
        try:
            packs.index(one.segment)
        except ArtifactError:
            harmed += 1
        assert harmed == 1, at
    path.write_bytes(raw)
    with pytest.raises(ArtifactError):
        Packs(files_at(tmp_path), b"x" * 32).index(one.segment)
    other = tmp_path / "00000" / "1-b.pack"
    other.write_bytes(raw)  # an index under another name
    with pytest.raises(ArtifactError):
        packs.index("00000/1-b.pack")


def test_a_store_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"MODEL_STORE: s3:// needs a package .*s3fs"):
        files_at("s3://bucket/models")
    with pytest.raises(ConfigurationError, match="MODEL_STORE"):
        files_at("nothing-like-it://bucket")


class House:
    """Segments, records and somebody who looks after them."""

    def __init__(self, packs: Packs, database: Database) -> None:
        self.packs, self.records = packs, ModelRecords(database)
        self.compactor = Compactor(packs, self.records, ManualClock(NOW), grace=0.0)

    async def store(self, *models: Packed) -> list[Place]:
        places = self.packs.write(0, 0, models)
        told = [
            (record(model), place, model.version - 1)
            for model, place in zip(models, places, strict=True)
        ]
        assert all(await self.records.publish(told))
        return places

    async def places(self) -> dict[int, list[Place]]:
        return (await self.records.places("acme")).found

    async def values(self) -> dict[int, list[float]]:
        return {
            series: [read(self.packs, made(series, p.version), p) for p in places]
            for series, places in (await self.places()).items()
        }


def record(model: Packed) -> ModelRecord:
    return ModelRecord(
        model.tenant,
        model.series,
        ModelState.READY,
        version=model.version,
        newest=model.version,
        trained_at=NOW,
        trained_from=NOW - 10,
        trained_to=NOW,
        changed_at=NOW,
    )


@pytest.fixture
async def house(packs: Packs, sqlite: Database) -> House:
    return House(packs, sqlite)


async def test_three_versions_are_kept(packs: Packs, database: Database) -> None:
    house = House(packs, database)
    for version in range(1, 6):
        await house.store(made(1, version))
    assert [p.version for p in (await house.places())[1]] == [5, 4, 3]
    late = house.packs.write(0, 0, [made(1, 5)])
    # somebody else was first
    assert await house.records.publish([(record(made(1, 5)), late[0], 4)]) == [False]


async def test_few_segments_are_left_of_many_and_every_model_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(compacting.SMALL_MAX + 2):
        await house.store(made(n), made(n + 100))
    before, old = await house.values(), await house.places()
    await house.compactor.run()
    assert await house.values() == before
    assert len({p.segment for places in (await house.places()).values() for p in places}) == 1
    with pytest.raises(FileNotFoundError):  # without grace
        house.packs.read(old[0][0])
    assert len(house.packs.segments()) == 1
    await house.compactor.run()
    assert await house.values() == before


async def test_readers_in_flight_finish(house: House) -> None:
    house.compactor = Compactor(house.packs, house.records, ManualClock(NOW))
    for n in range(compacting.SMALL_MAX + 2):
        await house.store(made(n))
    old, before = await house.places(), await house.values()
    await house.compactor.run()
    now = await house.places()
    assert {p.segment for ps in old.values() for p in ps}.isdisjoint(now[0][0].segment)
    for places in (old, now):
        assert {s: [read(house.packs, made(s), p[0])] for s, p in places.items()} == before


async def test_garbage_goes_and_what_is_deleted_goes_at_once(house: House) -> None:
    for version in range(1, 5):
        await house.store(made(1, version), made(2, version))
    (kept,) = await house.store(made(9))
    await house.compactor.run()
    assert len(house.packs.segments()) == 4  # of the first version nothing was left
    await house.records.delete("acme", [f"{2:016x}"])
    await house.compactor.run()
    held = [e.bound_to for name in house.packs.segments() for e in house.packs.index(name)]
    assert sorted(held) == [f"acme/{1:016x}/{v}" for v in (2, 3, 4)] + [f"acme/{9:016x}/1"]
    assert (await house.places())[9] == [kept]  # its segment was left alone


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["write", "move", "delete"])
async def test_a_scheduler_that_ends_anywhere_loses_no_model(
    house: House, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(compacting.SMALL_MAX + 2):
        await house.store(made(n))
    before = await house.values()
    orphan = house.packs.write(0, 0, [made(77)])[0]  # stored, and never told to SQL

    async def killed(*_: object) -> None:
        raise Killed

    def killed_here(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(house.packs.files, "write", killed_here)
        elif step == "move":
            patch.setattr(house.records, "move", killed)
        else:
            patch.setattr(house.packs, "delete", killed_here)
        with pytest.raises(Killed):
            await house.compactor.run()
    assert await house.values() == before
    house.compactor = Compactor(house.packs, house.records, ManualClock(NOW), grace=0.0)
    await house.compactor.run()
    await house.compactor.run()
    assert await house.values() == before
    assert orphan.segment not in house.packs.segments()
    assert len(house.packs.segments()) == 1


async def test_two_that_compact_at_once_do_no_harm(house: House) -> None:
    for n in range(compacting.SMALL_MAX + 2):
        await house.store(made(n))
    before = await house.values()
    placed = await house.records.placed("00000/")
    moves = [list(zip(*house.compactor._copy(0, 0, placed), strict=True)) for _ in range(2)]
    for move in moves:
        await house.records.move(move, NOW)
    first = {place.segment for _, place in moves[0]}
    assert {p.segment for ps in (await house.places()).values() for p in ps} == first
    assert await house.values() == before


async def test_a_replaced_model_is_not_put_back_by_moving(packs: Packs, database: Database) -> None:
    house = House(packs, database)
    await house.store(made(1))
    placed = await house.records.placed("00000/")
    moved = list(zip(*house.compactor._copy(0, 0, placed), strict=True))
    (new,) = await house.store(made(1, 2))
    await house.records.move(moved, NOW)
    assert (await house.places())[1] == [new, moved[0][1]]
    assert await house.values() == {1: [1.0, 1.0]}


async def test_what_is_refused_gives_way_to_the_one_before(
    packs: Packs, database: Database
) -> None:
    house, name = House(packs, database), f"{1:016x}"
    for version in range(1, 4):
        await house.store(made(1, version))
    places = (await house.places())[1]
    lost = Refusal("acme", name, places[0], "not there", lost=True)
    await house.records.refuse([lost], NOW)
    assert (await house.places())[1] == places  # it may come back
    one = await house.records.one("acme", name)
    assert one is not None
    assert (one.version, one.trained_at) == (3, None)
    for at in (0, 1, 2):
        await house.records.refuse([Refusal("acme", name, places[at], "changed", lost=False)], NOW)
    assert (await house.places())[1] == []
    assert [v.refused for v in await house.records.versions("acme", name)] == ["changed"] * 3


async def test_moved_models_are_found_again(house: House) -> None:
    """A reader that comes after the time of grace looks the place up; it refuses nothing."""
    models = ModelRegistry("memory://elsewhere", KEY)
    models.packs = house.packs
    catalogue = Catalogue(house.records, models, ManualClock(NOW))
    for n in range(compacting.SMALL_MAX + 2):
        await house.store(made(n))
    await catalogue.fresh("acme")
    old = models.place("acme", 3)
    await house.compactor.run()
    assert models.load("acme", f"{3:016x}") is None  # its segment is gone
    await catalogue.settle()
    assert models.place("acme", 3) not in (None, old)
    record = await house.records.one("acme", f"{3:016x}")
    assert record is not None
    assert record.error is None
