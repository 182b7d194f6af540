"""A rule on forecasts: how likely, how long it stays, how far it sees."""

import time

import numpy as np
import pytest

from service.domain.rules import Condition, Rule
from service.domain.series import FORECAST, FORECAST_LOWER, FORECAST_UPPER, Series
from service.rules.evaluator import Judgement, evaluate
from service.rules.forecasts import looks_further
from service.rules.health import short
from service.storage.columns import Batch, Groups
from service.storage.head import Head
from tests.support.judging import NOW, TENANT, put, rule_on

DISK = Series.of("disk_used_percent", {"host": "a"})


@pytest.fixture
def head() -> Head:
    return Head(4096)


def foretell(
    head: Head, middle: float, width: float, *, steps: int = 24, growth: float = 0
) -> None:
    """An hour a step: `middle` growing by `growth` a step, 90 % within `width`."""
    v = middle + growth * np.arange(steps)
    put(head, DISK, [70.0])
    for suffix, values in (
        (FORECAST, v),
        (FORECAST_LOWER, v - width),
        (FORECAST_UPPER, v + width),
    ):
        put(head, DISK.derived(suffix), values, step=3600, until=NOW + 3600 * steps)


def a_rule(**fields: object) -> Rule:
    given = {"condition": Condition.FORECAST, "threshold": 90.0, **fields}
    return rule_on("disk_used_percent", **given)


def judge(head: Head, rule: Rule, **options: object) -> Judgement:
    (judgement,) = evaluate(rule, TENANT, head, NOW, **options)
    return judgement


def test_it_says_when_and_how_likely(head: Head) -> None:
    foretell(head, 80.0, 6.0, growth=2.0)
    middle = judge(head, a_rule())
    assert middle.active is True
    assert middle.expectation == "reaches 90 in 7h (73 % likely)"
    sure = judge(head, a_rule(probability=0.8))
    assert sure.expectation == "reaches 90 in 8h (88 % likely)"
    assert judge(head, a_rule(probability=0.95)).expectation == "reaches 90 in 9h (96 % likely)"
    soon = a_rule(probability=0.8, horizon_seconds=7 * 3600.0)
    assert judge(head, soon).active is False
    certain = judge(head, a_rule(threshold=70.0))
    assert certain.expectation == "reaches 70 in 1h (over 99 % likely)"
    falling = a_rule(threshold=81.0, operator=Condition.LT, probability=0.4)
    assert judge(head, falling).expectation == "falls to 81 in 1h (61 % likely)"


def test_likely_is_less_than_the_middle(head: Head) -> None:
    foretell(head, 88.0, 6.0)
    assert judge(head, a_rule()).active is False
    assert judge(head, a_rule(probability=0.4)).active is True
    assert judge(head, a_rule(probability=0.8)).active is False


def test_an_alert_that_fires_stays_until_it_is_clearly_less_likely(head: Head) -> None:
    rule = a_rule(probability=0.8)
    foretell(head, 89.5, 6.0)
    assert judge(head, rule).active is False
    kept = judge(head, rule, firing={DISK.hex})
    assert kept.active is True
    assert judge(head, rule, firing={"another"}).active is False
    foretell(head, 87.0, 6.0)
    assert judge(head, rule, firing={DISK.hex}).active is False


def test_without_a_probability_it_stays_by_the_same_share(head: Head) -> None:
    foretell(head, 89.0, 6.0)
    assert judge(head, a_rule()).active is False
    assert judge(head, a_rule(), firing={DISK.hex}).active is True
    foretell(head, 82.0, 6.0)
    assert judge(head, a_rule(), firing={DISK.hex}).active is False


def test_a_rule_that_looks_further_than_models_do_says_so(head: Head) -> None:
    foretell(head, 80.0, 6.0)
    far = judge(head, a_rule(horizon_seconds=48 * 3600.0))
    assert far.note == "it is forecast for 1d, not for 2d"
    told = 'disk_used_percent{host="a"}: it is forecast for 1d, not for 2d'
    assert short([far]) == f"1 series is seen less far than the rule looks: {told}"
    # as old as a forecast may be, it reaches less far
    foretell(head, 80.0, 6.0, steps=18)
    assert judge(head, a_rule(horizon_seconds=24 * 3600.0)).note == ""
    assert short([judge(head, a_rule())]) == ""


def test_rules_that_look_further_are_known_before() -> None:
    rules = [
        a_rule(name="Far", horizon_seconds=86_400.0),
        a_rule(name="Near", horizon_seconds=300.0),
        a_rule(name="All"),
        rule_on("m", Condition.GT, threshold=1.0),
    ]
    (note,) = looks_further(rules, 24)
    assert note == (
        "'Far' looks 1d ahead: a series with a sample more often than every 1h is forecast less "
        "far (24 samples, TREND_FORECAST_HORIZON)"
    )


def test_ten_thousand_forecasts_in_two_seconds(head: Head) -> None:
    many = [Series.of("disk_used_percent", {"host": f"h{i}"}) for i in range(2_000)]
    derived = [s.derived(x) for s in many for x in (FORECAST, FORECAST_LOWER, FORECAST_UPPER)]
    head.add_series(TENANT, {s.id: s for s in (*many, *derived)})
    ids = np.array([s.id for s in many], np.int64)
    at = np.full(len(ids), round(NOW * 1000), np.int64)
    head.extend(TENANT, Groups.of(Batch(ids, at, np.full(len(ids), 70.0)), 60_000))
    ids = np.array([s.id for s in derived], np.int64)
    for step in range(1, 25):
        at = np.full(len(ids), round((NOW + 300 * step) * 1000), np.int64)
        values = np.tile([85.0, 75.0, 95.0], len(many)) + 0.1 * step
        head.extend(TENANT, Groups.of(Batch(ids, at, values), 60_000))
    took = []
    for _ in range(3):
        began = time.process_time()
        found = evaluate(a_rule(probability=0.1), TENANT, head, NOW)
        took.append(time.process_time() - began)
    assert all(judgement.active for judgement in found)
    assert min(took) < 2.0 * len(many) / 10_000
