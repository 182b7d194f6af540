"""Every forecaster goes through the same checks; then the choice between them."""

import time

import numpy as np
import pytest

from models.forecast import deep, forest
from models.forecast.autoregressive import RidgeForecaster
from models.forecast.pool import POOL
from models.forecast.series import SeriesForecaster
from models.synthetic import bursts, daily, noise, times, with_shift, with_spike

PERIOD = 24
RNG = np.random.default_rng(8)
SHAPES = {
    "daily": daily(500, period=PERIOD),
    "short": daily(40, period=PERIOD),
    "constant": np.full(300, 7.0),
    "zeros": np.zeros(300),
    "ramp": np.arange(300.0),
    "negative": -daily(300, period=PERIOD),
    "sparse": bursts(300),
    "wide": RNG.normal(size=300) * 1e6,
    "walk": np.cumsum(RNG.normal(size=400)),
    "explosive": 1.05 ** np.arange(250.0),
    "freak": with_spike(daily(300, period=PERIOD), 200, 1e9),
}


@pytest.fixture(params=list(POOL))
def kind(request, monkeypatch):
    kind = POOL[request.param]
    if not kind.here():
        pytest.skip("needs the extra `deep`")
    monkeypatch.setattr(deep, "EPOCHS", 2)
    monkeypatch.setattr(forest, "TREES", 20)
    return kind


@pytest.mark.parametrize("shape", SHAPES)
def test_forecasts_are_finite_whatever_the_series(kind, shape):
    y = SHAPES[shape]
    model = kind.make(PERIOD, 400)
    assert model.fit(y, 5) is model
    index = np.array([5 + len(y), 5 + len(y) - 3])
    path = model.predict(np.stack([y[-30:], y[-33:-3]]), index, 48)
    assert path.shape == (2, 48)
    assert np.isfinite(path).all()


def test_windows_do_not_look_at_each_other(kind):
    y = SHAPES["daily"]
    model = kind.make(PERIOD, 400).fit(y, 0)
    windows, index = np.stack([y[:400], y[100:500]]), np.array([400, 500])
    together = model.predict(windows, index, 24)
    alone = model.predict(windows[1:], index[1:], 24)
    assert np.allclose(together[1:], alone)


def test_arrays_hold_everything(kind):
    y = SHAPES["daily"]
    model = kind.make(PERIOD, 400).fit(y, 0)
    arrays = model.to_arrays()
    assert all(array.dtype != object for array in arrays.values())
    index = np.array([len(y)])
    again = kind.load(arrays).predict(y[None], index, 24)
    assert np.array_equal(again, model.predict(y[None], index, 24))


@pytest.mark.parametrize(
    "name",
    [
        "seasonal_naive",
        "last_level",
        "level",
        "weekly_level",
        "ridge",
        "weekly_ridge",
        "wide_ridge",
    ],
)
def test_seasonal_forecasters_see_the_season(name):
    y = daily(700, seed=3, period=PERIOD, noise=0.5)
    model = POOL[name].make(PERIOD, 600).fit(y[:600], 0)
    path = model.predict(y[None, :600], np.array([600]), 48)[0]
    assert np.abs(path - y[600:648]).mean() < 0.3 * np.abs(y[600:648] - y[:600].mean()).mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("horizon", [1, 24, 200])
def test_the_interval_contains_the_forecast(shape, horizon):
    y = SHAPES[shape]
    t = times(len(y), 3_600_000)
    model = SeriesForecaster(horizon).fit(t, y)
    for forecast in (
        model.predict(t, y),
        model.predict(t[:0], y[:0]),
        model.predict(t[-1:], y[-1:]),
    ):
        assert np.isfinite([forecast.value, forecast.lower, forecast.upper]).all()
        assert (forecast.lower <= forecast.value).all()
        assert (forecast.value <= forecast.upper).all()
        assert np.array_equal(forecast.t_ms, t[-1] + 3_600_000 * np.arange(1, horizon + 1))
        assert forecast.model in POOL


def test_gaps_and_missing_values():
    t, y = times(600, 3_600_000), daily(600, period=PERIOD)
    keep = RNG.random(600) > 0.2
    y[RNG.random(600) < 0.1] = np.nan
    keep[300:340] = False
    keep[-1], y[-1] = True, 55.0
    forecast = SeriesForecaster(24).fit(t[keep], y[keep]).predict(t[keep], y[keep])
    assert np.isfinite([forecast.value, forecast.lower, forecast.upper]).all()
    assert forecast.t_ms[0] == t[-1] + 3_600_000


LEVELS = (0.8, 0.9, 0.95)
HOUR = 3_600_000
T = times(600, HOUR)
EVENTS = np.cumsum(RNG.exponential(60_000, 600)).astype(np.int64)
MESSY = {
    "barely": (T[:32], daily(32, 0, PERIOD)),
    "every other": (T[:70], np.resize([3.0, np.nan, 4.0], 70)),
    "huge": (T, daily(600, 0, PERIOD) * 1e298),
    "largest": (T, np.clip(RNG.normal(size=600), -1, 1) * 1.7e308),
    "smallest": (T, -daily(600, 0, PERIOD) * 1e-300),
    "freaks": (T, np.where(RNG.random(600) < 0.01, -1e200, daily(600, 0, PERIOD))),
    "holes": (T, np.where(RNG.random(600) < 0.6, np.nan, daily(600, 0, PERIOD))),
    "infinite": (T, np.where(RNG.random(600) < 0.2, -np.inf, daily(600, 0, PERIOD))),
    "a year away": (np.concatenate((T[:300], T[300:] + 365 * 24 * HOUR)), daily(600, 0, PERIOD)),
    "twice": (np.repeat(T[:300], 2), daily(600, 0, PERIOD)),
    "days": (times(400, 24 * HOUR), daily(400, 0, 7)),
    "weeks": (times(150, 168 * HOUR), np.cumsum(RNG.normal(size=150))),
    "events": (EVENTS, RNG.gamma(2.0, size=600)),
    "milliseconds": (times(600, 1), daily(600, 0, PERIOD)),
    "five minutes": (times(2500, 300_000), daily(2500, 0, 288)),
    "on and off": (times(900, 60_000), (RNG.random(900) < 0.1) * 1.0),
}


@pytest.mark.parametrize("name", MESSY)
def test_whatever_comes_is_forecast(name):
    t, y = MESSY[name]
    model = SeriesForecaster(30).fit(t, y)
    again = SeriesForecaster(30).fit(t, y)
    for level in LEVELS:
        forecast = model.predict(level=level)
        assert np.isfinite([forecast.value, forecast.lower, forecast.upper]).all()
        assert (forecast.lower <= forecast.value).all()
        assert (forecast.value <= forecast.upper).all()
        assert np.array_equal(forecast.value, again.predict(level=level).value)
    assert np.isfinite([model.error_, *model.errors_.values()]).all()
    assert 0 <= model.coverage_ <= 1
    stored = SeriesForecaster.from_arrays(model.to_arrays())
    assert np.array_equal(stored.predict().upper, model.predict().upper)
    p = model.crossing(t, y, float(y[np.isfinite(y)][0]))
    assert ((p > 0) & (p < 1)).all()


def test_units_do_not_matter():
    y = daily(600, 0, PERIOD)
    plain = SeriesForecaster(24).fit(T, y).predict()
    for unit in (1e-290, 1e-9, 1e6, 1e300):
        scaled = SeriesForecaster(24).fit(T, y * unit).predict()
        assert scaled.value / unit == pytest.approx(plain.value)
        assert scaled.upper / unit == pytest.approx(plain.upper)


def test_a_hundred_thousand_rows_take_no_longer_than_ten_thousand():
    y = daily(100_000, 0, 288)
    begun = time.process_time()
    model = SeriesForecaster(288).fit(times(len(y), 300_000), y)
    assert time.process_time() - begun < 0.8
    assert model.predict().t_ms[0] == times(len(y) + 1, 300_000)[-1]


def test_intervals_of_any_level_hold_about_what_they_say():
    def families(seed):
        rng = np.random.default_rng(seed)
        busy = np.where(np.isin(np.arange(1100) % 24, range(9, 18)), 4.0, 0.5)
        yield daily(1100, seed, PERIOD)
        yield noise(1100, seed)
        yield daily(1100, seed, PERIOD, 0.1) + busy * rng.normal(size=1100)
        yield bursts(1100, seed, 0.3)
        yield np.cumsum(rng.normal(size=1100))

    held = []
    for y in (y for seed in range(2) for y in families(seed)):
        t = times(len(y), HOUR)
        model = SeriesForecaster(24).fit(t[:800], y[:800])
        for end in range(800, 1076, 45):
            new = y[end : end + 24]
            said = [model.predict(t[:end], y[:end], level) for level in LEVELS]
            held.append([((new >= s.lower) & (new <= s.upper)).mean() for s in said])
    mean = np.mean(held, axis=0)  # on steady series rather too much
    assert (mean > np.array(LEVELS) - 0.03).all()
    assert (mean < np.array([0.9, 0.965, 0.99])).all()


def test_too_short_is_an_error_with_a_reason():
    with pytest.raises(ValueError, match="a forecaster needs 32"):
        SeriesForecaster().fit(times(20), daily(20))


def test_intervals_hold_about_what_they_say():
    held = []
    for seed in range(6):
        t, y = times(1400, 3_600_000), daily(1400, seed, PERIOD)
        model = SeriesForecaster(24, level=0.9).fit(t[:1000], y[:1000])
        for end in range(1000, 1376, 24):
            forecast = model.predict(t[:end], y[:end])
            new = y[end : end + 24]
            held.append(((new >= forecast.lower) & (new <= forecast.upper)).mean())
        assert 0.85 < model.coverage_ < 0.97
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)


def test_intervals_are_as_wide_as_the_time_of_day_is_uncertain():
    hour = np.arange(1000) % 24
    busy = (hour >= 9) & (hour < 18)
    y = daily(1000, 0, PERIOD, 0.1) + np.where(busy, 4.0, 0.4) * np.random.default_rng(1).normal(
        size=1000
    )
    t = times(1024, 3_600_000)
    for end in (1000, 989):
        model = SeriesForecaster(24).fit(t[:end], y[:end])
        said = model.predict()
        wide = said.upper - said.lower
        ahead = busy[np.arange(end, end + 24) % 24]
        assert wide[ahead].mean() > 2.5 * wide[~ahead].mean()
        courses = model.widths_.paths(int(model.grid_.index(said.t_ms[:1])[0]))
        assert courses[:, ahead].std() > 2.0 * courses[:, ~ahead].std()


def test_the_mixture_is_no_worse_than_the_best_member():
    t, y = times(900, 3_600_000), daily(900, 4, PERIOD)
    model = SeriesForecaster(24).fit(t, y)
    assert sum(model.weights_.values()) == pytest.approx(1)
    assert model.error_ <= 1.02 * min(model.errors_.values())
    assert model.errors_["ridge"] < model.errors_["seasonal_naive"] < model.errors_["naive"]


def test_noise_is_met_by_its_mean_and_a_season_by_its_shape():
    t = times(800, 3_600_000)
    steady = SeriesForecaster(24).fit(t, noise(800)).predict(t, noise(800))
    assert np.ptp(steady.value) < 8
    assert np.abs(steady.value - 100).max() < 6
    seasonal = SeriesForecaster(24).fit(t, daily(800, 0, PERIOD)).predict(t, daily(800, 0, PERIOD))
    assert np.ptp(seasonal.value) > 15


def test_what_leaves_all_reason_falls_back_and_says_so():
    t, y = times(500, 3_600_000), daily(500, 2, PERIOD)
    model = SeriesForecaster(24).fit(t, y)
    usual = model.predict(t, y)
    assert usual.model == model.chosen_
    assert not usual.fell_back
    ridges = [m for m in model.members_.values() if isinstance(m, RidgeForecaster)]
    assert sum(w for n, w in model.weights_.items() if "ridge" in n) > 0.5
    for ridge in ridges:
        ridge.weights_, ridge.unit_ = 5.0 * np.eye(len(ridge.weights_))[0], 40 * ridge.unit_
    others = model.predict(t, y)
    assert others.fell_back
    assert others.model not in ("naive", usual.model)
    assert np.abs(others.value - usual.value).mean() < 5
    model.members_ = {n: m for n, m in model.members_.items() if isinstance(m, RidgeForecaster)}
    nobody = model.predict(t, y)
    assert nobody.fell_back
    assert nobody.model == "naive"
    assert nobody.value == pytest.approx(np.full(24, y[-1]))


def test_a_series_at_a_new_level_is_forecast_there():
    t, y = times(500, 3_600_000), daily(500, 2, PERIOD)
    forecast = SeriesForecaster(24).fit(t, y).predict(t, with_shift(y, 440, 1e4))
    assert not forecast.fell_back
    assert (forecast.value > 0.6e4).all()  # seasonal lags still know the old level


def test_the_same_context_gives_the_same_forecast_after_storing():
    t, y = times(700, 3_600_000), daily(700, 2, PERIOD)
    model = SeriesForecaster(24).fit(t[:600], y[:600])
    again = SeriesForecaster.from_arrays({k: np.array(v) for k, v in model.to_arrays().items()})
    one, two = model.predict(t, y), again.predict(t[-50:], y[-50:])
    assert np.array_equal(one.t_ms, two.t_ms)
    # the fifty rows in between are filled from the day before; the level comes from the newest
    assert np.abs(one.value - two.value).mean() < 3
    same = again.predict(t, y)
    assert np.array_equal(one.value, same.value)
    assert np.array_equal(one.upper, same.upper)


def test_what_multiplies_is_forecast_by_factors():
    level = np.repeat(np.geomspace(1, 30, 40), PERIOD)  # grows by factors, and so does its day
    y = level * np.exp(daily(40 * PERIOD, 1, PERIOD, noise=0.3) / 20)
    t = times(len(y), 3_600_000)
    model = SeriesForecaster(24).fit(t[:-24], y[:-24])
    assert model.log_ is not None
    forecast = model.predict(t[:-24], y[:-24])
    naive = np.abs(y[-48:-24] - y[-24:]).mean()
    assert np.abs(forecast.value - y[-24:]).mean() < 0.6 * naive
    assert SeriesForecaster(24).fit(t, y - y.min()).log_ is None


def test_crossings_come_as_often_as_said():
    rng = np.random.default_rng(4)
    said, came = [], []
    for seed in range(4):
        t, y = times(1900, 3_600_000), daily(1900, seed, PERIOD)
        model = SeriesForecaster(24).fit(t[:900], y[:900])
        for end in range(900, 1876, 12):
            threshold = rng.uniform(*np.quantile(y, [0.6, 0.995]))
            p = model.crossing(t[:end], y[:end], threshold)
            assert (np.diff(p) >= 0).all()
            said.append(p)
            came.append(np.maximum.accumulate(y[end : end + 24] > threshold))
    said, came = np.array(said).ravel(), np.array(came).ravel()
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.8), (0.9, 1.0)):
        those = (said >= low) & (said <= high)
        assert those.sum() > 50
        assert came[those].mean() == pytest.approx(said[those].mean(), abs=0.12)


def test_a_fall_below_is_the_mirror_of_a_rise_above():
    t, y = times(700, 3_600_000), noise(700)
    up = SeriesForecaster(12).fit(t, y).crossing(t, y, 104.0)
    down = SeriesForecaster(12).fit(t, -y).crossing(t, -y, -104.0, above=False)
    assert up == pytest.approx(down, abs=0.1)


def test_counts_are_not_forecast_below_zero():
    t, y = times(600, 3_600_000), bursts(600, rate=0.3)
    forecast = SeriesForecaster(24).fit(t, y).predict(t, y)
    assert (forecast.lower >= 0).all()


def test_forecasting_is_fast():
    t, y = times(4000), daily(4000)
    begun = time.process_time()
    model = SeriesForecaster(24).fit(t, y)
    assert time.process_time() - begun < 0.5
    begun = time.process_time()
    model.predict(t[-2500:], y[-2500:])
    assert time.process_time() - begun < 0.02


def test_a_slow_failure_is_seen_coming():
    t, y = times(800), np.cumsum(np.random.default_rng(1).normal(size=800)) * 0.3 + 100
    y[-30:] -= np.arange(30.0) * 1.5
    forecast = SeriesForecaster(24).fit(t[:-30], y[:-30]).predict(t, y)
    assert forecast.value[-1] < y[-1] - 1
