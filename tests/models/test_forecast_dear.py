"""The members that take long say what the libraries that fit them would say."""

import sys

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from models.forecast import deep
from models.forecast.deep import DeepForecaster
from models.forecast.forest import ForestForecaster
from models.forecast.holtwinters import RECENT, HoltWinters, _states
from models.forecast.pool import POOL, members
from models.forecast.series import SeriesForecaster
from models.forecast.trees import Trees
from models.synthetic import daily, times

PERIOD = 24


def test_trees_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(400, 5)), rng.normal(size=(300, 5))
    y = X[:, 0] * (X[:, 1] > 0) + 0.1 * rng.normal(size=400)
    theirs = RandomForestRegressor(15, min_samples_leaf=3, max_features=0.5, random_state=7)
    ours = Trees.grow(X, y, 15, 3, 0.5, 7)
    again = Trees.from_arrays({k: np.array(v) for k, v in ours.to_arrays().items()})
    assert again.predict(new) == pytest.approx(theirs.fit(X, y).predict(new), abs=1e-12)
    alone = Trees.grow(X, np.full(400, 2.5), 3, 3, 0.5, 0)  # nothing to split
    assert (alone.predict(new) == 2.5).all()


def test_holt_winters_is_that_of_statsmodels():
    y = daily(RECENT, 0, PERIOD, noise=2.0)
    model = HoltWinters(PERIOD).fit(y, 0)
    level, trend, season = _states(y[None], PERIOD)
    theirs = ExponentialSmoothing(
        y,
        trend="add",
        damped_trend=True,
        seasonal="add",
        seasonal_periods=PERIOD,
        initialization_method="known",
        initial_level=level[0],
        initial_trend=trend[0],
        initial_seasonal=season[0],
    )
    names = ("smoothing_level", "smoothing_trend", "smoothing_seasonal", "damping_trend")
    for parameters in (model.parameters_, np.array([0.3, 0.1, 0.2, 0.9])):
        model.parameters_ = parameters
        fixed = dict(zip(names, parameters.tolist(), strict=True))
        want = theirs.fit(**fixed, optimized=False).forecast(PERIOD - 1)
        got = model.predict(y[None], np.array([len(y)]), PERIOD)[0]
        # of the step of the last row statsmodels takes the season before that row
        assert got[:-1] == pytest.approx(want, abs=1e-9)


def test_what_no_line_can_say_a_forest_does():
    rng = np.random.default_rng(0)
    hours = np.arange(60 * PERIOD)
    busy = rng.random(60)[hours // PERIOD] < 0.4  # the morning says which kind of day it is
    y = np.where(busy, 8.0, 2.0) * (hours % PERIOD > 8) + 3.0 * busy * (hours % PERIOD == 6)
    y = y + 0.2 * rng.normal(size=len(y))
    at = np.flatnonzero(hours % PERIOD == 8)[-20:]
    windows = np.stack([y[a - 336 : a] for a in at])
    truth = np.stack([y[a : a + 12] for a in at])
    errors = {}
    for name in ("forest", "weekly_ridge_plain"):
        model = POOL[name].make(PERIOD, 400).fit(y[: 35 * PERIOD], 0)
        errors[name] = np.abs(model.predict(windows, at, 12) - truth).mean()
    assert errors["forest"] < errors["weekly_ridge_plain"]


def test_a_forest_is_the_same_each_time():
    y = daily(400, 1, PERIOD)
    one, two = (ForestForecaster(PERIOD, 300).fit(y, 0).to_arrays() for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_dear_members_are_asked_where_they_can_be():
    cheap, dear = (members(PERIOD, 1000, 2400, dear) for dear in (False, True))
    more = {"theta", "holt_winters", "forest"} | ({"deep"} if deep.available() else set())
    assert set(dear) - set(cheap) == more
    assert "deep" not in members(288, 10_000, 2400, True)
    assert {"theta", "holt_winters"} >= set(members(PERIOD, 100, 2400, True)) - set(cheap)


def test_the_mixture_takes_them_in_and_stores_them(monkeypatch):
    monkeypatch.setattr(deep, "EPOCHS", 3)
    t, y = times(700, 3_600_000), daily(700, 5, PERIOD)
    model = SeriesForecaster(24, dear=True).fit(t, y)
    assert {"theta", "holt_winters", "forest"} <= model.errors_.keys()
    again = SeriesForecaster.from_arrays({k: np.array(v) for k, v in model.to_arrays().items()})
    assert np.array_equal(model.predict(t, y).value, again.predict(t, y).value)
    cheap = SeriesForecaster(24).fit(t, y)
    assert model.error_ < 1.03 * cheap.error_


def test_the_network_is_that_of_pytorch_and_the_same_each_time(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(deep, "EPOCHS", 3)
    y = daily(300, 2, PERIOD)
    model, other = (DeepForecaster(PERIOD).fit(y, 0) for _ in range(2))
    assert all(np.array_equal(w, other.weights_[name]) for name, w in model.weights_.items())
    lstm = torch.nn.LSTM(3, deep.HIDDEN, batch_first=True).double()
    head = torch.nn.Linear(deep.HIDDEN, PERIOD).double()
    w = {name: torch.from_numpy(weights) for name, weights in model.weights_.items()}
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(w["in"])
        lstm.weight_hh_l0.copy_(w["hidden"])
        lstm.bias_ih_l0.copy_(w["bias"])
        lstm.bias_hh_l0.zero_()
        head.weight.copy_(w["out"])
        head.bias.copy_(w["out_bias"])
        X = np.random.default_rng(0).normal(size=(7, 2 * PERIOD, 3))
        want = head(lstm(torch.from_numpy(X))[1][0][-1]).numpy()
    assert model._said(X) == pytest.approx(want, abs=1e-9)


def test_a_stored_network_forecasts_without_pytorch(monkeypatch):
    pytest.importorskip("torch")
    y = daily(500, 2, PERIOD, noise=0.5)
    model = DeepForecaster(PERIOD).fit(y[:-PERIOD], 0)
    arrays = model.to_arrays()
    monkeypatch.setitem(sys.modules, "torch", None)
    again = DeepForecaster.from_arrays(arrays)
    path = again.predict(y[None, :-PERIOD], np.array([len(y) - PERIOD]), 60)
    assert np.array_equal(path, model.predict(y[None, :-PERIOD], np.array([len(y) - PERIOD]), 60))
    seasonal = np.abs(y[-2 * PERIOD : -PERIOD] - y[-PERIOD:]).mean()
    assert np.abs(path[0, :PERIOD] - y[-PERIOD:]).mean() < 1.3 * seasonal
