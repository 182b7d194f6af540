"""A rule on changes of level, over a worker's memory."""

import numpy as np

from models.synthetic import daily, noise, with_shift
from service.domain.clock import iso
from service.domain.rules import Condition, Rule
from service.domain.series import MetricType, Series
from service.rules.changes import ChangesSeen
from service.rules.evaluator import Judgement, Memory, evaluate
from service.storage.columns import Columns
from service.storage.head import Head
from tests.support import judging
from tests.support.judging import NOW, TENANT

STEP = 300.0
ROWS = 1500
CPU = Series.of("cpu", {"host": "web-3"})


def put(head: Head, series: Series, v: np.ndarray, until: float = NOW) -> None:
    judging.put(head, series, v, step=STEP, until=until)


def rule(window: float = 6 * 3600.0) -> Rule:
    return judging.rule_on("cpu", Condition.CHANGE, window_seconds=window)


def judge(
    head: Head, at: float = NOW, judged: Rule | None = None, memory: Memory | None = None
) -> list[Judgement]:
    return evaluate(judged or rule(), TENANT, head, at, memory=memory)


def test_a_new_level_is_told_with_both_levels_and_since_when() -> None:
    head = Head(4096)
    put(head, CPU, with_shift(daily(ROWS, 1), ROWS - 30, 22.0))
    (found,) = judge(head)
    assert found.active is True
    assert found.value is not None
    assert "at a new level, " in found.expectation
    assert f"since {iso(NOW - 29 * STEP)}" in found.expectation
    after, before = (float(w) for w in found.expectation.split()[4:8:3])
    assert after - before > 18


def test_what_is_as_ever_or_changed_long_ago_does_not_hold() -> None:
    head = Head(4096)
    put(head, CPU, noise(ROWS, 2))
    assert judge(head)[0].active is False
    head.drop(TENANT)
    put(head, CPU, with_shift(noise(ROWS, 2), ROWS - 300, 40.0))
    assert judge(head)[0].active is False
    assert judge(head, judged=rule(2 * 86_400.0))[0].active is True


def test_nobody_knows_of_the_silent_and_the_empty() -> None:
    head = Head(4096)
    put(head, CPU, with_shift(noise(ROWS, 3), ROWS - 30, 40.0))
    assert judge(head, NOW + 5 * 3600)[0].active is False
    assert judge(head, NOW + 7 * 3600)[0].active is None
    head.drop(TENANT)
    head.add_series(TENANT, {CPU.id: CPU})
    assert judge(head)[0].active is None
    put(head, CPU, np.array([1.0]))
    assert judge(head)[0].active is False


def test_of_a_counter_its_rate_counts() -> None:
    head = Head(4096)
    total = Series.of("cpu", {"host": "total"}, MetricType.COUNTER)
    steps = with_shift(noise(ROWS, 4), ROWS - 40, 60.0) * STEP
    put(head, total, np.cumsum(steps))
    (found,) = judge(head)
    assert found.active is True
    assert " a second instead of " in found.expectation


def test_it_begins_as_samples_come_and_ends_with_the_window() -> None:
    head, memory = Head(4096), Memory()
    v = with_shift(noise(ROWS, 5), ROWS - 120, 40.0)
    begun = NOW - 119 * STEP
    put(head, CPU, v[:-120], begun - STEP)
    held = []
    for row in range(120):
        at = begun + row * STEP
        newest = v[ROWS - 120 + row]
        head.put(TENANT, CPU.id, Columns(np.array([round(at * 1000)]), np.array([newest])))
        held.append(judge(head, at, memory=memory)[0].active)
    first = held.index(True)
    assert first <= 16
    assert all(held[first:72])
    assert not any(held[80:])


def test_many_series_take_turns() -> None:
    head, memory = Head(4096), Memory(changes=ChangesSeen(at_once=3))
    for number in range(8):
        put(head, Series.of("cpu", {"host": f"{number}"}), noise(200, number))
    known = []
    for turn in range(3):
        found = judge(head, NOW + turn, memory=memory)
        known.append(sum(j.active is not None for j in found))
    assert known == [3, 6, 8]
    memory.forget(TENANT)
    assert sum(j.active is not None for j in judge(head, NOW + 9, memory=memory)) == 3
