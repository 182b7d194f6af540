"""Which rules a sample concerns."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.rules import Condition, Rule
from service.domain.series import Series
from service.query.matchers import matches
from service.rules.plans import plan_of
from service.rules.watches import Watches
from tests.support.judging import rule_on

SERIES = [
    Series.of(name, {"host": host, "job": job})
    for name in ("cpu", "disk", "cpu:anomaly_score", "disk:forecast")
    for host in ("a", "b")
    for job in ("x", "y")
]
KNOWN = {series.id: series for series in SERIES}
RULES = [
    rule_on("cpu", Condition.GT, threshold=1.0),
    rule_on('cpu{host="a"}', Condition.GT, threshold=1.0),
    rule_on('cpu{host="b",job=~"x|z"}', Condition.GT, threshold=1.0),
    rule_on('{job="y"}', Condition.LT, threshold=1.0),
    rule_on('{__name__=~"d.*"}', Condition.LT, threshold=1.0),
    rule_on("cpu", Condition.ANOMALY),
    rule_on('disk{host="a"}', Condition.FORECAST, threshold=1.0),
    rule_on("x", Condition.EXPR, expr='sum(cpu{job="x"}) / sum(disk{job="x"}) > 5'),
]


def touched(*ids: int) -> list[Rule]:
    return Watches([plan_of(rule) for rule in RULES]).touched(ids, KNOWN)


@given(st.lists(st.sampled_from(SERIES)))
def test_the_rules_whose_selectors_accept_one_of_the_series(chosen: list[Series]) -> None:
    expected = [
        rule
        for rule in RULES
        if any(matches(s, series) for s in plan_of(rule).watches for series in chosen)
    ]
    assert touched(*(series.id for series in chosen)) == expected


def test_what_models_write_concerns_rules_on_models() -> None:
    score = Series.of("cpu:anomaly_score", {"host": "a", "job": "x"})
    assert touched(score.id) == [RULES[5]]
    forecast = Series.of("disk:forecast", {"host": "a", "job": "x"})
    assert touched(forecast.id) == [RULES[6]]
    assert touched(12345) == []
