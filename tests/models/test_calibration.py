import numpy as np
import pytest
from scipy.stats import kstest

from models.calibration import LARGEST_SURPRISE, TailCalibrator, Window, probability


def fitted(past):
    return TailCalibrator().fit(np.sort(past))


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_t"])
def test_probabilities_are_uniform_on_data_like_the_past(draw):
    rng = np.random.default_rng(11)
    sample = (
        (lambda n: np.abs(rng.standard_t(4, n)))
        if draw == "standard_t"
        else (lambda n: np.abs(getattr(rng, draw)(size=n)))
    )
    p = probability(fitted(sample(3000)).surprise(sample(20_000)))
    assert kstest(p, "uniform").statistic < 0.04
    assert 0.005 < (p < 0.01).mean() < 0.02
    assert (p < 0.001).mean() < 0.002  # the tail errs on the quiet side


def test_ties_share_the_highest_probability():
    calibrator = fitted(np.full(100, 3.0))
    assert calibrator.surprise(np.array([3.0]))[0] < 0.01
    assert calibrator.surprise(np.array([30.0]))[0] > 3


def test_grows_with_the_score_and_is_bounded():
    calibrator = fitted(np.random.default_rng(0).exponential(size=500))
    surprise = calibrator.surprise(np.concatenate([np.linspace(0, 50, 2000), [1e300]]))
    assert (np.diff(surprise) >= 0).all()
    assert surprise[0] < 0.01
    assert surprise[-1] == LARGEST_SURPRISE


def test_one_freak_does_not_hide_the_next():
    rng = np.random.default_rng(0)
    past = rng.exponential(size=1000)
    clean = fitted(past).surprise(np.array([20.0]))
    marked = fitted(np.append(past, 1e6)).surprise(np.array([20.0]))
    assert marked[0] > 0.7 * clean[0] > 2


@pytest.mark.parametrize("past", [[0.0], [0.0, 0.0, 1.0], [5.0, 1e12], list(range(10))])
def test_short_pasts(past):
    calibrator = fitted(np.array(past, float))
    surprise = calibrator.surprise(np.array([0.0, 1.0, 1e9]))
    assert np.isfinite(surprise).all()
    again = TailCalibrator.from_arrays(calibrator.to_arrays())
    assert np.isfinite(again.surprise(np.array([0.0, 1.0, 1e9]))).all()


def test_what_is_stored_says_nearly_the_same():
    calibrator = fitted(np.random.default_rng(0).exponential(size=20_000))
    again = TailCalibrator.from_arrays(calibrator.to_arrays())
    scores = np.linspace(0, 30, 5000)
    assert np.abs(again.surprise(scores) - calibrator.surprise(scores)).max() < 0.01


def test_a_window_keeps_the_newest_in_order():
    rng = np.random.default_rng(0)
    window, arrived = Window(100), []
    for size in (1, 0, 60, 30, 30, 250, 7, 99, 100, 1):
        new = rng.integers(0, 5, size).astype(float)
        arrived += new.tolist()
        window.add(new)
        assert window.ordered.tolist() == sorted(arrived[-100:])
