"""scikit-learn is the oracle of average precision; events are counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models.evaluation import (
    Found,
    alerts_a_week,
    anomalies,
    average_precision,
    find,
    judged_from,
    mean_average_precision,
    pooled_average_precision,
    together,
)

HOUR_MS = 3_600_000


def flags(text: str):
    return np.array([mark == "#" for mark in text])


def ranked(seed: int, digits: int):
    rng = np.random.default_rng(seed)
    labels = rng.random(400) < 0.1
    return labels, np.round(rng.normal(size=400) + labels, digits)


@pytest.mark.parametrize("digits", [0, 1, 8])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_the_reference(seed, digits):
    labels, scores = ranked(seed, digits)
    assert average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores)
    )


def test_extremes_of_average_precision():
    labels = flags("..#..#....")
    assert average_precision(labels, labels * 1.0) == 1.0
    assert average_precision(labels, np.zeros(10)) == pytest.approx(0.2)
    assert np.isnan(average_precision(np.zeros(10, bool), np.arange(10.0)))


def test_pooled_ranks_all_rows_together_and_the_mean_takes_series_alike():
    one, two = ranked(1, 3), ranked(2, 3)
    nothing = (np.zeros(9, bool), np.zeros(9))
    both = [np.concatenate(pair) for pair in zip(one, two, nothing, strict=True)]
    assert pooled_average_precision([one, two, nothing]) == average_precision(*both)
    assert mean_average_precision([one, two, nothing]) == pytest.approx(
        (average_precision(*one) + average_precision(*two)) / 2
    )
    assert np.isnan(mean_average_precision([nothing]))


def test_anomalies_reach_to_the_edges():
    assert anomalies(flags("##..###.#")) == [(0, 2), (4, 7), (8, 9)]
    assert anomalies(flags("....")) == []
    assert anomalies(flags("####")) == [(0, 4)]


def test_an_anomaly_is_found_once_and_every_other_alert_is_false():
    labels = flags("...####...##..#.")
    alerts = flags(".#...##.....#.#.")
    found = find(labels, alerts)
    assert found == Found(total=3, hits=2, false=2, delays=(2, 0))
    assert found.precision == 0.5
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(4 / 7)
    assert found.delay == 1.0


def test_silence_finds_nothing_and_divides_by_nothing():
    found = find(flags("....#..."), flags("........"))
    assert (found.precision, found.recall, found.f1) == (0.0, 0.0, 0.0)
    assert np.isnan(found.delay)
    assert find(flags("...."), flags("....")).f1 == 0.0


def test_series_add_up():
    parts = [Found(2, 1, 3, (4,)), Found(1, 1, 0, (0,))]
    assert together(parts) == Found(3, 2, 3, (4, 0))
    assert together([]) == Found(0, 0, 0)


def test_alerts_a_week_count_normal_rows_alone():
    labels = flags("#" * 168 + "." * 336)
    alerts = np.zeros(504, bool)
    alerts[[3, 200, 400, 500]] = True
    assert alerts_a_week(alerts, labels, HOUR_MS) == pytest.approx(1.5)
    assert np.isnan(alerts_a_week(alerts, np.ones(504, bool), HOUR_MS))


def test_long_series_are_judged_after_750_rows():
    assert judged_from(1000) == 150
    assert judged_from(100_000) == 750
    assert judged_from(0) == 0
