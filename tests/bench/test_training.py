"""A tenant is trained from nothing while another one's points are judged, in small."""

import pytest

from bench.training import Plan, measure


@pytest.mark.slow
def test_judging_waits_for_no_training() -> None:
    plan = Plan(series=60, rows=300, live=3, nice=0, quiet_seconds=2, limit_seconds=100)
    found = measure(plan, lambda line: None)
    assert found.problems == []
    assert (found.trained, found.failed) == (60, 0)
    assert found.meanwhile.lost == 0
    assert found.shown[-1]["first_waiting"] < found.shown[0]["first_waiting"]
