"""Real SQL, real processes, real files; small stand-ins for where samples come from and go."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.base import within
from models.ensemble import Detector
from models.members import LABELS
from models.synthetic import daily, times
from service.detection.catalogue import Catalogue
from service.detection.due import failure_wait
from service.detection.fitting import FitOptions, train_series
from service.detection.pool import LocalPool
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.registry import ModelRegistry, SeriesModel
from service.detection.training import Trainer, TrainingReport
from service.domain.clock import ManualClock
from service.domain.errors import LostLease, Unavailable
from service.domain.series import FORECAST, SCORE, Selector, Series
from service.query.selector import parse_selector
from service.settings import Settings
from service.storage.columns import Columns

ROWS = 400
NOW = 1_700_200_000.0
CPU = Series.of("cpu", {"host": "a"})
LATENCY = Series.of("latency")
YOUNG = Series.of("young")
BROKEN = Series.of("broken")


def samples(rows: int, seed: int = 0, until: float = NOW) -> Columns:
    return Columns(times(rows, 300_000, round(until * 1000) - rows * 300_000), daily(rows, seed))


class Store:
    """Series, samples, and what was written and woken."""

    def __init__(self) -> None:
        self.series: dict[str, dict[Series, Columns]] = {}
        self.written: list[tuple[str, Series, Columns]] = []
        self.woken: list[tuple[str, str]] = []
        self.refuse = False
        self.incidents: dict[str, list[tuple[float, float]]] = {}

    async def foreseen(self, tenant: str) -> list[Selector]:
        return [parse_selector("latency")] if tenant == "acme" else []

    async def all(self, tenant: str) -> dict[int, Series]:
        return {series.id: series for series in self.series.get(tenant, {})}

    async def read(self, tenant, ids, start_ms, end_ms):
        return {
            series.id: columns.between(start_ms, end_ms)
            for series, columns in self.series[tenant].items()
            if series.id in ids
        }

    async def write(self, tenant, samples) -> None:
        if self.refuse:
            raise OSError("the store is down")
        self.written += [(tenant, series, columns) for series, columns in samples]

    async def publish(self, topic: str, payload: str = "") -> None:
        self.woken.append((topic, payload))

    async def left_out(self, tenant: str, since: float, series: list[Series]):
        assert since < NOW - 86_400
        return self.incidents if tenant == "acme" else {}

    async def labelled(self, tenant: str, since: float):
        return {}

    def told(self, series: Series, suffix: str) -> Columns | None:
        found = [c for _, s, c in self.written if s == series.derived(suffix)]
        return found[-1] if found else None


@pytest.fixture
def store() -> Store:
    found = Store()
    found.series["acme"] = {
        CPU: samples(ROWS, 1),
        LATENCY: samples(ROWS, 2),
        YOUNG: samples(100, 3),
        CPU.derived(SCORE): samples(ROWS, 4),
    }
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "models", b"k" * 32)


async def load(trainer: Trainer, series: Series) -> SeriesModel | None:
    await trainer._catalogue.look_up("acme", series.hex)
    return trainer._models.load("acme", series.hex)


@pytest.fixture
async def trainer(sqlite, clock, registry, store, tmp_path) -> AsyncIterator[Trainer]:
    settings = Settings(data_dir=tmp_path, parallel_workers=1, ml_model_retrain_frequency=3600)
    found = Trainer(
        settings,
        sqlite,
        clock,
        registry,
        Catalogue(ModelRecords(sqlite), registry, clock),
        LocalPool(1, nice=0),
        series=store,
        reader=store,
        writer=store,
        wake=store,
        incidents=store,
        foreseen=store.foreseen,
    )
    yield found
    found.close()


@pytest.mark.slow
async def test_trains_what_is_due_and_says_so_everywhere(trainer, store, sqlite, clock, registry):
    report = await trainer.run(["acme"])
    assert (report.trained, report.failed, report.cold, report.skipped) == (2, 0, 1, 0)
    assert report.seconds > 0
    shown = trainer.progress.snapshot()
    assert (shown.waiting, shown.running, shown.done, shown.failed) == (0, 0, 2, 0)
    assert shown.tenants["acme"].first_done == 2
    assert shown.place == "1 process"

    records = await ModelRecords(sqlite).all("acme")
    assert set(records) == {CPU.hex, LATENCY.hex, YOUNG.hex}  # nothing about derived series
    cpu, young = records[CPU.hex], records[YOUNG.hex]
    assert cpu.state is ModelState.READY
    assert (cpu.version, cpu.rows, cpu.trained_at) == (1, ROWS, NOW)
    assert cpu.trained_to == store.series["acme"][CPU].t[-1] / 1000
    assert cpu.quality["forecaster"] in cpu.quality["forecast_errors"]
    assert cpu.quality["members"] == list(LABELS)
    assert "thorough" not in cpu.quality
    # a rule waits for this one's forecast
    assert "theta" in records[LATENCY.hex].quality["forecast_errors"]
    assert 0 <= records[LATENCY.hex].quality["thorough"] <= 1
    assert cpu.error is None
    assert (young.state, young.rows, young.version) == (ModelState.COLD, 100, 0)

    model = await load(trainer, CPU)
    assert model is not None
    assert model.version == 1
    assert model.manifest["tenant"] == "acme"
    assert (await load(trainer, YOUNG)) is None

    scores, forecast = store.told(CPU, SCORE), store.told(CPU, FORECAST)
    assert scores.t[-1] == store.series["acme"][CPU].t[-1]
    assert len(scores.t) > 0.5 * ROWS
    assert len(forecast.t) == 24
    assert forecast.t[0] == scores.t[-1] + 300_000
    assert ("models", f"acme/{CPU.hex}") in store.woken
    assert store.told(YOUNG, SCORE) is None

    again = await trainer.run(["acme"])
    assert (again.trained, again.cold, again.skipped) == (0, 0, 3)

    # four hours later, without anything new, there is nothing to learn
    clock.set(NOW + 4 * 3600)
    again = await trainer.run(["acme"])
    assert (again.trained, again.cold, again.skipped) == (0, 1, 2)
    again = await trainer.run(["acme"])
    assert (again.cold, again.skipped) == (0, 3)  # nor is anything read for a while

    clock.set(NOW + 5 * 3600)
    store.written.clear()
    store.series["acme"][CPU] = samples(ROWS + 48, 1, until=NOW + 4 * 3600)
    again = await trainer.run(["acme"])
    assert (again.trained, again.skipped) == (1, 1)
    cpu = (await ModelRecords(sqlite).all("acme"))[CPU.hex]
    assert (cpu.version, cpu.rows) == (2, ROWS + 48)
    # what was said about the past at the time stays; only the forecast is new
    assert store.told(CPU, SCORE) is None
    assert store.told(CPU, FORECAST).t[0] > NOW * 1000
    assert (await load(trainer, CPU)).judged_until_ms == scores.t[-1]


@pytest.mark.slow
async def test_a_failing_series_stops_nobody(trainer, store, sqlite, clock, monkeypatch):
    store.series["acme"][BROKEN] = samples(ROWS, 5)._replace(v=np.zeros(ROWS - 1))
    report = await trainer.run(["acme", "empty"])
    assert (report.trained, report.failed) == (2, 1)
    broken = (await ModelRecords(sqlite).all("acme"))[BROKEN.hex]
    assert broken.state is ModelState.FAILED
    assert broken.error
    assert broken.version == 0

    store.series["acme"][BROKEN] = samples(ROWS, 5, until=NOW + 3600)
    assert (await trainer.run(["acme"])).trained == 0  # not at once again
    clock.set(NOW + 3600)
    assert (await trainer.run(["acme"])).trained == 1
    mended = (await ModelRecords(sqlite).all("acme"))[BROKEN.hex]
    assert mended.error is None
    assert "failures" not in mended.quality


@pytest.mark.slow
async def test_a_store_that_is_down_fails_the_series_and_not_the_run(trainer, store, sqlite, clock):
    store.refuse = True
    assert await trainer.run(["acme"]) == TrainingReport(failed=2, cold=1)
    record = (await ModelRecords(sqlite).all("acme"))[CPU.hex]
    assert record.error == "the store is down"
    store.refuse = False
    clock.set(NOW + 3600)
    store.series["acme"][CPU] = samples(ROWS + 12, 1, until=NOW + 3600)
    assert (await trainer.run(["acme"])).trained == 2
    assert store.told(CPU, SCORE) is not None


async def test_a_series_that_fails_again_waits_twice_as_long(trainer, store, sqlite, clock):
    store.series["acme"] = {BROKEN: samples(ROWS, 5)._replace(v=np.zeros(ROWS - 1))}
    waits = []
    for _ in range(3):
        assert (await trainer.run(["acme"])).failed == 1
        record = (await ModelRecords(sqlite).all("acme"))[BROKEN.hex]
        waits.append(failure_wait(record.quality["failures"], 3600))
        clock.set(clock.now() + waits[-1] - 1)
        assert (await trainer.run(["acme"])).skipped == 1
        clock.set(clock.now() + 1)
    assert waits == [3600, 7200, 14_400]


@pytest.mark.slow
async def test_a_store_that_does_not_answer_ends_the_run_and_fails_no_series(
    trainer, store, sqlite, monkeypatch
):
    async def unavailable(tenant, samples):
        raise Unavailable("the store does not answer; try again")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", unavailable)
        with pytest.raises(Unavailable):
            await trainer.run(["acme"])
    states = {r.state for r in (await ModelRecords(sqlite).all("acme")).values()}
    assert ModelState.FAILED not in states
    assert (await trainer.run(["acme"])).trained == 2


@pytest.mark.slow
async def test_who_leads_no_longer_publishes_nothing(trainer, store, sqlite, registry):
    del store.series["acme"][LATENCY]

    async def deposed() -> bool:
        return False

    with pytest.raises(LostLease):
        await trainer.run(["acme"], deposed)
    assert (await load(trainer, CPU)) is None
    assert store.written == []

    # another scheduler has published this version meanwhile: ours is not recorded over it
    theirs = ModelRecord("acme", CPU.hex, ModelState.READY, version=1, trained_at=NOW, rows=7)

    async def overtaken() -> bool:
        await ModelRecords(sqlite).put([theirs])
        return True

    assert (await trainer.run(["acme"], overtaken)).trained == 0
    assert (await ModelRecords(sqlite).all("acme"))[CPU.hex].rows == 7


async def test_a_record_is_replaced_if_it_is_the_one_that_was_known(database):
    records = ModelRecords(database)
    first = ModelRecord("acme", CPU.hex, ModelState.COLD, rows=5)
    assert await records.replace(first, 0)
    assert await records.replace(replace(first, version=1, state=ModelState.READY), 0)
    assert not await records.replace(replace(first, version=1, rows=9), 0)
    assert not await records.replace(replace(first, version=3, rows=9), 2)
    assert (await records.all("acme"))[CPU.hex].rows == 5


@pytest.mark.slow
async def test_incidents_are_not_learned_from(trainer, store, sqlite, registry):
    known = store.series["acme"]
    del known[YOUNG]
    t, v = known[CPU]
    sick = v.copy()
    sick[200:260] += 500
    known[CPU] = Columns(t, sick)
    known[LATENCY] = Columns(t, sick)
    begin, end = t[200] / 1000, t[259] / 1000
    # alerts on the series, and on what models said of it
    store.incidents = {CPU.hex: [(begin, t[230] / 1000)], CPU.derived(SCORE).hex: [(begin, end)]}
    assert (await trainer.run(["acme"])).trained == 2
    records = await ModelRecords(sqlite).all("acme")
    cpu, latency = records[CPU.hex], records[LATENCY.hex]
    assert (cpu.rows, latency.rows) == (ROWS - 60, ROWS)
    assert (cpu.quality["left_out_rows"], latency.quality["left_out_rows"]) == (60, 0)
    assert cpu.trained_to == t[-1] / 1000
    # judged all the same: a page shows the incident
    assert store.told(CPU, SCORE).between(t[200], t[259]).v.min() > 0.99
    learned, doubted = await load(trainer, CPU), await load(trainer, LATENCY)
    width = [np.ptp(m.forecaster.range_) for m in (learned, doubted)]
    assert width[0] < width[1] / 3  # in units of a typical deviation
    # the last day but one was the incident; a forecast that repeats it would be far off
    assert store.told(CPU, FORECAST).v.max() < 100
    bands = [m.detector.score(t, v, 100) for m in (learned, doubted)]
    assert np.mean(bands[0].upper) < np.mean(bands[1].upper)


async def test_a_series_of_which_too_little_is_left_stays_cold(trainer, store, sqlite):
    store.series["acme"] = {CPU: samples(ROWS)}
    t = store.series["acme"][CPU].t
    store.incidents = {CPU.hex: [(t[10] / 1000, t[-10] / 1000)]}
    assert await trainer.run(["acme"]) == TrainingReport(cold=1)
    assert (await ModelRecords(sqlite).all("acme"))[CPU.hex].rows == 19


async def test_only_the_newest_rows_are_used(trainer, store, monkeypatch):
    rows = 7000
    store.series["acme"] = {CPU: samples(rows)}
    found = await trainer._read("acme", [CPU.id])
    assert len(found[CPU.id].t) == Settings().training_max_rows
    assert found[CPU.id].t[-1] == store.series["acme"][CPU].t[-1]


async def test_closing_twice_is_harmless(trainer):
    trainer.close()
    trainer.close()


def test_a_series_that_comes_more_often_is_learned_at_its_new_step():
    old, new = times(2000, 300_000), times(4 * 1440, 60_000)
    t = np.concatenate((old, old[-1] + 60_000 + new - new[0]))
    values = np.concatenate((daily(2000, 1), daily(len(new), 1, period=1440)))
    trained = train_series(t, values, FitOptions())
    detector = Detector.from_arrays(within("detector", trained.arrays))
    assert detector.grid_.step_ms == 60_000
    assert trained.from_ms == t[1999]  # a step begins with the row before it
    assert trained.rows == len(new) + 1


def test_reports_add_up():
    one = TrainingReport(trained=1, failed=2, seconds=0.5)
    assert one + TrainingReport(cold=3, skipped=4, seconds=1.0) == TrainingReport(1, 2, 3, 4, 1.5)


@pytest.mark.slow
async def test_a_long_run_leaves_what_can_wait_to_the_next(trainer, store, clock, monkeypatch):
    monkeypatch.setattr("service.detection.training._RUN_SECONDS", -1.0)
    del store.series["acme"][YOUNG]
    assert (await trainer.run(["acme"])).trained == 2  # new series do not wait
    later = NOW + 86_400
    clock.set(later)
    store.series["acme"] = {s: samples(ROWS, 1, until=later) for s in (CPU, LATENCY)}
    assert (await trainer.run(["acme"])).trained == 0
    monkeypatch.setattr("service.detection.training._RUN_SECONDS", 60.0)
    assert (await trainer.run(["acme"])).trained == 2
