"""Whether a notification is still wanted, as a table."""

import pytest

from service.domain.notifications import NotificationKind
from service.notify.rows import AlertStatus
from service.notify.stages import Outcome, Reason, judge, unwanted
from tests.support.notifications import NOW, notification

FIRING, RESOLVED = NotificationKind.FIRING, NotificationKind.RESOLVED
ESCALATED, TEST = NotificationKind.ESCALATED, NotificationKind.TEST
LIVE = AlertStatus(None, None)
ANSWERED = AlertStatus(None, NOW)
OVER = AlertStatus(NOW, None)
BOTH = AlertStatus(NOW, NOW)


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
