"""An alert's life as a table: what it is, what is judged, what becomes of it."""

from dataclasses import replace

import pytest

from service.domain.alerts import (
    SERIES_ENDED,
    Alert,
    AlertState,
    Decision,
    Move,
    step,
)
from tests.support.alerting import RULE, START, TENANT

NOW = START
PENDING, FIRING = AlertState.PENDING, AlertState.FIRING


def an_alert(state: AlertState, started: float, seen: float | None) -> Alert:
    return Alert(
        id="a",
        tenant=TENANT,
        rule_id="r1",
        rule_name="High errors",
        fingerprint="f",
        episode=1,
        state=state,
        severity=RULE.severity,
        labels={},
        started_at=NOW - started,
        last_seen_at=None if seen is None else NOW - seen,
    )


@pytest.mark.parametrize(
    ("state", "started", "seen", "wait", "active", "expected"),
    [
        # nothing yet
        (None, 0, None, 0.0, True, Move.FIRE),
        (None, 0, None, 60.0, True, Move.START),
        (None, 0, None, 0.0, False, Move.NOTHING),
        (None, 0, None, 0.0, None, Move.NOTHING),
        # pending
        (PENDING, 59, 0, 60.0, True, Move.KEEP),
        (PENDING, 60, 0, 60.0, True, Move.FIRE),
        (PENDING, 600, 0, 0.0, True, Move.FIRE),  # the rule waits no longer
        (PENDING, 600, 0, 900.0, True, Move.KEEP),  # it waits longer now
        (PENDING, 59, 0, 60.0, False, Move.REMOVE),
        (PENDING, 600, 0, 60.0, False, Move.REMOVE),
        (PENDING, 600, 299, 60.0, None, Move.KEEP),
        (PENDING, 600, 300, 60.0, None, Move.REMOVE),
        (PENDING, 600, None, 60.0, None, Move.REMOVE),
        # firing
        (FIRING, 600, 0, 60.0, True, Move.KEEP),
        (FIRING, 600, 0, 60.0, False, Move.RESOLVE),
        (FIRING, 9999, 300, 60.0, None, Move.KEEP),
        (FIRING, 9999, 3599, 60.0, None, Move.KEEP),
        (FIRING, 9999, 3600, 60.0, None, Move.RESOLVE),
        (FIRING, 3599, None, 60.0, None, Move.KEEP),
    ],
)
def test_a_step(
    state: AlertState | None,
    started: float,
    seen: float | None,
    wait: float,
    active: bool | None,
    expected: Move,
) -> None:
    alert = None if state is None else an_alert(state, started, seen)
    decided = step(
        alert,
        replace(RULE, for_seconds=wait),
        active,
        NOW,
        lookback_seconds=300.0,
        absent_resolve_seconds=3600.0,
    )
    ends_by_silence = active is None and decided.move in (Move.REMOVE, Move.RESOLVE)
    assert decided == Decision(expected, SERIES_ENDED if ends_by_silence else "")
