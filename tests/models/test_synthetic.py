import itertools

import numpy as np
import pytest

from models.evaluation import anomalies, judged_from
from models.synthetic import APART, FAMILIES

SEEDS = range(4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_is_a_series(name):
    one, again, other = (FAMILIES[name](seed) for seed in (1, 1, 2))
    assert np.array_equal(one.values, again.values)
    assert np.array_equal(one.labels, again.labels)
    assert one.kinds == again.kinds
    assert not np.array_equal(one.values, other.values)


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_are_where_the_clean_series_was_changed(name):
    for seed in SEEDS:
        series, clean = FAMILIES[name](seed), FAMILIES[name](seed, clean=True)
        assert not clean.labels.any()
        assert clean.kinds == ()
        changed = series.values != clean.values
        assert not changed[~series.labels].any()
        for a, b in anomalies(series.labels):
            assert changed[a:b].mean() > 0.3


@pytest.mark.parametrize("name", FAMILIES)
def test_anomalies_are_rare_apart_and_judged(name):
    for seed in SEEDS:
        series = FAMILIES[name](seed)
        spans = anomalies(series.labels)
        assert len(spans) == len(series.kinds) >= 5
        assert spans[0][0] >= judged_from(len(series.values))
        assert all(c - b >= APART for (_, b), (c, _) in itertools.pairwise(spans))
        assert 0.0 < series.labels.mean() < 0.12


@pytest.mark.parametrize("name", FAMILIES)
def test_times_are_regular_and_values_possible(name):
    series = FAMILIES[name](3)
    assert (np.diff(series.t_ms) == series.step_ms).all()
    assert series.t_ms.shape == series.values.shape == series.labels.shape
    assert np.isfinite(series.values).all()
    assert series.values.min() >= 0.0


def test_every_kind_of_mishap_comes_up():
    kinds = {
        name: {k for seed in SEEDS for k in make(seed).kinds} for name, make in FAMILIES.items()
    }
    assert kinds == {
        "web": {"outage", "surge", "stuck", "wrong time of day", "restless"},
        "latency": {"level", "ramp", "bursts", "drop"},
        "machine": {"saturated", "leak", "dead", "stuck", "offset"},
        "errors": {"errors"},
        "business": {"dip", "surge", "zero"},
    }


def test_machines_report_per_cent_and_counts_are_whole():
    for seed in SEEDS:
        assert FAMILIES["machine"](seed).values.max() <= 100.0
        counts = FAMILIES["errors"](seed).values
        assert np.array_equal(counts, np.round(counts))
        assert np.median(counts) == 0.0
