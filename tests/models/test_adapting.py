import numpy as np
import pytest

from models.adapting import early_end
from models.ensemble import Detector
from models.synthetic import daily, noise, times, with_shift

HOUR = 3_600_000
ROWS, AT = 800, 600


def hourly(make, seed):
    return daily(ROWS, seed, period=24) if make is daily else make(ROWS, seed)


def loud(scores, level):
    """Rows from the shift on until the score stays below."""
    return int(np.flatnonzero(scores[AT : AT + 120] >= level)[-1]) + 1


@pytest.mark.parametrize(("make", "size"), [(daily, 8.0), (noise, 40.0)])
def test_hourly_rows_follow_a_new_level_in_about_a_day(make, size):
    t = times(ROWS, HOUR)
    lasted = [
        loud(Detector().fit(t, with_shift(hourly(make, seed), AT, size)).scores_.score, 0.999)
        for seed in range(2)
    ]
    assert min(lasted) >= 6  # an hour is not enough to believe it
    assert np.median(lasted) <= 32


@pytest.mark.parametrize("make", [daily, noise])
def test_rows_of_five_minutes_follow_within_a_day(make):
    rows, at = 3200, 2400
    v = daily(rows, 3) if make is daily else noise(rows, 3)
    scores = Detector().fit(times(rows), with_shift(v, at, 40.0)).scores_
    assert (scores.score[at : at + 12] >= 0.999).mean() > 0.5
    assert (scores.score[at + 288 :] >= 0.99).mean() < 0.02


def test_blocks_end_early_after_a_change_and_only_then():
    shifted = with_shift(noise(ROWS, 1), AT, 40.0)
    assert early_end(shifted, AT - 4, AT + 60, 24) == AT + 20
    assert early_end(shifted, AT + 20, AT + 84, 24) == AT + 44
    assert early_end(shifted, AT + 100, AT + 164, 24) == AT + 164
    assert early_end(shifted, 0, 16, 24) == 16
    assert early_end(shifted, 500, 572, 288) == 572
    for seed in range(5):
        x = hourly(daily, seed)
        assert all(early_end(x, s, s + 64, 24) == s + 64 for s in range(100, 700, 40))


def test_what_a_block_ends_at_is_decided_by_the_rows_before():
    shifted = with_shift(noise(ROWS, 2), AT, 40.0)
    other = np.concatenate((shifted[: AT + 20], np.zeros(ROWS - AT - 20)))
    assert early_end(other, AT - 4, AT + 60, 24) == AT + 20


def test_the_scores_of_a_prefix_are_those_of_the_whole():
    t, v = times(ROWS, HOUR), with_shift(hourly(daily, 4), AT, 12.0)
    whole = Detector().fit(t, v).scores_
    for n in (AT + 10, AT + 30):
        part = Detector().fit(t[:n], v[:n]).scores_
        assert np.allclose(part.score, whole.score[:n], atol=1e-6)
        assert np.allclose(part.alert, whole.alert[:n], atol=1e-6)
