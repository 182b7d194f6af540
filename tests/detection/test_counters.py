import numpy as np
import pytest

from models.synthetic import daily, times
from service.detection import counters
from service.detection.explaining import explain
from service.detection.fitting import FitOptions, train_series
from service.detection.registry import ModelRegistry
from service.detection.scoring import Scorer
from service.domain.series import (
    EXPECTED,
    EXPECTED_UPPER,
    FORECAST,
    SCORE,
    MetricType,
    Series,
)
from service.storage.columns import Columns

REQUESTS = Series.of("requests_total", metric_type=MetricType.COUNTER)
ROWS = 900


def test_rates_are_increases_per_second_and_survive_resets_and_gaps():
    samples = Columns(
        np.array([0, 10_000, 20_000, 30_000, 90_000]), np.array([5.0, 15.0, 35.0, 4.0, 64.0])
    )
    found = counters.rates(samples)
    assert np.array_equal(found.t, samples.t[1:])
    assert found.v == pytest.approx([1.0, 2.0, 0.4, 1.0])
    assert len(counters.rates(Columns(samples.t[:1], samples.v[:1])).t) == 0


@pytest.fixture(scope="module")
def counted():
    total = np.cumsum(daily(ROWS + 60, seed=3) * 300)
    total[500:] -= total[500] - 10.0  # a restart
    return Columns(times(ROWS + 60), total)


@pytest.fixture
def registry(tmp_path, counted):
    trained = train_series(counted.t[:ROWS], counted.v[:ROWS], FitOptions(12, counter=True))
    registry = ModelRegistry(tmp_path, b"k" * 32)
    manifest = {
        "version": 1,
        "trained_at": 0.0,
        "trained_to_ms": trained.to_ms,
        "judged_until_ms": trained.to_ms,
        "counter": True,
    }
    registry.save("acme", REQUESTS.hex, trained.arrays, manifest)
    return registry


@pytest.fixture
def scorer(registry):
    return Scorer(registry)


def score(scorer, samples):
    found = scorer.score("acme", REQUESTS, samples, 0)
    return {series.name.removeprefix("requests_total"): columns for series, columns in found}


def test_a_counter_is_expected_to_go_on_counting(scorer, counted):
    found = score(scorer, counted)
    new = counted.v[ROWS:]
    step = np.diff(counted.v).max()
    assert np.abs(found[EXPECTED].v - new).max() < 0.5 * step
    assert (found[SCORE].v < 0.999).all()
    assert found[FORECAST].v[0] > new[-1]
    assert (np.diff(found[FORECAST].v) > 0).all()
    assert (found[EXPECTED_UPPER].v >= found[EXPECTED].v).all()


def test_a_restart_is_no_news_and_a_standstill_is(scorer, counted):
    restarted = counted.v.copy()
    restarted[ROWS + 30 :] -= restarted[ROWS + 29]
    assert score(scorer, Columns(counted.t, restarted))[SCORE].v[30] < 0.999
    stuck = counted.v.copy()
    stuck[ROWS + 30 :] = stuck[ROWS + 29]
    assert score(scorer, Columns(counted.t, stuck))[SCORE].v[30:].max() > 0.999


def test_of_a_counter_the_rate_is_explained(registry, counted):
    model = registry.load("acme", REQUESTS.hex)
    stuck = np.minimum(counted.v, counted.v[ROWS + 30])
    why = explain(model.detector, Columns(counted.t, stuck), model.counter)
    assert why.seen == 0
    assert why.expected > 0
    assert explain(model.detector, Columns.empty(), model.counter) is None
