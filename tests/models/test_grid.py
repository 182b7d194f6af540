import numpy as np

from models.grid import Grid
from models.synthetic import times


def test_learns_step_and_phase_in_spite_of_jitter():
    rng = np.random.default_rng(1)
    t = times(500, 60_000) + rng.integers(-9_000, 9_000, 500)
    grid = Grid.learn(t)
    assert grid.step_ms == 60_000
    exact = Grid.learn(times(500, 60_000))
    assert exact.step_ms == 60_000
    assert exact.regular
    assert exact.period == 1440
    assert np.array_equal(exact.lay(t, np.arange(500.0)).at, np.arange(500))


def test_short_gaps_repeat_and_long_gaps_take_the_day_before():
    t = times(3 * 24, 3_600_000)
    v = np.arange(3 * 24.0)
    keep = np.ones(len(t), bool)
    keep[[40, 41]] = False
    keep[50:60] = False
    laid = Grid.learn(t).lay(t[keep], v[keep])
    assert laid.y[40] == laid.y[41] == 39
    assert np.array_equal(laid.y[50:60], v[26:36])
    assert np.array_equal(np.flatnonzero(~laid.seen), np.flatnonzero(~keep))
    assert np.array_equal(laid.y[laid.at], v[keep])


def test_a_year_of_silence_keeps_the_time_of_day_and_costs_nothing():
    t = times(600)
    t[300:] += 365 * 86_400_000
    grid = Grid.learn(t)
    laid = grid.lay(t, np.arange(600.0))
    assert len(laid.y) < 600 + 2 * 4096
    assert laid.first + len(laid.y) - 1 == grid.index(t)[-1]
    assert (laid.first + laid.at[0]) % 288 == grid.index(t)[0] % 288


def test_missing_values_leave_no_trace():
    t, v = times(50), np.arange(50.0)
    v[[3, 10, 49]] = np.nan
    laid = Grid.learn(t).lay(t, v)
    assert np.array_equal(np.flatnonzero(laid.at < 0), [3, 10, 49])
    assert np.isfinite(laid.y).all()
    assert laid.y[3] == 2
    assert len(Grid.learn(t).lay(t, np.full(50, np.nan)).y) == 0


def test_events_at_odd_times_take_a_cell_each():
    t = np.cumsum(np.random.default_rng(0).exponential(60_000, 400).astype(np.int64) + 1)
    grid = Grid.learn(t)
    assert not grid.regular
    assert grid.period == 0
    assert np.array_equal(grid.lay(t, np.arange(400.0)).at, np.arange(400))


def test_periods():
    assert Grid(300_000, 0).period == 288
    assert Grid(3_600_000, 0).period == 24
    assert Grid(86_400_000, 0).period == 7
    assert Grid(7 * 86_400_000, 0).period == 0
    assert Grid.from_arrays(Grid(5, 3, False).to_arrays()) == Grid(5, 3, False)


def test_where_a_row_goes_does_not_depend_on_later_ones():
    rng = np.random.default_rng(2)
    t = times(800, 60_000) + rng.integers(-29_000, 29_000, 800)
    t = np.sort(np.concatenate([t, t[::7] + 400]))  # jitter, and rows too many
    t[600:] += 3 * 86_400_000
    v = rng.normal(size=len(t))
    grid = Grid.learn(t[:60])
    whole = grid.lay(t, v)
    for n in (60, 200, 599, 601, 700):
        part = grid.lay(t[:n], v[:n])
        assert np.array_equal(part.at, whole.at[:n])
        assert np.array_equal(part.y, whole.y[: len(part.y)])


def test_rows_too_many_share_cells_and_stay_near_their_time():
    t = np.sort(np.concatenate([times(300, 60_000), times(300, 60_000) + 20_000]))
    grid = Grid(60_000, 0)
    laid = grid.lay(t, np.arange(600.0))
    assert np.abs(laid.at - (grid.index(t) - grid.index(t)[0])).max() <= 2
    assert laid.seen.all()


def test_far_fewer_rows_than_cells_take_one_each():
    t = times(3000, 50 * 60_000)
    assert len(Grid(60_000, 0).lay(t, np.ones(3000)).y) < 40_000
