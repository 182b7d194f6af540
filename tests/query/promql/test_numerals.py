"""Numbers are written as Go writes them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.query.promql.numerals import fixed, general


@pytest.mark.parametrize(
    ("value", "in_full", "short"),
    [
        (0.0, "0", "0"),
        (-0.0, "-0", "-0"),
        (1.5, "1.5", "1.5"),
        (100_000.0, "100000", "100000"),
        (1e6, "1000000", "1e+06"),
        (-1.25e21, "-1250000000000000000000", "-1.25e+21"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "0.00001", "1e-05"),
        (5e-324, "0." + "0" * 323 + "5", "5e-324"),
        (1e100, "1" + "0" * 100, "1e+100"),
        (math.inf, "+Inf", "+Inf"),
        (-math.inf, "-Inf", "-Inf"),
        (math.nan, "NaN", "NaN"),
    ],
)
def test_numbers_with_and_without_exponent(value: float, in_full: str, short: str) -> None:
    assert fixed(value) == in_full
    assert general(value) == short


@given(st.floats(allow_nan=False))
def test_what_is_written_reads_as_the_number(value: float) -> None:
    assert float(fixed(value)) == float(general(value)) == value
