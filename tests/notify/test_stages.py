"""Whether a notification is still wanted, as a table."""

import pytest

from service.domain.notifications import NotificationKind
from service.domain.silences import Quiet, Silence, SilenceKind
from service.notify.rows import AlertStatus
from service.notify.stages import Outcome, Reason, judge, unwanted
from tests.support.notifications import NOW, notification

FIRING, RESOLVED = NotificationKind.FIRING, NotificationKind.RESOLVED
ESCALATED, TEST = NotificationKind.ESCALATED, NotificationKind.TEST
LIVE = AlertStatus(None, None)
ANSWERED = AlertStatus(None, NOW)
OVER = AlertStatus(NOW, None)
BOTH = AlertStatus(NOW, NOW)
QUIET = Quiet(
    (Silence("s", "acme", SilenceKind.SILENCE, (), NOW, NOW + 60, "responder:ann", "x", NOW, NOW),)
)
SILENCED = AlertStatus(None, None, QUIET)


@pytest.mark.parametrize(
    ("kind", "alert", "late", "reason"),
    [
        (FIRING, LIVE, 0, None),
        (FIRING, LIVE, 1e6, None),
        (FIRING, ANSWERED, 0, None),
        (FIRING, OVER, 0, None),
        (FIRING, OVER, 3600, None),
        (FIRING, OVER, 3601, Reason.STALE),
        (FIRING, None, 0, Reason.GONE),
        (ESCALATED, LIVE, 1e6, None),
        (ESCALATED, ANSWERED, 0, Reason.ACKNOWLEDGED),
        (ESCALATED, OVER, 0, Reason.RESOLVED),
        (ESCALATED, BOTH, 0, Reason.ACKNOWLEDGED),
        (RESOLVED, OVER, 1e6, None),
        (RESOLVED, BOTH, 0, None),
        (TEST, None, 1e6, None),
        (FIRING, SILENCED, 0, Reason.SILENCED),
        (ESCALATED, SILENCED, 0, Reason.SILENCED),
        (RESOLVED, AlertStatus(NOW, None, QUIET), 0, Reason.SILENCED),
        (ESCALATED, AlertStatus(None, NOW, QUIET), 0, Reason.ACKNOWLEDGED),
        (ESCALATED, AlertStatus(NOW, None, QUIET), 0, Reason.RESOLVED),
        (FIRING, AlertStatus(NOW, None, QUIET), 3601, Reason.STALE),
        (NotificationKind.SUMMARY, None, 1e6, None),
    ],
)
def test_unwanted(
    kind: NotificationKind, alert: AlertStatus | None, late: float, reason: Reason | None
) -> None:
    assert unwanted(notification(kind), alert, NOW + late) is reason


async def test_if_nobody_can_say_it_is_sent() -> None:
    async def fails(tenant: str, alert_id: str) -> AlertStatus | None:
        raise ConnectionError("the database is away")

    assert await judge(notification(ESCALATED), fails, NOW) is None


async def test_what_is_not_sent_says_why() -> None:
    async def answered(tenant: str, alert_id: str) -> AlertStatus | None:
        return ANSWERED

    outcome = await judge(notification(ESCALATED), answered, NOW)
    assert isinstance(outcome, Outcome)
    assert outcome.cancels
    assert "acknowledged" in outcome.explanation


async def test_what_is_silenced_waits_and_says_for_whom() -> None:
    async def silenced(tenant: str, alert_id: str) -> AlertStatus | None:
        return SILENCED

    outcome = await judge(notification(FIRING), silenced, NOW)
    assert outcome == Outcome(Reason.SILENCED, QUIET.text, quiet=QUIET)
    assert not outcome.cancels
    assert outcome.explanation == "silenced by responder:ann until 2023-11-14T22:14:20Z: x"
    for kind in (TEST, NotificationKind.SUMMARY):
        assert await judge(notification(kind), silenced, NOW) is None
