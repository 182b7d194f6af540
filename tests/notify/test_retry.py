"""The schedules as tables, and the breaker's life."""

from itertools import accumulate

import pytest

from service.notify.channels.base import ChannelType, retry_after
from service.notify.retry import Breaker, retry_delay

EMAIL, SLACK, WEBHOOK = ChannelType.EMAIL, ChannelType.SLACK, ChannelType.WEBHOOK
H = 3600.0


@pytest.mark.parametrize(
    ("kind", "attempts", "asked", "delay"),
    [
        (SLACK, 1, None, 5),
        (SLACK, 2, None, 10),
        (SLACK, 3, None, 15),
        (SLACK, 4, None, 30),
        (SLACK, 5, None, 60),
        (SLACK, 6, None, 300),
        (SLACK, 7, None, 300),
        (SLACK, 292, None, 300),
        (SLACK, 293, None, None),
        (EMAIL, 1, None, 5),
        (EMAIL, 293, None, None),
        (WEBHOOK, 1, None, 5),
        (WEBHOOK, 2, None, 300),
        (WEBHOOK, 3, None, 1800),
        (WEBHOOK, 4, None, 2 * H),
        (WEBHOOK, 5, None, 5 * H),
        (WEBHOOK, 6, None, 10 * H),
        (WEBHOOK, 7, None, 14 * H),
        (WEBHOOK, 8, None, 20 * H),
        (WEBHOOK, 9, None, 24 * H),
        (WEBHOOK, 10, None, None),
        # what the receiver asks for, never sooner than the schedule, at most an hour
        (SLACK, 1, 40.0, 40),
        (SLACK, 1, 1.0, 5),
        (SLACK, 1, 0.0, 5),
        (SLACK, 1, 1e9, H),
        (SLACK, 293, 10.0, None),
        (WEBHOOK, 4, 60.0, 2 * H),
        (WEBHOOK, 10, 60.0, None),
    ],
)
def test_delays(kind: ChannelType, attempts: int, asked: float | None, delay: float | None) -> None:
    assert retry_delay(kind, attempts, asked) == delay


def test_pages_are_tried_for_a_day() -> None:
    delays = [d for n in range(1, 1000) if (d := retry_delay(SLACK, n)) is not None]
    at = list(accumulate(delays))
    assert at[:5] == [5, 15, 30, 60, 120]
    assert 86_400 - 300 < at[-1] <= 86_400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999999999999999", 3600),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0),
        ("Tue, 14 Nov 2034 22:00:00 GMT", 3600),
        ("Tue, 99 Nov 2023 22:00:00 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, 1_700_000_000.0) == seconds


def test_a_breaker_opens_probes_and_rests_longer() -> None:
    breaker, now = Breaker(), 1000.0
    assert breaker.width is None
    assert [breaker.failed(now) for _ in range(5)] == [False] * 4 + [True]
    assert breaker.width == 1
    assert breaker.resting(now + 29)
    assert not breaker.failed(now + 1)  # one that was under way when it opened
    rests = []
    for _ in range(6):
        now = breaker.open_until
        assert not breaker.resting(now)  # half-open: one attempt
        assert breaker.failed(now)
        rests.append(breaker.open_until - now)
    assert rests == [60, 120, 240, 300, 300, 300]
