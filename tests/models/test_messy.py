"""Real metrics are messy. Each series here is odd in one way and has one real anomaly near its end.

For all of them: numbers stay finite and in range, the oddity raises a bounded number of alerts, and
the anomaly is found in spite of it.
"""

from typing import NamedTuple

import numpy as np
import pytest

from models.ensemble import LARGEST_SCORE, Detector, Scores
from models.suppression import threshold
from models.synthetic import START_MS, autocorrelated, bursts, daily, times, with_shift

STEP = 900_000
DAY = 96  # rows
DAYS = 14
N = DAY * DAYS
WEEK_MS = 7 * 86_400_000
#: Rows from the end at which the anomaly begins, and how long it lasts.
BACK, LASTS = 40, 6


class Case(NamedTuple):
    """Times, values, how often a week the oddity may alert, and the row at which it comes, if it
    comes at one: there it may be told, within a day, in at most so many alerts."""

    t: np.ndarray
    v: np.ndarray
    a_week: float = 2.0
    at: int | None = None
    told: int = 4


def usual(seed=1):
    return times(N, STEP), daily(N, seed, DAY)


def rhythm(local_ms, seed):
    phase = 2 * np.pi * local_ms / 86_400_000
    rng = np.random.default_rng(seed)
    return 50 + 10 * np.sin(phase) + 4 * np.cos(2 * phase) + autocorrelated(len(phase), rng)


def gaps():
    t, v = usual()
    keep = np.random.default_rng(1).random(N) > 0.2
    for day in (4, 7, 9):
        keep[day * DAY : day * DAY + 30] = False
    keep[10 * DAY : 11 * DAY + 7] = False
    return Case(t[keep], v[keep])


def irregular_steps():
    t = START_MS + np.cumsum(np.random.default_rng(2).exponential(STEP, N)).astype(np.int64)
    return Case(t, rhythm(t, 2))


def jittering_steps():
    t, v = usual()
    return Case(np.sort(t + np.random.default_rng(3).integers(-300_000, 300_000, N)), v)


def constant():
    return Case(times(N, STEP), np.full(N, 42.0), 0.0)


def constant_that_is_set_anew():
    v = np.full(N, 42.0)
    v[6 * DAY + 5 :] = 43.0
    return Case(times(N, STEP), v, 0.5, 6 * DAY + 5)


def few_values():
    v = daily(N, 4, DAY) / 10 - 5 + np.random.default_rng(4).normal(size=N) / 4
    return Case(times(N, STEP), np.clip(np.round(v), 0, 3), 3.0)


def on_and_off():
    return Case(times(N, STEP), (np.random.default_rng(5).random(N) < 0.3) * 1.0)


def sparse_events():
    return Case(times(N, STEP), bursts(N, 6, 0.01), 4.0)


def counter_that_restarts():
    """Not declared as one: each restart may be told."""
    v = np.cumsum(daily(N, 7, DAY))
    for at in (4 * DAY, 9 * DAY + 30):
        v[at:] -= v[at - 1]
    return Case(times(N, STEP), v, 3.0)


def level_shift():
    t, v = usual()
    return Case(t, with_shift(v, 8 * DAY + 10, 15.0), at=8 * DAY + 10)


def clocks_put_back():
    """A local rhythm in UTC: from one day on everything is an hour earlier."""
    t = times(N, STEP)
    return Case(t, rhythm(np.where(np.arange(N) < 8 * DAY, t, t + 3_600_000), 8), at=8 * DAY)


def units_a_thousand_times_smaller():
    t, v = usual()
    v = v.copy()
    v[8 * DAY + 10 :] *= 1000
    return Case(t, v, at=8 * DAY + 10)


def units_1024_times_larger():
    t, v = usual()
    v = v.copy()
    v[8 * DAY + 10 :] /= 1024
    return Case(t, v, at=8 * DAY + 10)


def steps_that_change():
    """Five minutes, then thirty, then fifteen; in the first day some are about the rhythm."""
    rows = ((288 * 3, 300_000), (48 * 6, 1_800_000), (96 * 5, 900_000))
    t = START_MS + np.cumsum(np.concatenate([np.full(n, step) for n, step in rows]))
    return Case(t, rhythm(t, 9), 3.5)


def late_and_double_rows():
    t, v = usual()
    again = np.sort(np.random.default_rng(10).choice(N, N // 10, replace=False))
    order = np.argsort(np.concatenate([t, t[again] + 1000]), kind="stable")
    late = np.concatenate([t, t[again] + 1000])[order]
    late[200:203] = late[203]  # what came late counts as of then
    return Case(late, np.concatenate([v, v[again]])[order])


def huge():
    return Case(times(N, STEP), daily(N, 11, DAY) * 1e140)


def tiny():
    return Case(times(N, STEP), daily(N, 12, DAY) * 1e-290)


def far_from_zero():
    return Case(times(N, STEP), daily(N, 13, DAY) + 1e9)


def negative():
    return Case(times(N, STEP), -daily(N, 14, DAY))


def missing_and_infinite():
    t, v = usual()
    rng = np.random.default_rng(15)
    v = v.copy()
    v[rng.random(N) < 0.05] = np.nan
    v[rng.random(N) < 0.01] = np.inf
    v[rng.random(N) < 0.01] = -np.inf
    return Case(t, v)


CASES = {
    make.__name__: make
    for make in (
        gaps,
        irregular_steps,
        jittering_steps,
        constant,
        constant_that_is_set_anew,
        few_values,
        on_and_off,
        sparse_events,
        counter_that_restarts,
        level_shift,
        clocks_put_back,
        units_a_thousand_times_smaller,
        units_1024_times_larger,
        steps_that_change,
        late_and_double_rows,
        huge,
        tiny,
        far_from_zero,
        negative,
        missing_and_infinite,
    )
}


class Judged(NamedTuple):
    case: Case
    begins: int
    scores: Scores
    loud: np.ndarray


@pytest.fixture(scope="module", params=CASES)
def judged(request):
    case = CASES[request.param]()
    values = case.v.copy()
    begins = len(values) - BACK
    before = values[:begins][np.isfinite(values[:begins])]
    # far above what there ever was: nobody would call it normal
    far = before.max() + 2 * (np.ptp(before[-300:]) or np.abs(before).max())
    values[begins : begins + LASTS] = far
    scores = Detector().fit(case.t, values).scores_
    rows_a_week = len(values) * WEEK_MS / (case.t[-1] - case.t[0])
    loud = np.flatnonzero(scores.alert >= threshold(1.0, rows_a_week))
    return Judged(case._replace(v=values), begins, scores, loud)


def test_numbers_are_finite_and_in_range(judged):
    scores = judged.scores
    for values in (scores.score, scores.alert, scores.expected, scores.lower, scores.upper):
        assert values.shape == judged.case.t.shape
        assert np.isfinite(values).all()
    for values in (scores.score, scores.alert):
        assert ((values >= 0) & (values <= LARGEST_SCORE)).all()
    assert (scores.lower <= scores.expected).all()
    assert (scores.expected <= scores.upper).all()


def test_no_row_is_judged_by_what_comes_after_it(judged):
    case, n = judged.case, int(0.6 * len(judged.case.t))
    part = Detector().fit(case.t[:n], case.v[:n]).scores_
    whole = judged.scores
    assert np.allclose(part.score, whole.score[:n], atol=1e-6)
    assert np.allclose(part.alert, whole.alert[:n], atol=1e-6)
    size = 1e-6 * np.nanmax(np.abs(np.where(np.isfinite(case.v), case.v, np.nan)))
    for field in ("expected", "lower", "upper"):
        assert np.allclose(getattr(part, field), getattr(whole, field)[:n], atol=size), field


def test_there_is_no_storm_of_alerts(judged):
    case, loud = judged.case, judged.loud
    quiet = loud[loud < judged.begins]
    if case.at is not None:
        day = (quiet >= case.at) & (quiet < case.at + DAY)
        assert day.sum() <= case.told
        quiet = quiet[~day]
    weeks = (case.t[judged.begins] - case.t[0]) / WEEK_MS
    assert len(quiet) <= case.a_week * weeks


def test_the_anomaly_is_found_at_once(judged):
    case, during = judged.case, slice(judged.begins, judged.begins + LASTS)
    rows_a_week = len(case.t) * WEEK_MS / (case.t[-1] - case.t[0])
    assert judged.scores.alert[during].max() >= threshold(2.0, rows_a_week)


def test_scores_are_normal_again_a_day_after_a_change(judged):
    later = slice(0 if judged.case.at is None else judged.case.at + DAY, judged.begins)
    assert (judged.scores.score[later] >= 0.999).mean() < 0.025


@pytest.mark.parametrize("make", [daily, lambda rows: np.full(rows, 7.0), bursts])
def test_the_band_of_the_first_rows_holds_what_has_been_seen(make):
    v = make(200)
    scores = Detector().fit(times(200), v).scores_
    seen = slice(1, 60)
    assert (scores.lower[seen] <= np.minimum.accumulate(v)[seen] + 1e-9).all()
    assert (scores.upper[seen] >= np.maximum.accumulate(v)[seen] - 1e-9).all()


def test_a_change_of_units_is_followed():
    case = units_a_thousand_times_smaller()
    scores = Detector().fit(case.t, case.v).scores_
    later = slice(case.at + 2 * DAY, None)
    inside = (case.v >= scores.lower) & (case.v <= scores.upper)
    assert inside[later].mean() > 0.9
    assert np.median(np.abs(scores.expected - case.v)[later]) < 0.1 * np.median(case.v[later])
