"""Confidence of thousands of series is read once, then of those that were trained anew."""

import pytest

from service.detection import standing
from service.detection.records import ModelRecord, ModelRecords, ModelState
from service.detection.standing import Standings
from service.storage.sql.engine import Database


def record(number: int, trained_at: float, coverage: float) -> ModelRecord:
    return ModelRecord(
        "acme",
        f"{number:016x}",
        ModelState.READY,
        version=1,
        trained_at=trained_at,
        rows=10_000,
        quality={"coverage": coverage},
    )


async def test_only_what_was_trained_anew_is_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_LOOK_SECONDS", 0.0)
    records = ModelRecords(database)
    asked: list[int] = []
    told = records.told

    async def counted(tenant, ids):
        asked.append(len(ids))
        return await told(tenant, ids)

    monkeypatch.setattr(records, "told", counted)
    standings = Standings(records)
    await records.put([record(n, 1000.0 + n, 0.99) for n in range(450)])
    sure = dict(await standings.of("acme"))
    assert sure.keys() == set(range(450))
    assert all(value > 0.9 for value in sure.values())
    assert asked == [200, 200, 50]
    await standings.of("acme")
    assert asked == [200, 200, 50]
    await records.put([record(7, 5000.0, 0.5)])
    assert (await standings.of("acme"))[7] == 0.0
    assert asked == [200, 200, 50, 1]
    standings.forget("acme", [7])
    assert 7 in await standings.of("acme")
