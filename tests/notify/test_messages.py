"""What people read, word for word."""

import pytest

from service.domain.notifications import NotificationKind
from service.notify.messages import Tone, compose
from service.notify.plain import clean, moment, number, period, span, spark, whole
from tests.support.notifications import NOW, notification

URL = "https://offbeat.example"


def test_firing() -> None:
    message = compose(notification(NotificationKind.FIRING), NOW, URL)
    assert message.subject == "[critical] High error rate: checkout eu-west (firing)"
    assert message.body == (
        "error_rate is 0.1234, above 0.05.",
        "Since 22:09 UTC (4 min).",
        "Customers cannot pay.",
    )
    assert message.labels == (("region", "eu-west"), ("service", "checkout"))
    assert message.trend == "▁▂▁▂▂▅▇█"
    assert message.link == "https://offbeat.example/alerts/a1"
    assert message.runbook == "https://wiki.example/checkout"
    assert message.tone is Tone.BAD


def test_escalated_says_first_that_nobody_has_answered() -> None:
    message = compose(notification(NotificationKind.ESCALATED), NOW, URL)
    assert message.subject == (
        "[critical] High error rate: checkout eu-west (firing, escalation step 2)"
    )
    assert message.body[0] == "Still firing, and nobody has acknowledged it."


def test_resolved_is_green_and_says_how_long_it_took() -> None:
    message = compose(notification(NotificationKind.RESOLVED), NOW, URL)
    assert message.subject == "[critical] High error rate: checkout eu-west (resolved)"
    assert message.body == (
        "error_rate is no longer above 0.05.",
        "It lasted 4 min, from 22:09 to 22:13 UTC.",
    )
    assert message.tone is Tone.GOOD


def test_summary_puts_the_worst_first() -> None:
    message = compose(notification(NotificationKind.SUMMARY), NOW, URL)
    assert message.subject == "[critical] 37 more notifications since 21:23 UTC (summary)"
    assert message.items == (
        "critical: High error rate: checkout eu-west (firing, 22:12 UTC)",
        "low: High error rate: checkout eu-west (resolved, 22:12 UTC)",
        "and 35 more",
    )


def test_a_test_says_that_nothing_is_wrong() -> None:
    message = compose(notification(NotificationKind.TEST), NOW, URL)
    assert message.subject == "[test] The channel slack works"
    assert message.body == ("This is a test; nothing is wrong.", "Asked for by operator:ann.")


@pytest.mark.parametrize(
    ("value", "expectation", "firing", "resolved"),
    [
        (3.1, "expected 1 to 2", "m is 3.1, expected 1 to 2.", "m is as expected again (1 to 2)."),
        (
            None,
            "no data for 5m",
            "m has sent no data for 5m.",
            "It is over. It was: m, no data for 5m.",
        ),
        (7, "", "m is 7.", "It is over."),
        (12_300_000, "below 1", "m is 12.3 million, below 1.", "m is no longer below 1."),
        (4, "at or above 4", "m is 4, at or above 4.", "m is no longer at or above 4."),
        (0, "equal to 0", "m is 0, equal to 0.", "m is no longer equal to 0."),
        (
            71,
            "reaches 90 in 7h",
            "m is 71, and its forecast reaches 90 in 7h.",
            "The forecast of m no longer reaches 90.",
        ),
        (
            71,
            "reaches 90 in 7h (82 % likely)",
            "m is 71, and its forecast reaches 90 in 7h (82 % likely).",
            "The forecast of m no longer reaches 90.",
        ),
        (
            3,
            "unlike its past (anomaly score 0.9995)",
            "m is 3, unlike its past (anomaly score 0.9995).",
            "m is like its past again.",
        ),
        (
            0.31,
            "its 7 peers are between 0.02 and 0.05 (us-east, us-west, …)",
            "m is 0.31, its 7 peers are between 0.02 and 0.05 (us-east, us-west, …).",
            "m is like its peers again.",
        ),
        (None, "", "m breaks the rule.", "It is over."),
        (True, "above 1.", "m is above 1.", "m is no longer above 1."),
    ],
)
def test_sentences(value: object, expectation: str, firing: str, resolved: str) -> None:
    changed = {"labels": {"__name__": "m"}, "value": value, "expectation": expectation}
    message = compose(notification(NotificationKind.FIRING, **changed), NOW, URL)
    assert message.sentence == firing
    message = compose(notification(NotificationKind.RESOLVED, **changed), NOW, URL)
    assert message.sentence == resolved


def test_a_rule_that_was_deleted_calls_nothing_well() -> None:
    message = compose(notification(NotificationKind.RESOLVED, reason="rule deleted"), NOW, URL)
    assert message.sentence == "The rule was deleted; nothing is known of error_rate since."


def test_a_series_that_ended_is_not_called_well() -> None:
    item = notification(NotificationKind.RESOLVED, reason="series ended")
    message = compose(item, NOW, URL)
    assert message.sentence == (
        "error_rate has sent nothing for so long that the alert was closed."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (0.123456, "0.1235"),
        (0.05, "0.05"),
        (99.95, "99.95"),
        (1234.56, "1,235"),
        (-54321, "-54,321"),
        (999_999.9, "1 million"),
        (12_345_678, "12.3 million"),
        (5e9, "5 billion"),
        (7.77e12, "7.77 trillion"),
        (1e17, "1e+17"),
        (1.5e-7, "1.5e-07"),
        (float("nan"), "not a number"),
        (float("inf"), "infinite"),
        (float("-inf"), "minus infinite"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
        (86_400, "1 d"),
        (183_600, "2 d 3 h"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_days_are_named_where_they_are_needed() -> None:
    assert moment(NOW, NOW) == "22:13 UTC"
    assert moment(NOW - 86_400, NOW) == "13 Nov 22:13 UTC"
    assert moment(NOW - 366 * 86_400, NOW) == "13 Nov 2022 22:13 UTC"
    assert period(NOW - 600, NOW, NOW + 60) == "22:03 to 22:13 UTC"
    assert period(NOW - 600, NOW, NOW + 86_400) == "14 Nov 22:03 to 22:13 UTC"
    assert period(NOW - 86_400, NOW, NOW) == "13 Nov 22:13 to 14 Nov 22:13 UTC"


def test_foreign_text_becomes_one_clean_line() -> None:
    assert clean("a\r\nBcc: x\x00\u202eb \ud800 ü🎵") == "a Bcc: x b ü🎵"
    assert clean("x" * 500, 10) == "x" * 9 + "…"
    assert whole("a\ud800b🎵") == "a\ufffdb🎵"


def test_a_spike_survives_the_short_picture() -> None:
    values = [1.0] * 500
    values[250] = 100.0
    assert spark(values).count("█") == 1
    assert spark([1.0, 2.0]) == ""
    assert spark([5.0] * 9) == "▁" * 9
    assert spark([float("nan")] * 3 + [1.0, 2.0, 3.0, 4.0]) == "▁▃▆█"
