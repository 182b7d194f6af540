"""Who is trained when, and in which order: one table, no stores."""

import itertools

import pytest

from service.detection.due import (
    DRIFTED,
    Due,
    Reason,
    failure_wait,
    in_order,
    look_again,
    reason_of,
    wait_of,
)
from service.detection.records import ModelRecord, ModelState
from service.domain.series import Series

HOUR, DAY, WEEK = 3600.0, 86_400.0, 7 * 86_400.0
NOW = 1_700_000_000.0
HEX = "0" * 16


def made(
    *,
    age: float | None = None,
    history: float = WEEK,
    state: ModelState = ModelState.READY,
    version: int = 1,
    drift: float | None = None,
    pinned: bool = False,
    **quality: object,
) -> ModelRecord:
    """Trained so long ago on so much history."""
    trained = None if age is None else NOW - age
    return ModelRecord(
        "acme",
        HEX,
        state,
        version=version,
        trained_at=trained,
        trained_from=None if trained is None else trained - history,
        trained_to=trained,
        quality=quality,
        drift=drift,
        pinned=pinned,
    )


def cold(rows: int = 5) -> ModelRecord:
    return ModelRecord("acme", HEX, ModelState.COLD, rows=rows)


def failed(age: float, failures: int | None, *, version: int = 0) -> ModelRecord:
    counted = {} if failures is None else {"failures": failures}
    return made(age=age, state=ModelState.FAILED, version=version, **counted)


def changed(ago: float, age: float, **more: object) -> ModelRecord:
    """Its newest change point lies so long before its training."""
    at = NOW - age - ago
    return made(age=age, change_points=[{"at": at - WEEK}, {"at": at}], **more)


TABLE = [
    # what, record, retrain_seconds, has_file, reason
    ("never seen", None, HOUR, False, Reason.NEW),
    ("seen, too few samples then", cold(), HOUR, False, Reason.NEW),
    ("just trained", made(age=0), HOUR, True, None),
    ("a week's, an hour old", made(age=HOUR), HOUR, True, None),
    ("a week's, twelve hours old", made(age=12 * HOUR), HOUR, True, None),
    ("a week's, seventeen hours old", made(age=17 * HOUR), HOUR, True, Reason.OLD),
    ("a week's, a day old", made(age=DAY), HOUR, True, Reason.OLD),
    ("a month's, seventeen hours old", made(age=17 * HOUR, history=30 * DAY), HOUR, True, None),
    ("a month's, a day old", made(age=DAY, history=30 * DAY), HOUR, True, Reason.OLD),
    ("a day's, an hour old", made(age=HOUR, history=DAY), HOUR, True, None),
    ("a day's, three hours old", made(age=3 * HOUR, history=DAY), HOUR, True, Reason.OLD),
    ("an hour's, half an hour old", made(age=HOUR / 2, history=HOUR), HOUR, True, None),
    ("an hour's, an hour old", made(age=HOUR, history=HOUR), HOUR, True, Reason.OLD),
    ("an hour's, often wanted", made(age=400, history=HOUR), 60, True, Reason.OLD),
    ("as often as told, at most", made(age=2 * DAY), WEEK, True, None),
    ("as often as told", made(age=WEEK), WEEK, True, Reason.OLD),
    ("of an older version, unknown history", made(age=2 * HOUR, history=0), HOUR, True, Reason.OLD),
    ("drifted", made(age=HOUR, drift=DRIFTED), HOUR, True, Reason.DRIFTED),
    ("drifted, just trained", made(age=60, drift=1.0), HOUR, True, None),
    ("drifts a little", made(age=HOUR, drift=DRIFTED / 2), HOUR, True, None),
    ("drifted, pinned", made(age=DAY, drift=1.0, pinned=True), HOUR, True, None),
    ("pinned, lost", made(age=60, pinned=True), HOUR, False, Reason.LOST),
    ("drift not known", made(age=HOUR, drift=None), HOUR, True, None),
    ("at a new level for five hours", changed(5 * HOUR, HOUR), HOUR, True, Reason.OLD),
    ("at a new level, just trained", changed(5 * HOUR, HOUR / 2), HOUR, True, None),
    ("at another level for a day", changed(DAY, HOUR), HOUR, True, None),
    ("at another level for a day, and old", changed(DAY, 3 * HOUR), HOUR, True, Reason.OLD),
    ("its file is lost", made(age=60), HOUR, False, Reason.LOST),
    ("failed for the first time", failed(60, 1), HOUR, False, None),
    ("failed an hour ago", failed(HOUR, 1), HOUR, False, Reason.NEW),
    ("failed by an older version", failed(HOUR, None), HOUR, False, Reason.NEW),
    ("failed twice, an hour ago", failed(HOUR, 2), HOUR, False, None),
    ("failed twice, two hours ago", failed(2 * HOUR, 2), HOUR, False, Reason.NEW),
    ("fails every time", failed(20 * HOUR, 50), HOUR, False, None),
    ("fails every time, a day ago", failed(DAY, 50), HOUR, False, Reason.NEW),
    ("failed, has an older model", failed(HOUR, 1, version=3), HOUR, True, Reason.OLD),
    ("failed, its older file is lost", failed(60, 1, version=3), HOUR, False, None),
]


@pytest.mark.parametrize(
    ("record", "retrain", "has_file", "reason"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_who_is_due(
    record: ModelRecord | None, retrain: float, has_file: bool, reason: Reason | None
) -> None:
    assert reason_of(HEX, record, NOW, retrain, has_file=has_file) == reason


def test_thousands_trained_together_part() -> None:
    record = made(age=0)
    waits = [wait_of(Series.of("m", {"n": str(n)}).hex, record, HOUR) for n in range(4000)]
    full = 0.1 * WEEK
    assert 0.74 * full < min(waits) < 0.76 * full
    assert 0.99 * full < max(waits) <= full
    width = full / 40
    in_each = [sum(1 for w in waits if lo <= w < lo + width) for lo in (0.8 * full, 0.9 * full)]
    assert all(300 < count < 500 for count in in_each)  # of 4000 evenly: 400


def test_neighbours_in_the_spread_do_not_stay_neighbours() -> None:
    waits = [
        {version: wait_of(f"{n:016x}", made(age=0, version=version), HOUR) for version in (1, 2, 3)}
        for n in range(1000)
    ]
    by_version = [sorted(range(1000), key=lambda n, v=v: waits[n][v]) for v in (1, 2)]
    first = set(by_version[0][:100])
    assert len(first & set(by_version[1][:100])) < 100


def test_waits_after_failures_grow_to_a_day() -> None:
    assert [failure_wait(n, HOUR) / HOUR for n in (1, 2, 3, 4, 5, 6, 1000)] == [
        *(1, 2, 4, 8, 16, 24, 24)
    ]
    assert failure_wait(9, WEEK) == WEEK


def test_a_series_that_lacks_rows_is_looked_at_when_it_may_have_them() -> None:
    assert look_again(2, 60_000, 60) == 120
    assert look_again(1000, 60_000, 60) == 600  # history may come at once
    assert look_again(1000, 0, 60) == 0


def test_the_order() -> None:
    def due(name: str, reason: Reason, trained: float = 0.0, tenant: str = "acme") -> Due:
        record = ModelRecord(tenant, HEX, ModelState.READY, version=1, trained_at=trained)
        return Due(tenant, Series.of(name), record if trained else None, reason)

    wanted = [
        due("failed-once", Reason.NEW, 5.0),
        due("lost", Reason.LOST, 9.0),
        due("drifted-old", Reason.DRIFTED, 1.0),
        due("drifted", Reason.DRIFTED, 3.0),
        due("old", Reason.OLD, 1.0),
        due("less-old", Reason.OLD, 2.0),
    ]
    for shuffled in itertools.islice(itertools.permutations(wanted), 0, 720, 7):
        assert in_order(shuffled) == wanted

    many = [due(f"n{n}", Reason.NEW) for n in range(50)]
    few = [due(f"n{n}", Reason.NEW, tenant="other") for n in range(3)]
    found = in_order(many + few)
    assert [one.tenant for one in found[:6]] == ["acme", "other"] * 3
    assert {one.tenant for one in found[6:]} == {"acme"}
