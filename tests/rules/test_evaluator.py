"""What each condition says of each series, at each moment."""

import math
import time
from typing import Any

import numpy as np
import pytest

from service.domain.rules import Condition, Rule
from service.domain.series import EXPECTED_LOWER, EXPECTED_UPPER, FORECAST, SCORE, Series
from service.query.selector import parse_selector
from service.rules.evaluator import Judgement, Memory, evaluate
from service.rules.functions import ENDED_SECONDS
from service.rules.selections import SeriesIndex
from service.storage.columns import Batch, Columns, Groups
from service.storage.head import Head
from tests.support.judging import NOW, TENANT, rule_on

CPU = Series.of("cpu", {"host": "a"})


@pytest.fixture
def head() -> Head:
    return Head(4096)


def put(head: Head, series: Series, *points: tuple[float, float], tenant: str = TENANT) -> None:
    """Samples as (seconds before now, value)."""
    head.add_series(tenant, {series.id: series})
    t = np.array([round((NOW - ago) * 1000) for ago, _ in points], np.int64)
    v = np.array([value for _, value in points], np.float64)
    head.put(tenant, series.id, Columns(t, v))


def a_rule(query: str = "cpu", **fields: Any) -> Rule:
    given = {"condition": Condition.GT, "threshold": 90.0, "name": "Busy", **fields}
    return rule_on(query, **given)


def judge(head: Head, rule: Rule, **options: Any) -> Judgement:
    (judgement,) = evaluate(rule, TENANT, head, NOW, **options)
    return judgement


@pytest.mark.parametrize(
    ("condition", "below", "same", "above", "said"),
    [
        (Condition.GT, False, False, True, "above 90"),
        (Condition.GTE, False, True, True, "at or above 90"),
        (Condition.LT, True, False, False, "below 90"),
        (Condition.LTE, True, True, False, "at or below 90"),
        (Condition.EQ, False, True, False, "equal to 90"),
        (Condition.NE, True, False, True, "not 90"),
    ],
)
def test_comparisons(
    head: Head, condition: Condition, below: bool, same: bool, above: bool, said: str
) -> None:
    rule = a_rule(condition=condition)
    for value, expected in ((89.0, below), (90.0, same), (91.0, above), (math.nan, False)):
        head.drop(TENANT)
        put(head, CPU, (10, value))
        found = judge(head, rule)
        assert (found.active, found.expectation) == (expected, said if expected else "")
        assert found.value == (None if math.isnan(value) else value)


def test_labels_are_the_series_the_rules_and_its_name(head: Head) -> None:
    put(head, CPU, (10, 95.0))
    found = judge(head, a_rule(labels={"team": "web", "host": "renamed"}))
    assert found.labels == {
        "__name__": "cpu",
        "host": "renamed",
        "team": "web",
        "alertname": "Busy",
    }
    assert found.series == CPU


def test_an_old_value_is_none(head: Head) -> None:
    put(head, CPU, (299, 95.0))
    assert judge(head, a_rule()).active is True
    assert judge(head, a_rule(), lookback_seconds=299.0).active is None


def test_a_value_of_the_future_is_not_judged(head: Head) -> None:
    put(head, CPU, (10, 1.0), (-60, 95.0))
    assert judge(head, a_rule()).active is False


def test_an_infinite_value_matches_and_has_no_number(head: Head) -> None:
    put(head, CPU, (10, math.inf))
    found = judge(head, a_rule())
    assert (found.active, found.value) == (True, None)


def test_only_the_tenants_own_series_that_match(head: Head) -> None:
    put(head, CPU, (10, 95.0))
    put(head, Series.of("cpu", {"host": "b"}), (10, 1.0))
    put(head, Series.of("cpu_idle", {"host": "a"}), (10, 95.0))
    put(head, Series.of("cpu", {"host": "c"}), (10, 95.0), tenant="other")
    found = {j.series.label("host"): j.active for j in evaluate(a_rule(), TENANT, head, NOW)}
    assert found == {"a": True, "b": False}
    assert judge(head, a_rule('cpu{host=~"b|x"}')).series.label("host") == "b"
    assert evaluate(a_rule(), "nobody", head, NOW) == []
    assert evaluate(a_rule(enabled=False), TENANT, head, NOW) == []


def test_what_models_wrote_is_judged_only_by_name(head: Head) -> None:
    put(head, CPU, (10, 1.0))
    put(head, CPU.derived(SCORE), (10, 0.99))
    assert [j.series for j in evaluate(a_rule('{host="a"}'), TENANT, head, NOW)] == [CPU]
    assert [j.series for j in evaluate(a_rule('{__name__=~"cpu.*"}'), TENANT, head, NOW)] == [CPU]
    named = judge(head, a_rule("cpu:anomaly_score", threshold=0.9))
    assert (named.series.name, named.active) == ("cpu:anomaly_score", True)


def test_an_anomaly_is_a_high_score(head: Head) -> None:
    rule = a_rule(condition=Condition.ANOMALY, threshold=None)
    put(head, CPU, (70, 15.0), (10, 42.0))
    assert judge(head, rule).active is None  # nothing is learned yet
    put(head, CPU.derived(SCORE), (70, 0.9995))
    found = judge(head, rule)
    assert (found.active, found.value) == (True, 15.0)
    assert found.expectation == "unlike its past (anomaly score 0.9995)"
    put(head, CPU.derived(EXPECTED_LOWER), (70, 12.0))
    put(head, CPU.derived(EXPECTED_UPPER), (70, 18.75))
    assert judge(head, rule).expectation == "expected 12 to 18.75"
    assert judge(head, rule, anomaly_threshold=0.9999).active is False
    put(head, CPU.derived(SCORE), (10, 0.5))
    calm = judge(head, rule)
    assert (calm.active, calm.value, calm.expectation) == (False, 42.0, "")
    assert judge(head, a_rule(condition=Condition.ANOMALY, threshold=0.4)).active is True
    assert judge(head, rule, lookback_seconds=5.0).active is None


def test_a_score_that_is_no_number_is_no_anomaly(head: Head) -> None:
    put(head, CPU, (10, 42.0))
    put(head, CPU.derived(SCORE), (10, math.nan))
    assert judge(head, a_rule(condition=Condition.ANOMALY, threshold=None)).active is False


def test_a_forecast_that_crosses(head: Head) -> None:
    rule = a_rule(condition=Condition.FORECAST)
    put(head, CPU, (10, 70.0))
    assert judge(head, rule).active is None
    ahead = [(-3600.0 * h, 70.0 + 10 * h) for h in range(1, 7)]
    put(head, CPU.derived(FORECAST), (3600, 99.0), *ahead)
    found = judge(head, rule)
    assert (found.active, found.value, found.expectation) == (True, 70.0, "reaches 90 in 3h")
    at = judge(head, a_rule(condition=Condition.FORECAST, operator=Condition.GTE))
    assert at.expectation == "reaches 90 in 2h"
    near = a_rule(condition=Condition.FORECAST, horizon_seconds=2 * 3600.0)
    assert judge(head, near).active is False
    falling = a_rule(condition=Condition.FORECAST, operator=Condition.LT, threshold=85.0)
    assert judge(head, falling).expectation == "falls to 85 in 1h"
    assert judge(head, rule, lookback_seconds=5.0).active is None  # the series itself is silent


def test_no_data(head: Head) -> None:
    rule = a_rule(condition=Condition.NO_DATA, threshold=None, window_seconds=600.0)
    head.add_series(TENANT, {CPU.id: CPU})
    assert judge(head, rule).active is None  # never seen
    put(head, CPU, (600, 5.0))
    fresh = judge(head, rule)
    assert (fresh.active, fresh.value) == (False, 5.0)
    (silent,) = evaluate(rule, TENANT, head, NOW + 300)
    assert (silent.active, silent.value) == (True, None)
    assert silent.expectation == "no data for 15m"
    (ended,) = evaluate(rule, TENANT, head, NOW + ENDED_SECONDS)
    assert ended.active is None


def test_an_index_sees_new_series(head: Head) -> None:
    memory = Memory()
    put(head, CPU, (10, 95.0))
    assert len(evaluate(a_rule(), TENANT, head, NOW, memory=memory)) == 1
    put(head, Series.of("cpu", {"host": "b"}), (10, 95.0))
    assert len(evaluate(a_rule(), TENANT, head, NOW, memory=memory)) == 2
    head.drop(TENANT)
    put(head, CPU, (10, 95.0))
    put(head, Series.of("cpu", {"host": "c"}), (10, 95.0))
    found = evaluate(a_rule(), TENANT, head, NOW, memory=memory)
    assert sorted(j.series.label("host") for j in found) == ["a", "c"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"condition": Condition.ANOMALY, "threshold": None},
        {"condition": Condition.ANOMALY, "threshold": None, "alert_budget": 2.0},
        {"condition": Condition.NO_DATA, "threshold": None},
    ],
)
def test_ten_thousand_series_in_a_second(head: Head, fields: dict[str, Any]) -> None:
    many = [Series.of("cpu", {"host": f"h{i}"}) for i in range(10_000)]
    everything = [*many, *(s.derived(SCORE) for s in many)]
    head.add_series(TENANT, {s.id: s for s in everything})
    ids = np.array([s.id for s in everything], np.int64)
    for ago in (20, 10):
        at = np.full(len(ids), round((NOW - ago) * 1000), np.int64)
        head.extend(TENANT, Groups.of(Batch(ids, at, np.full(len(ids), 0.5)), 60_000))
    memory = Memory()
    evaluate(a_rule(**fields), TENANT, head, NOW, memory=memory)
    took = []
    for _ in range(3):
        began = time.process_time()
        assert len(evaluate(a_rule(**fields), TENANT, head, NOW, memory=memory)) == 10_000
        took.append(time.process_time() - began)
    assert min(took) < 1.0


def test_series_that_come_and_go_are_selected_as_without_a_memory() -> None:
    index, names = SeriesIndex(), ("cpu", "memory", "cpu:anomaly_score", "disk")
    every = [Series.of(name, {"host": f"h{n}"}) for n in range(6) for name in names]
    selectors = [
        parse_selector(text)
        for text in (
            "cpu",
            '{host="h1"}',
            '{__name__=~"cpu.*"}',
            "cpu:anomaly_score",
            "disk",
        )
    ]
    known: dict[int, Series] = {}
    for step in range(12):
        known = {**known, **{s.id: s for s in every[2 * step : 2 * step + 2]}}
        if step in (5, 9):  # some are deleted
            known = {i: s for i, s in known.items() if s.label("host") != f"h{step % 3}"}
        for selector in selectors[: 2 + step]:  # some are asked for later than others
            fresh = SeriesIndex().select("acme", known, selector)
            assert index.select("acme", known, selector) == fresh


def test_what_is_well_may_be_left_out(head: Head) -> None:
    put(head, CPU, (10, 95.0))
    put(head, Series.of("cpu", {"host": "b"}), (10, 1.0))
    both = evaluate(a_rule(), TENANT, head, NOW)
    assert [j.active for j in both] == [True, False]
    assert evaluate(a_rule(), TENANT, head, NOW, well_too=False) == both[:1]
