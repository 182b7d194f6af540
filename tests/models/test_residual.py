import numpy as np
import pytest

from models.residual import Band, RidgeAutoregression, ScaleOfDay, lag_means
from models.synthetic import daily, with_spike


def test_lag_means_by_hand():
    x = np.arange(10.0)
    means = lag_means(x, np.array([0, 5, 9]), np.array([1, 2]), np.array([1, 4]))
    assert np.isnan(means[0]).all()
    assert np.array_equal(means[1:], [[4, 2], [8, 6]])


def test_predicts_the_rhythm_a_day_ahead():
    x = daily(3000, seed=1) / 10
    model = RidgeAutoregression(288, 288, 2400).fit(x[:2000], np.ones(2000))
    error = x[2000:] - model.predict(x, 2000)
    assert np.abs(error).mean() < 0.25 * np.abs(x - x.mean()).mean()


def test_is_causal():
    x = daily(1500)
    model = RidgeAutoregression(12, 288, 2400).fit(x[:1000], np.ones(1000))
    changed = x.copy()
    changed[1200:] += 1e3
    same = model.predict(x, 1000)[: 200 + 12] == model.predict(changed, 1000)[: 200 + 12]
    assert same.all()


def test_one_extreme_does_not_poison():
    x = daily(2000, seed=2)
    clean = RidgeAutoregression(12, 288, 2400).fit(x, np.ones(2000))
    poisoned = RidgeAutoregression(12, 288, 2400).fit(with_spike(x, 1000, 1e4), np.ones(2000))
    new = daily(2600, seed=2)
    error = [np.abs(new[2000:] - m.predict(new, 2000)).mean() for m in (clean, poisoned)]
    assert error[1] < 1.1 * error[0]


def test_errors_are_larger_at_noisy_hours():
    rng = np.random.default_rng(0)
    index = np.arange(5000)
    loud = index % 288 < 144
    scale = ScaleOfDay(288, 0.02).fit(rng.normal(size=5000) * np.where(loud, 5, 1), index)
    at = scale.at(index)
    assert at[loud].mean() > 1.5 * at[~loud].mean()


@pytest.mark.parametrize("rows", [50, 2000])
def test_band_holds_what_it_should(rows):
    rng = np.random.default_rng(5)
    held = []
    for _ in range(40):
        lower, upper = Band().fit(rng.normal(size=rows)).around(np.zeros(1), np.ones(1))
        new = rng.normal(size=2000)
        held.append(((new >= lower) & (new <= upper)).mean())
    assert np.mean(held) == pytest.approx(0.99, abs=0.02 if rows < 100 else 0.005)


def test_band_is_not_blown_up_by_a_past_anomaly():
    residual = np.random.default_rng(0).normal(size=1000)
    residual[100:120] = 50
    assert Band().fit(residual).high_ < 6
