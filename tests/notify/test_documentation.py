"""docs/notifications.md says what the code does."""

from pathlib import Path

from service.domain.notifications import DeliveryState, NotificationKind
from service.notify.channels.base import RETRY_AFTER_MAX, ChannelType
from service.notify.channels.config import RECEIVERS_MAX
from service.notify.retry import OPENS_AFTER, PAGE_AT, REST_MAX, REST_SECONDS, WEBHOOK_DELAYS
from service.notify.rows import LANE_CLAIM

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "notifications.md").read_text().split())


def test_kinds_types_and_ends_are_documented() -> None:
    for name in (*NotificationKind, *ChannelType):
        assert f"| `{name}`" in PAGE or f"`{name}`, `email`" in PAGE or f"`{name}` |" in PAGE
    for state in (DeliveryState.SENT, DeliveryState.RETRY, DeliveryState.DEAD, "cancelled"):
        assert f"`{state}`" in PAGE


def test_figures_are_those_of_the_code() -> None:
    *first, last = [f"{at:.0f}" for at in PAGE_AT]
    assert f"{', '.join(first)} and {last} seconds after the first" in PAGE
    shown = [
        f"{d:.0f} s" if d < 60 else f"{d / 60:.0f} min" if d < 3600 else f"{d / 3600:.0f} h"
        for d in WEBHOOK_DELAYS
    ]
    assert f"after {', '.join(shown[:-1])} and {shown[-1]} more" in PAGE
    assert RETRY_AFTER_MAX == 3600
    assert f"up to {RECEIVERS_MAX} addresses" in PAGE
    assert (OPENS_AFTER, LANE_CLAIM, REST_SECONDS, REST_MAX) == (5, 4, 30, 300)
