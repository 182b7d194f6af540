"""Which series have forecasters asked that take long."""

import pytest

from service.detection.records import ModelRecord, ModelState
from service.detection.thorough import EARNED, EVERY, asked, share
from service.domain.rules import Condition, Rule, Severity
from service.domain.series import Series
from service.query.selector import parse_selector
from service.rules.rewriting import looked_ahead_at

DISK = Series.of("disk_used", {"host": "a"})
FORESEEN = [parse_selector("queue"), parse_selector('disk_used{host="a"}')]


def record(version: int, **quality: float) -> ModelRecord:
    return ModelRecord("acme", DISK.hex, ModelState.READY, version=version, quality=quality)


@pytest.mark.parametrize(
    ("version", "quality", "wanted"),
    [
        (0, {}, True),  # nobody has tried
        (1, {"thorough": EARNED}, True),  # they earned it
        (1, {"thorough": EARNED / 2}, False),  # they did not
        (3, {}, False),
        (EVERY, {}, True),  # tried again
    ],
)
def test_they_are_asked_where_they_earn_it_and_now_and_then(version, quality, wanted):
    assert asked(DISK, record(version, **quality), FORESEEN) is wanted
    assert not asked(Series.of("disk_used", {"host": "b"}), record(version, **quality), FORESEEN)


def test_rules_that_judge_forecasts_look_ahead():
    def rule(name: str, condition: Condition, enabled: bool = True) -> Rule:
        query = parse_selector(name)
        return Rule(name, None, name, query, condition, 1.0, Severity.HIGH, enabled=enabled)

    rules = [
        rule("disk_used", Condition.FORECAST),
        rule("cpu", Condition.GT),
        rule("queue", Condition.FORECAST, enabled=False),
    ]
    assert looked_ahead_at(rules) == [parse_selector("disk_used")]


def test_their_share_is_that_of_members_that_take_long():
    assert share({"theta": 0.25, "ridge": 0.5, "forest": 0.25}) == 0.5
