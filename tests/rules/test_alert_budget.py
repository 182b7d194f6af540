"""Rules that spend a budget of alerts, and series of which too little is known to alert anybody."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.budgets import format_budget, parse_budget
from service.domain.confidence import PAGES_FROM, of_cold, of_model
from service.domain.rules import Condition, Rule
from service.domain.series import (
    ALERT,
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    SCORE,
    Series,
)
from service.rules.evaluator import Judgement, Memory, evaluate
from service.rules.health import held
from service.storage.columns import Columns
from service.storage.head import Head
from tests.support.judging import NOW, TENANT, put, rule_on

MINUTE = 60.0
ROWS_A_WEEK = 7 * 24 * 60
CPU = [Series.of("cpu", {"host": f"h{i}"}) for i in range(14)]


def rule(budget: float | None = 2.0, threshold: float | None = None) -> Rule:
    return rule_on("cpu", Condition.ANOMALY, threshold=threshold, alert_budget=budget)


class Told:
    """A head with minutely series, of which the models say what a test wants."""

    def __init__(self, rows: int = 60, series: int = 1) -> None:
        self.head = Head(4096)
        self.rows, self.names = rows, CPU[:series]
        for one in self.names:
            self.put(one, np.full(rows, 58.0))
            self.put(one.derived(SCORE), np.full(rows, 0.5))

    def put(self, series: Series, values: Any, ago: int = 0) -> None:
        """Minutely values, the last `ago` minutes before now."""
        put(self.head, series, values, until=NOW - ago * MINUTE)

    def speak(self, alert: float, ago: int, scores: Any = (), series: Series = CPU[0]) -> None:
        """An anomaly begins so many minutes ago, with these scores from then on."""
        self.put(series.derived(ALERT), [alert], ago)
        if len(scores):
            self.put(series.derived(SCORE), scores, ago - len(scores) + 1)

    def judge(self, rule: Rule, **options: Any) -> Judgement:
        found = {j.series: j for j in evaluate(rule, TENANT, self.head, NOW, **options)}
        assert list(found) == self.names
        return found[CPU[0]]


@pytest.mark.parametrize("series", [1, 14])
def test_the_budget_is_shared_by_all_series(series: int) -> None:
    rarest = 1 - 2 / (ROWS_A_WEEK * series)
    for alert, active in ((rarest - 1e-7, False), (rarest + 1e-7, True)):
        told = Told(series=series)
        told.speak(alert, 0, [0.999])
        assert told.judge(rule()).active is active


def test_a_slower_series_has_fewer_rows_to_spend_it_on() -> None:
    told = Told()
    slow = np.arange(0, 60, 10)
    t = np.round((NOW - 60 * slow[::-1]) * 1000).astype(np.int64)
    told.head.drop(TENANT)
    for one, value in ((CPU[0], 1.0), (CPU[0].derived(SCORE), 0.9999)):
        told.head.add_series(TENANT, {one.id: one})
        told.head.put(TENANT, one.id, Columns(t, np.full(len(t), value)))
    told.speak(1 - 2.1 / (ROWS_A_WEEK / 10), 0)
    assert told.judge(rule()).active is False
    told.speak(1 - 1.9 / (ROWS_A_WEEK / 10), 0)
    assert told.judge(rule()).active is True


def test_silent_series_and_those_of_one_sample_do_not_count() -> None:
    told = Told(series=3)
    told.head.remove(TENANT, [CPU[1].id, CPU[2].id])
    told.put(CPU[1], np.ones(60), ago=25 * 60)  # since yesterday
    told.put(CPU[2], [1.0])
    told.names = [CPU[0], CPU[1], CPU[2]]
    told.speak(1 - 1.9 / ROWS_A_WEEK, 0, [0.999])
    found = told.judge(rule())
    assert found.active is True
    assert "over 1 series" in found.expectation


def test_nothing_speaks_before_the_step_is_known() -> None:
    told = Told(rows=2)
    told.speak(0.9999999, 0, [0.9999])
    assert told.judge(rule()).active is False


@pytest.mark.parametrize(
    ("scores", "active"),
    [
        ([0.9999], True),
        ([0.9999, 0.5, 0.5, 0.5], True),
        # calm for less than five rows in a row
        ([0.9999, *[0.5, 0.5, 0.5, 0.5, 0.995] * 4], True),
        ([0.9999, *[0.995] * 25], True),
        # for five rows, and five minutes between the first and the last of them
        ([0.9999, *[0.5] * 5], True),
        ([0.9999, *[0.5] * 6], False),
        # it was over, and what came later never spoke
        ([0.9999, *[0.5] * 6, 0.9999, 0.9999], False),
        ([0.2, *[0.5] * 6], False),
    ],
)
def test_an_anomaly_lasts_until_the_series_is_calm(scores: list[float], active: bool) -> None:
    told = Told()
    told.speak(0.9999999, len(scores) - 1, scores)
    assert told.judge(rule()).active is active


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ([107.0, *[58.0] * 5], True),  # not for five minutes yet
        ([107.0, *[58.0] * 6], False),  # back, though its score remembers
        ([107.0, *[58.0, 58.0, 58.0, 80.0] * 3], True),
        ([107.0, *[np.nan] * 7], True),
        ([58.0, *[58.0] * 7], True),  # it never left its range: it is odd in another way
    ],
)
def test_what_left_its_range_is_over_when_it_is_back(values: list[float], active: bool) -> None:
    told, n = Told(), len(values)
    told.put(CPU[0], values)
    told.put(CPU[0].derived(EXPECTED_LOWER), np.full(n, 52.0))
    told.put(CPU[0].derived(EXPECTED_UPPER), np.full(n, 64.0))
    told.speak(0.9999999, n - 1, np.full(n, 0.9999))
    assert told.judge(rule()).active is active


def test_a_worse_one_later_speaks_again() -> None:
    told = Told()
    told.speak(0.9999, 30, [0.9999, *[0.5] * 30])
    assert told.judge(rule()).active is False
    told.speak(0.99999, 2, [0.9999, 0.9999, 0.9999])
    assert told.judge(rule()).active is True


def test_it_says_how_rare_it_is_and_what_was_seen() -> None:
    told = Told(series=14)
    told.put(CPU[0], [107.0, 60.0], ago=0)
    for suffix, value in ((EXPECTED, 58.0), (EXPECTED_LOWER, 52.0), (EXPECTED_UPPER, 64.0)):
        told.put(CPU[0].derived(suffix), np.full(5, value))
    told.speak(1 - 2 / (ROWS_A_WEEK * 14), 1, [0.9999, 0.999])
    found = told.judge(rule(budget=3.0))
    assert found.value == 60.0
    assert found.expectation == (
        "unlike its past, as happens about 2 times a week over 14 series; "
        "seen 107, expected 58 (52 to 64)"
    )


@pytest.mark.parametrize(
    ("a_week", "said"),
    [
        (1.0, "about once a week"),
        (0.3, "about once a month"),
        (0.05, "about 3 times a year"),
        (1e-6, "less than once a year"),
    ],
)
def test_rare_ones_are_said_in_longer_periods(a_week: float, said: str) -> None:
    told = Told()
    told.speak(1 - a_week / ROWS_A_WEEK, 0, [0.9999])
    assert f"as happens {said} over 1 series" in told.judge(rule()).expectation


def test_an_old_score_says_nothing() -> None:
    told = Told()
    told.speak(0.9999999, 10, [0.9999] * 11)
    late = evaluate(rule(), TENANT, told.head, NOW + 600, lookback_seconds=300.0)
    assert [j.active for j in late] == [None]


@pytest.mark.parametrize("budget", [2.0, None])
@pytest.mark.parametrize(
    ("sure", "active"),
    [({CPU[0].id: PAGES_FROM}, True), ({CPU[0].id: 0.49}, None), ({}, None), (None, True)],
)
def test_low_confidence_is_shown_and_alerts_nobody(
    budget: float | None, sure: Mapping[int, float] | None, active: bool | None
) -> None:
    told = Told()
    told.speak(0.9999999, 0, [0.9999])
    found = told.judge(rule(budget), confidence=sure)
    assert found.active is active
    if active is None:
        assert "too little is known of it" in found.held
        assert found.expectation == ""
        assert held([found]) == (
            '1 series is unlike its past and opens no alert: cpu{host="h0"}: ' + found.held
        )
    else:
        assert (found.held, held([found])) == ("", "")


def test_what_is_calm_is_not_held_and_has_no_share_of_the_budget() -> None:
    told = Told(series=2)
    told.speak(1 - 1.5 / ROWS_A_WEEK, 0, [0.9999])
    sure = {CPU[0].id: 0.9}
    assert told.judge(rule(), confidence=sure).active is True
    (_, other) = evaluate(rule(), TENANT, told.head, NOW, confidence=sure)
    assert (other.active, other.held) == (False, "")


def test_of_a_series_that_comes_twice_a_day_older_samples_tell_its_step() -> None:
    told = Told()
    told.head.drop(TENANT)
    for one, value in ((CPU[0], 1.0), (CPU[0].derived(SCORE), 0.9999)):
        put(told.head, one, np.full(6, value), step=12 * 3600.0)
    for times_a_week, active in ((2.1, False), (1.9, True)):
        told.speak(1 - times_a_week / 14, 0)
        assert told.judge(rule()).active is active


def test_what_comes_in_is_remembered_until_a_tenant_goes() -> None:
    told, memory = Told(), Memory()
    told.speak(1 - 1.9 / ROWS_A_WEEK, 0, [0.9999])
    assert told.judge(rule(), memory=memory).active is True
    t = np.round((NOW - np.arange(60)[::-1]) * 1000).astype(np.int64)
    told.head.put(TENANT, CPU[0].id, Columns(t, np.ones(60)))  # every second from now on
    assert told.judge(rule(), memory=memory).active is True
    memory.forget(TENANT)
    assert told.judge(rule(), memory=memory).active is False


def test_confidence_grows_with_rows_and_falls_with_misses() -> None:
    assert of_cold(0, peers=False) == of_cold(0, peers=True) == 0
    assert of_cold(30, peers=False) < of_cold(30, peers=True) < of_cold(10**6, peers=True)
    assert of_cold(10**6, peers=True) < PAGES_FROM
    assert PAGES_FROM < of_model(288, 0.985) < of_model(4000, 0.985) < of_model(10**6, 1.0) <= 1
    assert of_model(4000, 0.8) < PAGES_FROM < of_model(4000, 0.9)
    assert of_model(4000, 0.0) == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2/week", "2/week"),
        ("2 per WEEK", "2/week"),
        ("1/day", "7/week"),
        ("5/month", "5/month"),
        ("12/hour", "12/hour"),
        ("0.5/week", "0.5/week"),
    ],
)
def test_a_budget_is_written_as_people_write_it(text: str, shown: str) -> None:
    assert format_budget(parse_budget(text)) == shown


@given(st.floats(1e-7, 10_080.0))
def test_every_budget_is_read_back(a_week: float) -> None:
    assert parse_budget(format_budget(a_week)) == a_week
