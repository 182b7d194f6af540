"""Samples in columns."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.storage.columns import Columns

TIMES = st.lists(st.integers(0, 20), unique=True).map(sorted)


@given(TIMES, TIMES)
def test_values_at_exactly_some_times(own: list[int], asked: list[int]) -> None:
    samples = Columns(np.array(own, np.int64), np.array(own, np.float64) * 2.0)
    expected = [2.0 * t if t in own else np.nan for t in asked]
    found = samples.at(np.array(asked, np.int64))
    assert np.array_equal(found, np.array(expected, np.float64), equal_nan=True)
