import os
import threading

import numpy as np
import pytest

from models.synthetic import daily, times
from service.detection import carrying
from service.detection.fitting import FitOptions, train_series
from service.detection.records import ModelState
from service.detection.registry import ModelRegistry
from service.detection.scoring import Scorer
from service.domain.errors import InvalidInput
from service.domain.series import (
    ALERT,
    DERIVED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    SCORE,
    Series,
)
from service.storage.columns import Columns

ROWS = 600
CPU = Series.of("cpu", {"host": "a"})
KEY = b"k" * 32
T, V = times(ROWS + 100), daily(ROWS + 100, seed=5)


@pytest.fixture(scope="module")
def trained():
    return train_series(T[:ROWS], V[:ROWS], FitOptions(horizon=12))


def manifest(trained, version=1):
    return {
        "version": version,
        "trained_at": 1.7e9,
        "trained_to_ms": trained.to_ms,
        "judged_until_ms": trained.to_ms,
    }


@pytest.fixture
def registry(tmp_path, trained):
    found = ModelRegistry(tmp_path, KEY)
    found.save("acme", CPU.hex, trained.arrays, manifest(trained))
    return found


def context(end, start=0):
    return Columns(T[start:end], V[start:end])


def by_name(samples):
    return {series.name: columns for series, columns in samples}


def test_training_tells_all_about_itself(trained):
    assert trained.rows == ROWS
    assert (trained.from_ms, trained.to_ms) == (T[0], T[ROWS - 1])
    assert trained.forecast.t_ms[0] == T[ROWS]
    assert len(trained.forecast.t_ms) == 12
    assert trained.holdout.t_ms[-1] == T[ROWS - 1]
    assert trained.quality["forecast_error"] > 0
    assert trained.seconds > 0


def test_new_points_become_series_with_the_same_labels(registry):
    samples = Scorer(registry).score("acme", CPU, context(ROWS + 3), int(T[ROWS]))
    assert [series.name for series, _ in samples] == [
        f"cpu{suffix}"
        for suffix in (":anomaly_score", ":expected", ":expected_lower", ":expected_upper")
    ]
    for series, columns in samples:
        assert series.tags == {"host": "a"}
        assert series.is_derived
        assert np.array_equal(columns.t, T[ROWS + 1 : ROWS + 3])
    found = by_name(samples)
    assert (found["cpu" + SCORE].v < 1).all()
    assert (found["cpu" + EXPECTED_LOWER].v < found["cpu" + EXPECTED_UPPER].v).all()


def test_history_that_training_judged_is_not_judged_again(registry):
    scorer = Scorer(registry)
    assert scorer.score("acme", CPU, context(ROWS), 0) == []
    assert len(scorer.score("acme", CPU, context(ROWS + 2), 0)[0][1].t) == 2


def test_forecasts_are_renewed_after_some_points_and_not_at_each(registry):
    scorer = Scorer(registry, forecast_every=6)
    renewed = []
    for end in range(ROWS + 1, ROWS + 20):
        found = by_name(scorer.score("acme", CPU, context(end), int(T[end - 2])))
        if "cpu" + FORECAST in found:
            renewed.append(end - ROWS)
            assert found["cpu" + FORECAST].t[0] == T[end]
            assert found.keys() >= {"cpu" + suffix for suffix in DERIVED if suffix != ALERT}
    assert renewed == [6, 12, 18]


def test_no_model_no_words(registry):
    scorer = Scorer(registry)
    other = Series.of("other")
    assert scorer.score("acme", other, context(ROWS + 3), 0) == []
    assert scorer.score("umbrella", CPU, context(ROWS + 3), 0) == []
    assert scorer.score("acme", CPU.derived(SCORE), context(ROWS + 3), 0) == []
    assert scorer.score("acme", CPU, Columns.empty(), 0) == []
    assert scorer.state("acme", other).state is ModelState.COLD
    assert scorer.failures == 0


def test_an_error_is_counted_and_remembered_not_raised(registry):
    scorer = Scorer(registry)
    bad = Columns(T[: ROWS + 3], V[: ROWS + 2])
    assert scorer.score("acme", CPU, bad, 0) == []
    assert scorer.failures == 1
    state = scorer.state("acme", CPU)
    assert state.state is ModelState.FAILED
    assert state.error
    assert scorer.score("acme", CPU, context(ROWS + 3), 0)
    assert scorer.state("acme", CPU).state is ModelState.READY


def test_a_replaced_model_is_noticed_and_kept_otherwise(registry, trained):
    one = registry.load("acme", CPU.hex)
    assert registry.load("acme", CPU.hex) is one
    registry.save("acme", CPU.hex, trained.arrays, manifest(trained, version=2))
    os.utime(registry.path("acme", CPU.hex), ns=(1, 1))  # whatever the clock's resolution
    two = registry.load("acme", CPU.hex)
    assert two.version == 2
    Scorer(registry).refresh("acme", CPU.hex)
    assert registry.load("acme", CPU.hex) is not two


def test_memory_is_bounded(tmp_path, trained):
    registry = ModelRegistry(tmp_path, KEY, cached=2)
    names = [f"{i:016x}" for i in range(4)]
    for name in names:
        registry.save("acme", name, trained.arrays, manifest(trained))
    first = registry.load("acme", names[0])
    for name in names:
        registry.load("acme", name)
    assert len(registry._loaded) == 2
    assert registry.load("acme", names[0]) is not first


@pytest.mark.parametrize("harm", ["flip", "truncate", "foreign key", "other series", "garbage"])
def test_models_that_cannot_be_trusted_are_refused(tmp_path, registry, trained, harm):
    path = registry.path("acme", CPU.hex)
    raw = path.read_bytes()
    if harm == "flip":
        path.write_bytes(raw[:99] + bytes([raw[99] ^ 1]) + raw[100:])
    elif harm == "truncate":
        path.write_bytes(raw[:-100])
    elif harm == "garbage":
        path.write_bytes(b"not a model")
    elif harm == "foreign key":
        ModelRegistry(tmp_path, b"x" * 32).save("acme", CPU.hex, trained.arrays, manifest(trained))
    else:
        registry.save("acme", "ab" * 8, trained.arrays, manifest(trained))
        path.write_bytes(registry.path("acme", "ab" * 8).read_bytes())
    scorer = Scorer(registry)
    assert scorer.score("acme", CPU, context(ROWS + 3), 0) == []
    assert scorer.failures == 0
    assert registry.load("acme", CPU.hex) is None


@pytest.mark.parametrize(
    ("tenant", "series"),
    [
        ("..", "00" * 8),
        ("a/b", "00" * 8),
        ("", "00" * 8),
        ("acme", "../../etc/passwd"),
        ("acme", "00" * 7),
        ("acme", "0" * 15 + "\n"),
        ("acme\n", "00" * 8),
    ],
)
def test_no_name_leads_out_of_the_folder(registry, tenant, series):
    with pytest.raises(InvalidInput):
        registry.path(tenant, series)


def test_threads_share_a_scorer(registry):
    scorer = Scorer(registry)
    found = []

    def work():
        for end in range(ROWS + 1, ROWS + 15):
            found.append(scorer.score("acme", CPU, context(end), int(T[end - 2]))[0][1].v[0])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 * 14
    assert len(set(found)) == 14
    assert scorer.failures == 0


REQUESTS = Series.of("requests_total", {"host": "a"})


@pytest.fixture(scope="module")
def totals():
    v = np.cumsum(np.abs(V))
    return v, train_series(T[:ROWS], v[:ROWS], FitOptions(horizon=12, counter=True))


@pytest.fixture
def both(registry, totals):
    """A registry with a gauge and a counter, and their contexts up to some row."""
    v, trained = totals
    registry.save("acme", REQUESTS.hex, trained.arrays, manifest(trained) | {"counter": True})

    def work(begin, end, rows=slice(None)):
        since = int(T[begin - 1])
        return [
            (CPU, Columns(T[:end][rows], V[:end][rows]), since),
            (REQUESTS, Columns(T[:end][rows], v[:end][rows]), since),
            (Series.of("other"), context(end), since),
        ]

    return registry, work


def assert_same(together, alone, work):
    assert not together.waiting
    found = dict(together.found)
    assert found.keys() == {series for series, _, _ in work[:2]}
    for series, columns, since in work[:2]:
        expected = alone.score("acme", series, columns, since)
        assert [one for one, _ in found[series]] == [one for one, _ in expected]
        for (_, ours), (_, theirs) in zip(found[series], expected, strict=True):
            assert np.array_equal(ours.t, theirs.t)
            assert np.allclose(ours.v, theirs.v, rtol=1e-9, atol=1e-9)


def test_many_series_at_once_say_what_each_says_alone(both):
    registry, work = both
    scorer, alone = Scorer(registry), Scorer(registry)
    begin = ROWS + 1
    for end in (ROWS + 2, ROWS + 3, ROWS + 4, ROWS + 7, ROWS + 8, ROWS + 40, ROWS + 41):
        now = work(begin, end)
        assert_same(scorer.score_all("acme", now), alone, now)
        begin = end
    assert scorer.score_all("acme", work(begin, begin)).found == []
    assert scorer.failures == 0


def test_a_sample_that_comes_late_is_seen(both):
    registry, work = both
    scorer = Scorer(registry, forecast_every=1000)
    without = np.delete(np.arange(ROWS + 12), ROWS + 6)
    scorer.score_all("acme", work(ROWS + 1, ROWS + 12, without))
    now = work(ROWS + 12, ROWS + 13)
    assert_same(scorer.score_all("acme", now), Scorer(registry, forecast_every=1000), now)


@pytest.mark.parametrize("first", [[], [ROWS + 2]], ids=["at once", "after a point"])
def test_after_a_long_gap_a_series_is_judged_from_its_context(both, first):
    registry, work = both
    scorer = Scorer(registry, forecast_every=1000)
    scorer.score_all("acme", work(ROWS + 1, ROWS + 2))
    rows = np.r_[: ROWS + 2, np.array(first, int), ROWS + 85 : ROWS + 88]
    now = work(ROWS + 2, ROWS + 88, rows)
    assert_same(scorer.score_all("acme", now), Scorer(registry, forecast_every=1000), now)
    rows = np.r_[rows, ROWS + 88]
    now = work(ROWS + 88, ROWS + 89, rows)
    assert_same(scorer.score_all("acme", now), Scorer(registry, forecast_every=1000), now)
    assert scorer.failures == 0


@pytest.mark.parametrize("announced", [True, False])
def test_a_new_model_goes_on_in_place_of_the_old_one(both, trained, announced, monkeypatch):
    registry, work = both
    scorer = Scorer(registry)
    scorer.score_all("acme", work(ROWS + 1, ROWS + 2))
    other = train_series(T[:ROWS], V[:ROWS], FitOptions(horizon=12, seed=7))
    registry.save("acme", CPU.hex, other.arrays, manifest(other, version=2))
    if announced:
        scorer.refresh("acme", CPU.hex)
    else:
        monkeypatch.setattr(carrying, "LOOK_AGAIN_SECONDS", 0.0)
    now = work(ROWS + 2, ROWS + 3)
    found = scorer.score_all("acme", now)
    old = ModelRegistry(registry.root.parent / "old", KEY)
    old.save("acme", CPU.hex, trained.arrays, manifest(trained))
    before = Scorer(old).score("acme", *now[0])
    assert_same(found, Scorer(registry), now)
    assert dict(found.found)[CPU][0][1].v[0] != before[0][1].v[0]


def test_what_is_carried_on_is_bounded_and_can_be_dropped(both):
    registry, work = both
    scorer = Scorer(registry, carried=1)
    for end in (ROWS + 2, ROWS + 3):
        now = work(end - 1, end)
        assert_same(scorer.score_all("acme", now), Scorer(registry), now)
    scorer.forget("acme")
    now = work(ROWS + 3, ROWS + 4)
    assert_same(scorer.score_all("acme", now), Scorer(registry), now)


def test_what_has_to_be_read_first_does_not_hold_up_what_is_at_hand(both):
    registry, work = both
    scorer = Scorer(registry)
    now = work(ROWS + 1, ROWS + 2)
    scorer.score_all("acme", now[:1])
    now = work(ROWS + 2, ROWS + 3)
    found, waiting = scorer.score_all("acme", now[:2], spare_seconds=0.0)
    assert [series for series, _ in found] == [CPU]
    assert waiting == [REQUESTS]
    assert_same(scorer.score_all("acme", now), Scorer(registry), now)


def test_forecasts_that_are_due_do_not_hold_up_scores(both):
    registry, work = both
    scorer = Scorer(registry, forecast_every=2)
    scorer.score_all("acme", work(ROWS, ROWS + 1)[:1])
    hurried = scorer.score_all("acme", work(ROWS + 1, ROWS + 4)[:1], spare_seconds=0.0)
    at_ease = scorer.score_all("acme", work(ROWS + 4, ROWS + 5)[:1])
    forecast = CPU.derived(FORECAST)
    assert forecast not in dict(dict(hurried.found)[CPU])
    assert dict(dict(at_ease.found)[CPU])[forecast].t[0] == T[ROWS + 5]
