"""A rule that compares the members of a group, over a worker's memory."""

import struct
import time
from typing import Any

import numpy as np
import pytest

from service.domain.rules import Condition, Rule
from service.domain.series import MetricType, Series
from service.rules.evaluator import Judgement, Memory, evaluate
from service.rules.sight import STALE_MARKER
from service.storage.head import Head
from tests.support.judging import NOW, TENANT, put, rule_on

REGIONS = ("ap-south", "eu-north", "eu-west", "sa-east", "us-east", "us-west")
USUAL = (0.02, 0.03, 0.04, 0.025, 0.05, 0.03)
ROWS = 300


def values(level: float, seed: int = 0, rows: int = ROWS) -> np.ndarray:
    return level * (1 + 0.05 * np.random.default_rng(seed).normal(size=rows))


def region(name: str, **labels: str) -> Series:
    return Series.of("error_rate", {"region": name, **labels})


def a_rule(query: str = "error_rate", **fields: Any) -> Rule:
    return rule_on(query, Condition.PEERS, **{"window_seconds": 1800.0, **fields})


def judged(head: Head, rule: Rule | None = None, at: float = NOW) -> dict[str, Judgement]:
    found = evaluate(rule or a_rule(), TENANT, head, at, memory=Memory())
    return {judgement.series.label("region"): judgement for judgement in found}


def active(found: dict[str, Judgement]) -> list[str]:
    return [name for name, judgement in found.items() if judgement.active]


@pytest.fixture
def head() -> Head:
    head = Head(4096)
    for seed, (name, level) in enumerate(zip(REGIONS, USUAL, strict=True)):
        put(head, region(name), values(level, seed))
    return head


def test_the_odd_one_is_told_with_its_peers(head: Head) -> None:
    assert active(judged(head)) == []
    odd = values(0.04)
    odd[-20:] = 0.31
    put(head, region("eu-west"), odd)
    found = judged(head)
    assert active(found) == ["eu-west"]
    assert found["eu-west"].value == 0.31
    text = found["eu-west"].expectation
    assert text.startswith("its 5 peers are between 0.0")
    assert text.endswith("(ap-south, eu-north, …)")
    assert found["us-east"].active is False
    assert found["us-east"].expectation == ""


def test_one_that_is_where_its_peers_are_and_usually_is_not_is_told_so(head: Head) -> None:
    usual = values(0.4, 9)
    usual[-20:] = 0.03
    put(head, region("eu-west"), usual)
    found = judged(head)
    assert active(found) == ["eu-west"]
    said = found["eu-west"].expectation
    assert said.startswith("usually 0.401 when its 5 peers are between 0.0198 ")


def test_one_that_stands_still_is_told_so(head: Head) -> None:
    still = values(0.04, 2)
    still[-40:] = 0.04
    put(head, region("eu-west"), still)
    found = judged(head)
    assert active(found) == ["eu-west"]
    assert found["eu-west"].expectation.startswith("it varies less than its 5 peers do (ap-south")


def test_a_threshold_asks_for_a_score_besides(head: Head) -> None:
    put(head, region("eu-west"), np.append(values(0.04)[:-20], np.full(20, 0.31)))
    assert active(judged(head, a_rule(threshold=0.9))) == ["eu-west"]
    assert active(judged(head, a_rule(threshold=1 - 1e-13))) == []


def test_groups_are_series_of_one_metric_with_equal_labels(head: Head) -> None:
    head = Head(4096)
    for job, level in (("web", 1.0), ("batch", 100.0)):
        for seed, name in enumerate(REGIONS):
            put(head, region(name, job=job), values(level, seed))
    late = np.append(values(1.0)[:-20], np.full(20, 3.0))
    put(head, region("eu-west", job="web"), late)
    rule = a_rule(peers_by=("job",))
    found = evaluate(rule, TENANT, head, NOW)
    (odd,) = [f for f in found if f.active]
    assert odd.series == region("eu-west", job="web")
    assert "its 5 peers" in odd.expectation
    assert "(ap-south, eu-north, …)" in odd.expectation
    (odd,) = [f for f in evaluate(a_rule(), TENANT, head, NOW) if f.active]
    assert "its 11 peers" in odd.expectation
    assert "(batch ap-south, batch eu-north, …)" in odd.expectation
    assert not any(f.active for f in evaluate(a_rule(peers_by=("region",)), TENANT, head, NOW))


def test_other_metrics_are_no_peers(head: Head) -> None:
    for seed, name in enumerate(REGIONS[:3]):
        put(head, Series.of("error_share", {"region": name}), values(90.0, seed))
    found = evaluate(a_rule('{__name__=~"error_.*"}'), TENANT, head, NOW)
    assert len(found) == 9
    assert not any(f.active for f in found)


def test_who_is_silent_or_ended_is_unknown_and_no_peer(head: Head) -> None:
    put(head, region("eu-west"), np.append(values(0.04)[:-20], np.full(20, 0.31)))
    stale = struct.unpack("<d", STALE_MARKER)[0]
    put(head, region("us-east"), [stale])
    head.remove(TENANT, [region("us-west").id])
    put(head, region("us-west"), values(0.03), until=NOW - 1000)
    found = judged(head)
    assert active(found) == ["eu-west"]
    assert found["us-east"].active is None
    assert found["us-west"].active is None
    assert "its 3 peers" in found["eu-west"].expectation


def test_counters_are_compared_by_their_rates() -> None:
    head = Head(4096)
    for seed, name in enumerate(REGIONS):
        steps = values(50.0, seed)
        if name == "eu-west":
            steps[-20:] *= 3
        if name == "sa-east":
            steps[100] = 1e6  # long ago
        series = Series.of("error_rate", {"region": name}, MetricType.COUNTER)
        put(head, series, np.cumsum(steps))
    assert active(judged(head)) == ["eu-west"]


@pytest.mark.parametrize("step", [10.0, 120.0, 300.0])
def test_members_may_report_at_any_pace_and_apart(step: float) -> None:
    head = Head(4096)
    rows = round(5 * 3600 / step)
    for seed, name in enumerate(REGIONS):
        v = values(0.03, seed, rows)
        if name == "eu-west":
            v[-round(1200 / step) :] *= 5
        put(head, region(name), v, step=step, until=NOW - 2 * seed)
    assert active(judged(head)) == ["eu-west"]


def test_few_members_few_samples_and_extremes_are_no_trouble() -> None:
    head = Head(64)
    assert judged(head) == {}
    for name, value in zip(REGIONS[:3], (1.0, 2.0, 50.0), strict=True):
        put(head, region(name), [value])
    assert {j.active for j in judged(head).values()} == {False}
    for name, value in zip(REGIONS[3:], (1e308, -1e308, np.nan), strict=True):
        put(head, region(name), [value] * 40, step=20.0)
    found = judged(head)
    assert found["us-west"].active is None
    assert found["ap-south"].value == 1.0


def test_a_thousand_members_take_well_under_a_second() -> None:
    head = Head(4096)
    for seed in range(1000):
        put(head, region(f"r{seed:04}"), values(0.03, seed))
    put(head, region("r0007"), np.append(values(0.03)[:-20], np.full(20, 0.31)))
    memory = Memory()
    evaluate(a_rule(), TENANT, head, NOW, memory=memory)
    begun = time.process_time()
    found = evaluate(a_rule(), TENANT, head, NOW, memory=memory)
    assert time.process_time() - begun < 0.6
    (odd,) = [f for f in found if f.active]
    assert odd.series == region("r0007")
    assert "its 999 peers" in odd.expectation
