from dataclasses import replace

from service.detection.records import ModelRecord, ModelRecords, ModelState


async def test_records_are_inserted_replaced_and_kept_apart(database):
    records = ModelRecords(database)
    one = ModelRecord("acme", "00" * 8, ModelState.COLD, rows=5)
    two = ModelRecord(
        "acme",
        "01" * 8,
        ModelState.READY,
        version=3,
        trained_at=1_700_000_000.5,
        trained_from=1_690_000_000.0,
        trained_to=1_700_000_000.0,
        rows=400,
        seconds=0.25,
        quality={"forecaster": "ridge"},
    )
    await records.put([one, two])
    await records.put([])
    assert await records.all("acme") == {one.series_id: one, two.series_id: two}
    failed = replace(one, state=ModelState.FAILED, error="no")
    await records.put([failed])
    assert (await records.all("acme"))[one.series_id] == failed
    assert await records.all("other") == {}
