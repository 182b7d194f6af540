import time

import numpy as np
import pytest

from models.changepoint import Kind, change_points, latest
from models.synthetic import (
    autocorrelated,
    bursts,
    daily,
    noise,
    times,
    with_shift,
    with_spike,
)

ROWS = 2016  # a week of five minutes


def remembering(rows, seed, weight=0.9):
    return autocorrelated(rows, np.random.default_rng(seed), weight)


def heavy(rows, seed):
    return np.random.default_rng(seed).standard_t(2, rows)


def rate(rows, seed):
    """A counter's increase per second."""
    total = np.random.default_rng(seed).poisson(40, rows + 1).cumsum()
    return np.diff(total) / 300.0


def busy_by_day(rows, seed):
    """Four times as much noise in the afternoon."""
    loud = np.arange(rows) % 288 > 150
    return 50.0 + np.random.default_rng(seed).normal(size=rows) * np.where(loud, 4.0, 1.0)


def few_values(rows, seed):
    return np.random.default_rng(seed).poisson(0.1, rows).astype(np.float64)


def sawtooth(rows, seed):
    return np.arange(rows) % 150 + np.random.default_rng(seed).normal(size=rows)


def ramp(rows, seed):
    return np.arange(rows) * 0.1 + noise(rows, seed)


def walk(rows, seed):
    return np.random.default_rng(seed).normal(size=rows).cumsum()


def weekends(rows, seed):
    return daily(rows, seed) - 8.0 * (np.arange(rows) // 288 % 7 >= 5)


def constant(rows, seed):
    return np.full(rows, 42.0 + seed)


NORMAL = [
    *(daily, noise, remembering, heavy, rate, busy_by_day, few_values, bursts, sawtooth, ramp),
    *(walk, constant),
]


def levels(t, v):
    return [p for p in change_points(t, v) if p.kind is Kind.LEVEL]


@pytest.mark.parametrize("make", NORMAL)
def test_the_normal_has_no_change_points(make):
    # one of some two hundred random walks has one, of the others none in thousands
    told = sum(len(change_points(times(ROWS), make(ROWS, seed))) for seed in range(8))
    assert told <= (make is walk)


def test_weekends_are_no_change_once_two_are_known():
    for seed in range(4):
        assert change_points(times(2 * ROWS), weekends(2 * ROWS, seed)) == []


@pytest.mark.parametrize(
    ("make", "deviation"), [(noise, 5.0), (daily, 1.0), (heavy, 1.5), (weekends, 1.0)]
)
@pytest.mark.parametrize("size", [3.0, -8.0])
def test_a_lasting_shift_is_found_to_the_row(make, deviation, size):
    at, t = 2700, times(2 * ROWS)
    for seed in range(3):
        (found,) = levels(t, with_shift(make(2 * ROWS, seed), at, size * deviation))
        assert abs(found.t_ms - t[at]) <= 6 * 300_000
        assert found.after - found.before == pytest.approx(size * deviation, abs=0.8 * deviation)


def test_two_deviations_are_found_and_the_sentence_has_both_levels():
    t, at = times(ROWS), 1100
    (found,) = levels(t, with_shift(noise(ROWS, 1), at, 10.0))
    assert found.before == pytest.approx(100.0, abs=1.0)
    assert found.after == pytest.approx(110.0, abs=1.0)
    assert abs(found.t_ms - t[at]) <= 6 * 300_000


@pytest.mark.parametrize("make", [noise, daily, heavy])
def test_a_shift_of_four_deviations_is_known_after_two_dozen_rows(make):
    t, at = times(ROWS), 1400
    for seed in range(3):
        size = 4.0 * {noise: 5.0, daily: 1.0, heavy: 1.5}[make]
        v = with_shift(make(ROWS, seed), at, size)
        assert latest(t[:at], v[:at], int(t[at - 40])) is None
        found = latest(t[: at + 24], v[: at + 24], int(t[at - 40]))
        assert found is not None
        assert abs(found.t_ms - t[at]) <= 2 * 300_000


def test_what_is_told_as_rows_come_is_never_taken_back_for_the_normal():
    told = 0
    for seed, make in enumerate((daily, noise, remembering, heavy, rate)):
        t, v = times(ROWS), make(ROWS, seed)
        told += sum(
            latest(t[:end], v[:end], int(t[end - 60])) is not None for end in range(200, ROWS, 61)
        )
    assert told == 0


def test_spikes_and_short_bursts_are_no_change_points():
    t, v = times(ROWS), noise(ROWS, 2)
    for at in (300, 301, 700, 1500, 2015):
        v = with_spike(v, at, 500.0)
    v[1000:1005] = 900.0
    v[1300:1306] = 0.0
    assert change_points(t, v) == []


def test_what_returns_within_a_day_was_an_episode():
    v = noise(ROWS, 3)
    v[900:960] = 0.0
    assert change_points(times(ROWS), v) == []
    (found,) = levels(times(930), v[:930])  # nobody knows yet that it will return
    assert found.t_ms == times(930)[900]
    assert found.after == 0.0


def test_a_staircase_has_its_steps():
    t, v = times(2 * ROWS), noise(2 * ROWS, 4)
    for at, size in ((1000, 20.0), (2200, 20.0), (3300, -30.0)):
        v = with_shift(v, at, size)
    found = levels(t, v)
    assert [round(p.after, -1) for p in found] == [120.0, 140.0, 110.0]
    assert [round(p.before, -1) for p in found] == [100.0, 120.0, 140.0]


def test_the_first_step_of_a_constant_is_one():
    v = with_shift(np.full(600, 42.0), 400, 5.0)
    (found,) = change_points(times(600), v)
    assert (found.t_ms, found.before, found.after) == (times(600)[400], 42.0, 47.0)


def test_more_noise_is_a_change_of_spread():
    v = noise(ROWS, 5)
    v[1200:] = 100.0 + 4.0 * (v[1200:] - 100.0)
    (found,) = change_points(times(ROWS), v)
    assert found.kind is Kind.SPREAD
    assert abs(found.t_ms - times(ROWS)[1200]) <= 24 * 300_000
    assert found.before == pytest.approx(5.0, abs=1.5)
    assert found.after == pytest.approx(20.0, abs=5.0)


def test_hourly_and_irregular_rows_work_too():
    v = with_shift(daily(24 * 30, 6, period=24), 500, 6.0)
    (found,) = levels(times(24 * 30, 3_600_000), v)
    assert found.t_ms == pytest.approx(times(24 * 30, 3_600_000)[500], abs=3 * 3_600_000)
    events = np.cumsum(np.random.default_rng(7).exponential(60_000, 900).astype(np.int64) + 1)
    (found,) = levels(events, with_shift(noise(900, 7), 600, 25.0))
    assert abs(np.searchsorted(events, found.t_ms) - 600) <= 3


def test_gaps_and_missing_values_move_nothing():
    t, v = times(ROWS), daily(ROWS, 8)
    rng = np.random.default_rng(8)
    v[rng.random(ROWS) < 0.3] = np.nan
    v[5] = np.inf
    assert change_points(t, v) == []
    late = np.concatenate((t[:900], t[900:] + 40 * 86_400_000 + 3_000_000))
    assert change_points(late, daily(ROWS, 8)) == []
    (found,) = levels(t, with_shift(v, 1400, 6.0))
    assert abs(found.t_ms - t[1400]) <= 8 * 300_000


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(0),
        np.ones(1),
        np.full(500, np.nan),
        np.arange(95.0),
        np.where(np.arange(900) % 50 == 0, 1e308, -1e308),
        daily(900) * 1e-300,
        np.zeros(900),
    ],
    ids=["none", "one", "missing", "short", "largest", "tiny", "zeros"],
)
def test_odd_series_have_none(values):
    assert change_points(times(len(values)), values) == []


def test_the_unit_of_the_series_does_not_matter():
    t, v = times(ROWS), with_shift(noise(ROWS, 9), 1300, 25.0)
    (found,) = change_points(t, v)
    for factor in (1e-9, 1e12):
        (scaled,) = change_points(t, v * factor)
        assert scaled.t_ms == found.t_ms
        assert scaled.after == pytest.approx(found.after * factor)


def test_a_million_points_take_seconds():
    t = times(1_000_000, 60_000)
    rng = np.random.default_rng(10)
    v = 50.0 + 10.0 * np.sin(2 * np.pi * np.arange(len(t)) / 1440) + rng.normal(size=len(t))
    begun = time.process_time()
    (found,) = change_points(t, with_shift(v, 600_000, 2.0))
    assert time.process_time() - begun < 5.0
    assert abs(found.t_ms - t[600_000]) <= 60 * 60_000


def test_a_history_takes_milliseconds():
    t, v = times(6048), daily(6048, 11)
    took = []
    for _ in range(5):
        begun = time.process_time()
        change_points(t, v)
        took.append(time.process_time() - begun)
    assert min(took) < 0.06
