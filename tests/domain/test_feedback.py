import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.feedback import (
    FORGOTTEN_SECONDS,
    HALF_LIFE_SECONDS,
    LEAST,
    MOST,
    UNMOVED,
    Adjustment,
    Verdict,
    adjustment,
    in_words,
    leaves_out,
    moved,
    rounded,
)

NOW = 1_700_000_000.0
NOISE, USEFUL, EXPECTED = Verdict.NOISE, Verdict.USEFUL, Verdict.EXPECTED


def said(*verdicts: Verdict, age: float = 0.0) -> Adjustment:
    return adjustment([(verdict, NOW - age) for verdict in verdicts], NOW)


@pytest.mark.parametrize(
    ("verdicts", "factor"),
    [
        ((), 1.0),
        ((NOISE,), 0.5),
        ((NOISE, NOISE), 0.25),
        ((USEFUL,), 1.5),
        ((NOISE, USEFUL), 0.75),
        ((EXPECTED, EXPECTED), 0.5),
        ((NOISE,) * 9, LEAST),
        ((USEFUL,) * 9, MOST),
        ((USEFUL,) * 9 + (NOISE,) * 9, 1.5**9 * 0.5**9),
    ],
)
def test_verdicts_multiply_within_bounds(verdicts: tuple[Verdict, ...], factor: float) -> None:
    assert said(*verdicts).factor == pytest.approx(factor)


def test_verdicts_fade() -> None:
    assert said(NOISE, age=HALF_LIFE_SECONDS).factor == pytest.approx(math.sqrt(0.5))
    assert said(NOISE, age=FORGOTTEN_SECONDS) == UNMOVED
    assert said(NOISE, age=FORGOTTEN_SECONDS - 1).verdicts == {NOISE: 1}
    assert said(NOISE, age=-60).factor == 0.5  # said by a clock that is ahead


@given(
    st.lists(st.tuples(st.sampled_from(Verdict), st.floats(0, 2e7)), max_size=40),
    st.floats(0, 1, exclude_max=True),
)
def test_a_threshold_stays_one_and_moves_only_so_far(
    verdicts: list[tuple[Verdict, float]], threshold: float
) -> None:
    found = adjustment([(verdict, NOW - age) for verdict, age in verdicts], NOW)
    assert LEAST <= found.factor <= MOST
    new = moved(threshold, found.factor)
    assert 0 <= new <= 1
    assert 1 - new >= (1 - threshold) * LEAST - 1e-12
    assert 1 - new <= max((1 - threshold) * MOST, 1e-12) + 1e-12
    assert (new >= threshold) == (found.factor <= 1) or new == pytest.approx(threshold)
    assert len(in_words(threshold, found)) < 120


def test_thresholds_move() -> None:
    assert moved(0.999, 0.25) == pytest.approx(0.99975)
    assert moved(0.999, 4.0) == pytest.approx(0.996)
    assert moved(0.8, 4.0) == 0.5
    assert moved(0.2, 4.0) == pytest.approx(0.2)  # it lets more than half through by itself
    assert moved(0.123456789, 1.0) == 0.123456789


@pytest.mark.parametrize(
    ("threshold", "verdicts", "words"),
    [
        (0.999, (), ""),
        (0.999, (NOISE, NOISE), "threshold 0.99975 (raised from 0.999 by 2 × noise)"),
        (0.99, (USEFUL,), "threshold 0.985 (lowered from 0.99 by 1 × useful)"),
        (0.9, (EXPECTED, EXPECTED), "threshold 0.95 (raised from 0.9 by 2 × expected)"),
        (0.4, (USEFUL,), "threshold 0.4 (unchanged by 1 × useful)"),
        (None, (NOISE, NOISE), "anomalies alert that are 4 times rarer (2 × noise)"),
        (None, (USEFUL,), "anomalies alert that are 1.5 times more common (1 × useful)"),
        (
            0.999,
            (NOISE, NOISE, USEFUL),
            "threshold 0.99962 (raised from 0.999 by 1 × useful, 2 × noise)",
        ),
    ],
)
def test_people_read_what_their_feedback_did(
    threshold: float | None, verdicts: tuple[Verdict, ...], words: str
) -> None:
    assert in_words(threshold, said(*verdicts)) == words


def test_thresholds_have_the_digits_that_count() -> None:
    assert rounded(0.999937512345) == "0.999938"
    assert rounded(0.5) == "0.5"
    assert rounded(1.0) == "1"
    assert rounded(0.0) == "0"


def test_what_models_leave_out() -> None:
    assert leaves_out(USEFUL, acknowledged=False)
    assert leaves_out(None, acknowledged=True)
    assert not leaves_out(None, acknowledged=False)
    assert not leaves_out(NOISE, acknowledged=True)
    assert not leaves_out(EXPECTED, acknowledged=True)
