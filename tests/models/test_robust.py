"""The quick ways are the plain ones, to the last digit."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from models.calibration import TailCalibrator, Window, surprises
from models.density import squared_distances
from models.past import Past
from models.robust import mean, mean_and_spread, median, row_medians, windows

SIZES = (1, 2, 3, 7, 8, 72, 301, 2000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("whole", [False, True])
def test_middles_and_means(size, whole):
    x = np.random.default_rng(size).normal(size=size)
    x = np.round(x) if whole else x
    before = x.copy()
    assert median(x) == np.median(x)
    assert mean(x) == x.mean()
    assert np.array_equal(x, before)


@pytest.mark.parametrize("width", SIZES[:-1])
def test_rows(width):
    x = np.random.default_rng(width).normal(size=500)
    rows = windows(x, width)
    assert np.array_equal(rows, sliding_window_view(x, width))
    assert np.array_equal(row_medians(rows), np.median(rows, axis=1))
    middle, spread = mean_and_spread(rows)
    assert np.array_equal(middle, rows.mean(axis=1))
    assert np.array_equal(spread, rows.std(axis=1))


def test_means_far_from_the_beginning_are_those_of_the_past():
    x = np.random.default_rng(0).normal(size=300)
    past, near, far = Past(x, 0), np.array([1, 20]), np.array([5, 90])
    rows = np.arange(90, 300)
    means = past.means(rows, near, far)
    assert np.allclose(means[:, 0], [x[t - 5 : t].mean() for t in rows], atol=1e-12)
    assert np.array_equal(past.means(np.arange(300), near, far)[90:], means)
    assert np.array_equal(past.level(np.arange(300), 2, 60)[90:], past.level(rows, 2, 60))


def test_kinds_that_arrive_together_are_windows_of_their_own():
    rng = np.random.default_rng(1)
    together, alone = Window(100, 3), [Window(100) for _ in range(3)]
    for size in (1, 0, 60, 30, 250, 7, 100):
        new, most = rng.integers(0, 5, (3, size)).astype(float), int(rng.integers(40, 120))
        together.add(new, most)
        for window, values in zip(alone, new, strict=True):
            window.add(values, most)
        assert np.array_equal(together.kinds, [window.ordered for window in alone])


def test_calibrators_say_together_what_each_says():
    rng = np.random.default_rng(2)
    each = [TailCalibrator().fit(np.sort(rng.exponential(size=n))) for n in (40, 700, 3000)]
    each.append(TailCalibrator.from_arrays(each[-1].to_arrays()))
    scores = rng.exponential(2.0, (4, 50))
    alone = [one.surprise(own) for one, own in zip(each, scores, strict=True)]
    assert np.array_equal(surprises(each, scores), alone)


def test_distances():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(150, 4)), rng.normal(size=(30, 4))
    plain = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    assert np.allclose(squared_distances(a, b), plain, atol=1e-12)
