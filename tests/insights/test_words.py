"""How figures, durations and names read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.series import Series
from service.insights import words


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (48210, "", "48,210"),
        (312, "sign_ups", "312"),
        (0.9, "errors_percent", "0.9 %"),
        (0.214, "skip_ratio", "21.4 %"),
        (0.0834, "latency_seconds", "83.4 ms"),
        (4.2, "latency_seconds", "4.2 s"),
        (213_000, "network_in_bytes", "213 kB"),
        (67.66, "temperature_degrees", "67.7 °"),
        (1_234_567, "plays", "1.23 M"),
        (-3.25, "", "−3.25"),
        (0.000012, "", "0.000012"),
        (0, "", "0"),
        (math.nan, "", "–"),
        (math.inf, "", "∞"),
        (None, "", "–"),
    ],
)
def test_figures(value: float | None, name: str, text: str) -> None:
    assert words.figure(value, name).replace("\u00a0", " ") == text


@given(st.floats(), st.sampled_from(["", "a_ratio", "a_bytes", "a_seconds", "a_percent"]))
def test_any_figure_reads_in_a_few_characters(value: float, name: str) -> None:
    text = words.figure(value, name)
    assert "nan" not in text
    assert "inf" not in text
    assert "e+" not in text
    assert len(text) <= 25
    assert len(words.rough(value, name)) <= 25


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under a second"),
        (1, "1 second"),
        (75, "75 seconds"),
        (840, "14 minutes"),
        (3600, "1 hour"),
        (5000, "83 minutes"),
        (7300, "2 hours"),
        (200_000, "2 days"),
    ],
)
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    assert words.span(seconds).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "expected", "text"),
    [
        (69, 100, "31 % under expectation"),
        (130, 100, "30 % over expectation"),
        (108, 12, "9 times expected"),
        (5, 0, "5 instead of 0"),
        (-5, -10, "50 % over expectation"),
    ],
)
def test_values_are_told_against_what_was_expected(
    value: float, expected: float, text: str
) -> None:
    assert words.against(value, expected).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("play_starts_total", "Play starts"),
        ("cpu_utilization_percent", "CPU utilization"),
        ("skip_ratio", "Skip ratio"),
        ("http.server.duration_ms", "HTTP server duration"),
        ("job:errors:rate5m", "Job errors rate5m"),
        ("_", "_"),
    ],
)
def test_names_become_words(name: str, text: str) -> None:
    assert words.metric_words(name) == text


def test_a_label_value_that_another_repeats_is_left_out() -> None:
    series = Series.of("cpu", {"service": "api", "host": "api-2", "region": "eu"})
    assert words.place(series) == "api-2 · eu"


def test_lists() -> None:
    assert words.listing([]) == ""
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing("abcde") == "a, b and 3 more"


def test_people_are_named_without_their_role() -> None:
    assert words.person("responder:Mira") == "Mira"
    assert words.person("escalator") == "escalator"
    assert words.person(None) == "somebody"
