"""The simple form as PromQL: what it becomes, and that nothing changes by it."""

import math
import operator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.rules import Condition, Rule
from service.domain.series import NO_SERIES, Series
from service.query.promql.parse import parse
from service.query.selector import parse_selector
from service.rules.evaluator import evaluate
from service.rules.rewriting import expr_of
from service.storage.columns import Columns
from service.storage.head import Head
from tests.support.judging import NOW, TENANT, rule_on


@pytest.mark.parametrize(
    ("query", "fields", "expr"),
    [
        ("cpu", {"condition": Condition.GT, "threshold": 90.0}, "cpu > 90"),
        ("cpu", {"condition": Condition.GTE, "threshold": 0.05}, "cpu >= 0.05"),
        ('cpu{host="a"}', {"condition": Condition.LT, "threshold": -1e300}, None),
        ("cpu", {"condition": Condition.EQ, "threshold": 1e16}, "cpu == 1e+16"),
        ("cpu", {"condition": Condition.NE, "threshold": 1.0}, "(cpu >= -Inf) != 1"),
        ("a:b", {"condition": Condition.LTE, "threshold": 1.0}, "a:b <= 1"),
        ("cpu", {"condition": Condition.ANOMALY}, "anomalous(cpu)"),
        ("cpu", {"condition": Condition.ANOMALY, "threshold": 0.99}, "anomalous(cpu, 0.99)"),
        ("cpu", {"condition": Condition.ANOMALY, "alert_budget": 2.0}, "over_budget(cpu, 2)"),
        (
            "disk",
            {"condition": Condition.FORECAST, "threshold": 95.0, "operator": Condition.GTE},
            'will_cross(disk, ">=", 95)',
        ),
        (
            "disk",
            {"condition": Condition.FORECAST, "threshold": 95.0, "probability": 0.8},
            'will_cross(disk, ">", 95, +Inf, 0.8)',
        ),
        (
            "disk",
            {"condition": Condition.FORECAST, "threshold": 5.0, "horizon_seconds": 86400.0},
            'will_cross(disk, ">", 5, 86400)',
        ),
        (
            "cpu",
            {"condition": Condition.CHANGE, "window_seconds": 3600.0},
            "level_changed(cpu, 3600)",
        ),
        (
            "cpu",
            {"condition": Condition.PEERS, "window_seconds": 1800.0, "peers_by": ("job", "az")},
            'unlike_peers(cpu, 1800, 0, "job", "az")',
        ),
        ("up", {"condition": Condition.NO_DATA, "window_seconds": 900.0}, "silent(up, 900)"),
    ],
)
def test_what_a_rule_becomes(query: str, fields: dict[str, Any], expr: str | None) -> None:
    found = expr_of(rule_on(query, **fields))
    parse(found)
    assert expr is None or found == expr


def test_what_models_wrote_is_left_out_unless_named() -> None:
    found = expr_of(rule_on('{job="a\\nb"}', condition=Condition.GT, threshold=1.0))
    assert found.startswith('{job="a\\nb",__name__!~".*(:anomaly_score|')
    assert found.endswith('"} > 1')


COMPARE = {
    Condition.GT: operator.gt,
    Condition.GTE: operator.ge,
    Condition.LT: operator.lt,
    Condition.LTE: operator.le,
    Condition.EQ: operator.eq,
    Condition.NE: lambda value, threshold: value < threshold or value > threshold,
}
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 90.0, math.inf, -math.inf, math.nan]), st.floats()
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.floats(-30.0, 900.0)), min_size=1, max_size=6),
    st.sampled_from(list(COMPARE)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
def test_a_comparison_says_what_it_always_said(
    samples: list[tuple[float, float]], condition: Condition, threshold: float, near: bool
) -> None:
    """Each series' newest value that is not too old is compared; NaN matches nothing."""
    if near:
        threshold = samples[0][0] if math.isfinite(samples[0][0]) else 0.0
    head, expected = Head(64), {}
    for number, (value, ago) in enumerate(samples):
        series = Series.of("cpu" if number % 2 else "memory", {"host": f"h{number // 2}"})
        t = round((NOW - ago) * 1000)
        head.add_series(TENANT, {series.id: series})
        head.put(TENANT, series.id, Columns(np.array([t]), np.array([value])))
        age = round(NOW * 1000) - t
        young = 0 <= age < 300_000
        expected[series] = COMPARE[condition](value, threshold) if young else None
    rule = rule_on('{host=~".+"}', condition, threshold=threshold)
    assert {j.series: j.active for j in evaluate(rule, TENANT, head, NOW)} == expected
    assert evaluate(rule, TENANT, head, NOW) == evaluate(as_expression(rule), TENANT, head, NOW)


def as_expression(rule: Rule) -> Rule:
    return replace(rule, condition=Condition.EXPR, expr=expr_of(rule), query=NO_SERIES)


def test_an_expression_over_many_series_has_an_alert_for_each_answer() -> None:
    head = Head(64)
    for host, job, value in (("a", "x", 3.0), ("b", "x", 4.0), ("c", "y", 1.0)):
        series = Series.of("load", {"host": host, "job": job})
        head.add_series(TENANT, {series.id: series})
        t = np.array([round(NOW * 1000)])
        head.put(TENANT, series.id, Columns(t, np.array([value])))
    rule = rule_on("load", Condition.EXPR, expr="sum by (job) (load) > 5", labels={"team": "web"})
    (found,) = evaluate(rule, TENANT, head, NOW)
    assert (found.active, found.value, found.expectation) == (True, 7.0, "above 5")
    assert found.labels == {"job": "x", "team": "web", "alertname": "Odd"}
    assert found.course is not None
    assert found.course.v.tolist() == [7.0]
    (again,) = evaluate(rule, TENANT, head, NOW, firing={found.series.hex})
    assert again.course is None
    rule = replace(rule, expr="sum by (job) (load) > on () group_left () avg(load)")
    said = {j.series.label("job"): j.expectation for j in evaluate(rule, TENANT, head, NOW)}
    assert said == {"x": "which meets sum by (job) (load) > on () group_left () avg(load)"}


def test_the_selectors_of_an_expression_choose_as_prometheus_does() -> None:
    """Unlike a simple form, it sees what models wrote where its matchers accept it."""
    head = Head(64)
    for name in ("cpu", "cpu:anomaly_score"):
        series = Series.of(name, {})
        head.add_series(TENANT, {series.id: series})
        head.put(TENANT, series.id, Columns(np.array([round(NOW * 1000)]), np.array([1.0])))
    plain = rule_on('{__name__=~"cpu.*"}', Condition.GT, threshold=0.0)
    free = replace(plain, condition=Condition.EXPR, expr='{__name__=~"cpu.*"} > 0')
    assert [j.series.name for j in evaluate(plain, TENANT, head, NOW)] == ["cpu"]
    assert len(evaluate(free, TENANT, head, NOW)) == 2
    assert parse_selector("cpu").name == "cpu"


COUNTED = '{{ $labels.host }} of {{ query "count(load)" | first | value }}: {{ $value }}'


def test_labels_and_annotations_are_templates() -> None:
    head = Head(64)
    for host, value in (("a", 3.0), ("b", 40.0)):
        series = Series.of("load", {"host": host})
        head.add_series(TENANT, {series.id: series})
        t = np.array([round(NOW * 1000)])
        head.put(TENANT, series.id, Columns(t, np.array([value])))
    rule = rule_on(
        "load",
        Condition.GT,
        threshold=1.0,
        labels={"size": "{{ if gt $value 10.0 }}large{{ else }}small{{ end }}"},
        annotations={
            "summary": COUNTED,
            "where": "{{ externalURL }}",
            "wrong": "{{ nonsense }}",
        },
    )
    small, large = evaluate(rule, TENANT, head, NOW, public_url="https://offbeat.test")
    assert (small.labels["size"], large.labels["size"]) == ("small", "large")
    assert small.annotations["summary"] == "a of 2: 3"
    assert small.annotations["where"] == "https://offbeat.test"
    assert small.annotations["wrong"].startswith("<error expanding template: ")
    again = evaluate(rule, TENANT, head, NOW, firing={small.series.hex})
    assert [bool("a of 2" in j.annotations["summary"]) for j in again] == [False, False]
    assert again[1].annotations["summary"] == "b of 2: 40"
