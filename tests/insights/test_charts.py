"""What charts carry to the page."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.domain.series import Series
from service.insights import charts
from service.insights.levels import levels
from service.insights.reading import Watched
from service.storage.columns import Columns

KINDS = ((0.5, "level"), (2.0, "level"), (2.5, "spread"))


def columns(t: object, v: object) -> Columns:
    return Columns(np.asarray(t, np.int64), np.asarray(v, np.float64))


def test_a_long_series_is_thinned_and_keeps_its_extremes_and_anomalies() -> None:
    n = 20_000
    t = np.arange(n) * 1000
    v = np.sin(np.arange(n) / 500)
    v[7_777], v[12_345] = 40.0, -30.0
    score = np.full(n, 0.2)
    score[[100, 19_000]] = 0.9995
    watched = Watched(Series.of("x"), columns(t, v), score=columns(t, score))
    chart = charts.draw(watched, now=n, alarming=0.999)
    assert len(chart.t) < 700
    assert {40.0, -30.0} <= set(chart.v)
    assert chart.t[0] == 0
    assert chart.t[-1] == t[-1]
    assert chart.t == sorted(set(chart.t))
    assert [chart.t[i] for i in chart.anomalies] == [100_000, 19_000_000]


def test_what_is_no_number_becomes_null() -> None:
    watched = Watched(Series.of("x"), columns([0, 1, 2], [1.0, math.nan, math.inf]))
    assert charts.draw(watched, 1, alarming=0.999).v == [1.0, None, None]


def test_changes_of_level_that_the_chart_reaches_are_marked() -> None:
    points = [{"at": a, "kind": k, "from": 1.0, "to": 2.0, "strength": 9.0} for a, k in KINDS]
    watched = Watched(Series.of("x"), columns([1000, 2000, 3000], [1.0, 2.0, 2.0]))
    known = levels({"change_points": points})
    chart = charts.draw(watched, 3, alarming=0.999, levels=known)
    assert chart.levels == [2000]
    assert "1\u00a0change of level" in chart.about


def test_a_chart_of_nothing_is_no_error() -> None:
    chart = charts.draw(Watched(Series.of("x"), Columns.empty()), 1, alarming=0.999)
    assert chart.t == chart.v == chart.anomalies == []
    assert chart.about == "X"


def test_the_window_follows_the_step_and_the_age() -> None:
    hour = 3600
    assert charts.past_seconds(300_000, 24) == 24 * hour
    assert charts.past_seconds(10_000, 24) == 2 * hour
    assert charts.past_seconds(3_600_000, 24) == 72 * hour
    assert charts.past_seconds(300_000, 24, age=20 * hour) == 40 * hour
    assert charts.past_seconds(300_000, 24, age=9e9) == 7 * 24 * hour


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), st.floats(-1e12, 1e12) | st.just(math.nan)),
        max_size=60,
        unique_by=lambda point: point[0],
    )
)
def test_a_spark_stays_in_its_box(points: list[tuple[int, float]]) -> None:
    points.sort()
    path = charts.spark(columns([t for t, _ in points], [v for _, v in points]))
    if not path:
        assert sum(math.isfinite(v) for _, v in points) < 2
        return
    for pair in path.removeprefix("M").split(" L"):
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 96
        assert 0 <= y <= 26
