"""What people said of alerts moves the threshold of anomaly rules, for each series by itself."""

from typing import Any

import numpy as np
import pytest

from service.domain.rules import Condition, Rule
from service.domain.series import ALERT, SCORE, Series
from service.rules.evaluator import evaluate
from service.storage.head import Head
from tests.support.judging import NOW, TENANT, put, rule_on

A, B = (Series.of("cpu", {"host": host}) for host in "ab")
ROWS_A_WEEK = 7 * 24 * 60


def rule(**fields: Any) -> Rule:
    return rule_on("cpu", **{"condition": Condition.ANOMALY, **fields})


def head_with(score: float, alert: float = 0.0) -> Head:
    head = Head(4096)
    for one in (A, B):
        scores, alerts = np.full(60, 0.5), np.zeros(60)
        scores[-1], alerts[-1] = score, alert
        told = {one: np.full(60, 58.0), one.derived(SCORE): scores, one.derived(ALERT): alerts}
        for series, values in told.items():
            put(head, series, values)
    return head


def active(head: Head, rule: Rule, **factors: float) -> dict[str, bool | None]:
    by_series = {{"a": A, "b": B}[host].hex: factor for host, factor in factors.items()}
    found = evaluate(rule, TENANT, head, NOW, factors=by_series)
    return {judgement.series.label("host"): judgement.active for judgement in found}


@pytest.mark.parametrize("threshold", [None, 0.999])
def test_noise_raises_the_threshold_of_its_series_only(threshold: float | None) -> None:
    head = head_with(0.9993)
    asked = rule(threshold=threshold)
    assert active(head, asked) == {"a": True, "b": True}
    assert active(head, asked, a=0.5) == {"a": False, "b": True}
    assert active(head_with(0.9996), asked, a=0.5) == {"a": True, "b": True}


def test_useful_lowers_it() -> None:
    assert active(head_with(0.9987), rule(), a=1.5) == {"a": True, "b": False}


def test_what_a_budget_allows_moves_too() -> None:
    a_week = 2 * ROWS_A_WEEK  # of both series
    head = head_with(0.999, alert=1 - 1.5 / a_week)
    assert active(head, rule(alert_budget=2.0)) == {"a": True, "b": True}
    assert active(head, rule(alert_budget=2.0), a=0.5) == {"a": False, "b": True}
    assert active(head, rule(alert_budget=1.0)) == {"a": False, "b": False}
    assert active(head, rule(alert_budget=1.0), b=2.0) == {"a": False, "b": True}


def test_other_conditions_are_as_they_are_written() -> None:
    asked = rule(condition=Condition.GT, threshold=50.0)
    assert active(head_with(0.5), asked, a=1 / 16) == {"a": True, "b": True}
