import numpy as np
import pytest

from models.past import Past
from models.residual import Autoregression, Band
from models.running import SizeOfDay
from models.synthetic import daily, with_spike

BLOCK = 72


def walked(x, horizon=12, trusted=None):
    """A regression that has learned x, and what it said before."""
    past = Past(x, 0)
    model = Autoregression(horizon, 288, 5000)
    said = []
    for start in range(0, len(x), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(x)))
        made = model.predict(past, rows)
        said.append(made.expected)
        model.learn(made, x[rows], np.ones(len(rows), bool) if trusted is None else trusted[rows])
    return model, np.concatenate(said)


def test_lag_means_by_hand():
    past = Past(np.arange(10.0), 0)
    means = past.means(np.array([0, 5, 9]), np.array([1, 2]), np.array([1, 4]))
    assert np.isnan(means[0]).all()
    assert np.array_equal(means[1:], [[4, 2], [8, 6]])


def test_windows_by_hand():
    past = Past(np.arange(5.0), 0)
    assert past.windows(3, 0, 2).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert past.windows(3, 3, 5).tolist() == [[1, 2, 3], [2, 3, 4]]


def test_predicts_the_rhythm_a_day_ahead():
    x = daily(3000, seed=1) / 10
    error = np.abs(x - walked(x, 288)[1])[2000:]
    assert error.mean() < 0.25 * np.abs(x - x.mean()).mean()


def test_one_extreme_does_not_poison():
    x = daily(2600, seed=2)
    clean, poisoned = walked(x)[1], walked(with_spike(x, 1000, 1e4))[1]
    new = slice(1600, 2600)
    assert np.abs(x - poisoned)[new].mean() < 1.15 * np.abs(x - clean)[new].mean()


def test_what_nobody_measured_teaches_nothing():
    x = daily(2000, seed=3)
    wrong = x.copy()
    wrong[1000:1100] = 0
    trusted = np.ones(2000, bool)
    trusted[1000:1100] = False
    believed, ignored = walked(wrong)[0], walked(wrong, trusted=trusted)[0]
    clean = walked(x)[0]
    far = np.abs(believed.weights_ - clean.weights_).sum()
    assert np.abs(ignored.weights_ - clean.weights_).sum() < far


def test_errors_are_larger_at_noisy_hours():
    rng = np.random.default_rng(0)
    index = np.arange(5000)
    loud = index % 288 < 144
    size = SizeOfDay(288)
    errors = np.abs(rng.normal(size=5000) * np.where(loud, 5, 1))
    for start in range(0, 5000, BLOCK):
        size.learn(errors[start : start + BLOCK], index[start : start + BLOCK])
    at = size.at(index)
    assert at[loud].mean() > 1.5 * at[~loud].mean()


@pytest.mark.parametrize("rows", [50, 2000])
def test_band_holds_what_it_should(rows):
    rng = np.random.default_rng(5)
    held = []
    for _ in range(40):
        band = Band()
        band.learn(rng.normal(size=rows))
        lower, upper = band.around(np.zeros(1), np.ones(1))
        new = rng.normal(size=2000)
        held.append(((new >= lower) & (new <= upper)).mean())
    assert np.mean(held) == pytest.approx(0.99, abs=0.02 if rows < 100 else 0.005)


def test_band_is_not_blown_up_by_a_past_anomaly():
    residual = np.random.default_rng(0).normal(size=1000)
    residual[100:120] = 50
    band = Band()
    band.learn(residual)
    assert band.high_ < 6
