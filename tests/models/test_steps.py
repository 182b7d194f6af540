"""Since when samples come at the step of today."""

import numpy as np
import pytest

from models.steps import settled_at

DAY, START = 86_400_000, 1_700_000_000_000


def course(*parts: tuple[int, int]) -> np.ndarray:
    """Timestamps of stretches one after the other: step in seconds, days."""
    gaps = [np.full(days * 86_400 // step, step * 1000) for step, days in parts]
    return START + np.concatenate(([0], np.cumsum(np.concatenate(gaps))))


@pytest.mark.parametrize(
    ("before", "now"), [((300, 10), (60, 3)), ((60, 4), (300, 3)), ((3600, 30), (600, 2))]
)
def test_the_newest_step_counts_from_its_first_row(before, now):
    t = course(before, now)
    assert t[settled_at(t)] == START + before[1] * DAY


def test_of_several_changes_the_newest_counts():
    t = course((300, 5), (60, 2), (300, 3))
    assert t[settled_at(t)] == START + 7 * DAY


@pytest.mark.parametrize(
    "t",
    [
        course((300, 14)),
        course((300, 10), (60, 1)),  # not for long enough
        course((60, 3), (3600, 3)),  # too few rows of it
        course((300, 5), (86_400, 3), (300, 5)),  # an outage
        course((300, 10), (250, 10)),  # nearly the same
        START + np.cumsum(np.random.default_rng(1).exponential(3e5, 9000)).astype(np.int64),
        START + np.arange(3, dtype=np.int64),
        np.zeros(0, np.int64),
    ],
    ids=["one", "short", "few", "outage", "alike", "events", "three rows", "none"],
)
def test_nothing_is_left_out_for_less(t):
    assert settled_at(t) == 0


def test_jitter_late_rows_and_holes_move_nothing_far():
    rng = np.random.default_rng(2)
    t = course((300, 10), (60, 4))
    t = np.sort(t + rng.integers(-5_000, 5_000, len(t)))[rng.random(len(t)) > 0.05]
    assert abs(t[settled_at(t)] - (START + 10 * DAY)) < 600_000
