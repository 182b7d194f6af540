"""Trends weeks ahead: what they assume, and how far they can be trusted."""

import numpy as np
import pytest

from models.forecast.longterm import ROWS_MIN, Bend, outlook

DAY = 86_400_000
START = 19_700


def days(n):
    return (START + np.arange(n, dtype=np.int64)) * DAY


def listeners(n, seed=0, slopes=((0, 0.002),), jump=None, noise=0.02):
    """Values that grow by factors, with busy weekends and freaks; slopes a day from days on."""
    rng = np.random.default_rng(seed)
    slope = np.zeros(n)
    for begin, each in slopes:
        slope[begin:] = each
    level = 5.0 + np.cumsum(slope)
    if jump:
        level[jump[0] :] += jump[1]
    y = np.exp(level + 0.15 * np.isin(np.arange(n) % 7, (5, 6)) + noise * rng.normal(size=n))
    y[rng.integers(30, n - 30, 3)] *= rng.uniform(0.1, 4.0, 3)
    return y


def test_a_trend_that_bends_is_followed_from_where_it_bends():
    y = listeners(220, slopes=((0, 0.001), (140, 0.006)))
    said = outlook(days(192), y[:192], 28)
    assert [change.kind for change in said.changes] == [Bend.SLOPE]
    change = said.changes[0]
    assert abs(change.t_ms // DAY - START - 140) <= 8
    assert said.since_ms == change.t_ms
    assert said.growth == pytest.approx(7 * 0.006, rel=0.2)
    assert said.slope == pytest.approx(said.growth * said.trend[-1])
    assert change.before / said.trend[130] == pytest.approx(7 * 0.001, abs=0.006)
    assert change.after > 3 * change.before
    weekly = np.abs(y[192:] - np.tile(y[185:192], 4)).mean()
    assert np.abs(y[192:] - said.value).mean() < 0.6 * weekly
    assert np.array_equal(said.t_ms, days(220)[192:])


def test_a_jump_is_a_jump_and_no_growth():
    said = outlook(days(200), listeners(200, 1, ((0, 0.0),), jump=(120, 0.4)))
    assert [change.kind for change in said.changes] == [Bend.LEVEL]
    assert abs(said.changes[0].t_ms // DAY - START - 120) <= 2
    assert said.changes[0].after / said.changes[0].before == pytest.approx(np.exp(0.4), rel=0.05)
    assert abs(said.growth) < 0.005


@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_changes_no_change_is_assumed(seed):
    said = outlook(days(200), listeners(200, seed))
    assert said.changes == []
    assert said.since_ms == days(1)[0]
    assert said.growth == pytest.approx(7 * 0.002, rel=0.2)


def test_intervals_hold_about_what_they_say():
    held = []
    for seed in range(10):
        y = listeners(178, seed, ((0, 0.002), (60, -0.003)))
        said = outlook(days(150), y[:150])
        usual = np.abs(y[150:] / np.median(y[150:]) - 1) < 0.6
        held.append(((y[150:] >= said.lower) & (y[150:] <= said.upper))[usual].mean())
    assert 0.8 < np.mean(held) <= 1.0
    half = outlook(days(150), y[:150], level=0.5)
    assert (half.upper - half.lower < said.upper - said.lower).all()


def test_hours_are_seen_by_whole_days_as_means_or_totals():
    t = START * DAY + 3_600_000 * np.arange(24 * 60 + 5, dtype=np.int64)
    y = 10 + np.arange(len(t)) / 168 + 3 * np.sin(np.arange(len(t)) * 2 * np.pi / 24)
    mean, total = outlook(t, y, 7), outlook(t, y, 7, total=True)
    assert len(mean.trend) == 60  # the day that has begun does not count
    assert mean.t_ms[0] == (START + 60) * DAY
    assert mean.slope == pytest.approx(1.0, rel=0.1)
    assert total.value == pytest.approx(24 * mean.value, rel=1e-3)


def test_weeks_are_seen_by_week():
    t = days(140)[::7]
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=f"20 whole days .or weeks., a trend needs {ROWS_MIN}"):
        outlook(t, np.arange(20.0))
    t = days(560)[::7]
    said = outlook(t, 50 + 0.5 * np.arange(80) + rng.normal(size=80), 8)
    assert said.slope == pytest.approx(0.5, abs=0.1)
    assert (np.diff(said.t_ms) == 7 * DAY).all()


MESSY = {
    "zeros": np.zeros(60),
    "constant": np.full(60, 7.0),
    "ramp": np.arange(60.0),
    "falling": -(np.arange(90.0) ** 2),
    "on and off": np.where(np.arange(60) % 2, 1e12, 0.0),
    "explosive": 1.1 ** np.arange(300.0),
    "huge": np.random.default_rng(0).normal(size=60) * 1e150,
    "holes": np.where(np.arange(90) % 3, np.nan, np.arange(90.0)),
    "short": np.arange(21.0),
    "long": np.cumsum(np.random.default_rng(1).normal(size=3000)),
}


@pytest.mark.parametrize("name", MESSY)
def test_whatever_comes_has_an_outlook(name):
    y = MESSY[name]
    said = outlook(days(len(y)), y, 40)
    numbers = [said.value, said.lower, said.upper]
    assert np.isfinite(numbers).all()
    assert np.isfinite([said.slope, said.growth, said.error, *said.trend]).all()
    assert (said.lower <= said.value).all()
    assert (said.value <= said.upper).all()
    again = outlook(days(len(y)), y, 40)
    assert np.array_equal(numbers, [again.value, again.lower, again.upper])
