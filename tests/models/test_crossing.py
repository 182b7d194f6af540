"""How likely a forecast crosses a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.crossing import Passing, crossing, first, passing

#: What 90 % of a normal distribution lie within.
WIDE = 1.6448536


def band(value: list[float], width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    v = np.array(value)
    return v, v - width * WIDE, v + width * WIDE


def test_one_step_has_the_probability_of_its_distribution() -> None:
    for away, above in ((0.0, 0.5), (1.0, 0.158655), (-1.0, 0.841345), (3.0, 0.00135)):
        assert crossing(*band([10.0], 2.0), 10 + 2 * away) == pytest.approx([above], abs=1e-3)
        below = crossing(*band([10.0], 2.0), 10 - 2 * away, above=False)
        assert below == pytest.approx([above], abs=1e-3)


def test_each_side_has_its_own_width() -> None:
    v, low, high = np.array([10.0]), np.array([10 - WIDE]), np.array([10 + 4 * WIDE])
    assert crossing(v, low, high, 14.0) == pytest.approx([0.158655], abs=1e-3)
    assert crossing(v, low, high, 9.0) == pytest.approx([0.841345], abs=1e-3)


def test_more_steps_make_it_likelier_but_less_than_if_each_was_news() -> None:
    found = crossing(*band([10.0] * 24, 2.0), 12.0)
    assert (np.diff(found) > 0).all()
    assert 0.16 < found[-1] < 0.5 < 1 - 0.841345**24


def test_where_no_bound_is_known_the_middle_decides() -> None:
    v, none = np.array([8.0, 10.0, 11.0, np.nan]), np.full(4, np.nan)
    for band_of, threshold, above, inclusive, expected in (
        (none, 10.0, True, False, [0, 0, 1, 1]),
        (none, 10.0, True, True, [0, 1, 1, 1]),
        (v, 10.0, True, False, [0, 0, 1, 1]),
        (none, 8.0, False, False, [0, 0, 0, 0]),
        (none, 8.0, False, True, [1, 1, 1, 1]),
    ):
        found = crossing(v, band_of, band_of, threshold, above, inclusive=inclusive)
        assert found == pytest.approx(expected, abs=1e-9)


def test_many_series_at_once_are_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    v = rng.normal(10, 3, (50, 24))
    low, high = v - rng.uniform(0, 4, v.shape), v + rng.uniform(0, 4, v.shape)
    together = crossing(v, low, high, 12.0)
    alone = np.stack([crossing(*row, 12.0) for row in zip(v, low, high, strict=True)])
    assert np.allclose(together, alone)


def test_when_it_happens() -> None:
    rising = crossing(*band(list(np.arange(0.0, 20.0)), 2.0), 10.5)
    early, likely, late = passing(rising)
    assert early is not None
    assert likely is not None
    assert late is not None
    assert 5 < early < likely < late < 15
    assert passing(np.array([0.02, 0.6, 0.8])) == Passing(1, 1, None)
    assert first(np.array([0.1, 0.2]), 0.5) is None


def test_said_is_what_comes_where_errors_are_alike() -> None:
    """Random walks: as likely as said, from the interval of each step alone."""
    rng = np.random.default_rng(7)
    walks = rng.normal(size=(4000, 24)).cumsum(axis=1)
    deviation = np.sqrt(np.arange(1, 25))
    middle = np.zeros(24)
    for threshold in (2.0, 4.0, 8.0):
        said = crossing(middle, -WIDE * deviation, WIDE * deviation, threshold)[-1]
        came = (walks.max(axis=1) > threshold).mean()
        assert said == pytest.approx(came, abs=0.15)


numbers = st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0])


@given(hnp.arrays(np.float64, (3, 6), elements=numbers), numbers, st.booleans(), st.booleans())
def test_it_is_a_probability_and_never_falls(
    ahead: np.ndarray, threshold: float, above: bool, inclusive: bool
) -> None:
    found = crossing(*ahead, threshold, above, inclusive=inclusive)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= -1e-12).all()
