"""What holds for the detector as a whole, whatever it is given."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.ensemble import Detector
from models.opinions import WARM
from models.synthetic import daily, times, with_spike

ROWS = 900
T, V = times(ROWS), with_spike(daily(ROWS), 850, 40.0)


@pytest.fixture(scope="module")
def detector():
    return Detector(seed=1).fit(T, V)


def test_another_seed_says_nearly_the_same(detector):
    other = Detector(seed=2).fit(T, V).scores_
    assert spearmanr(detector.scores_.score[WARM:], other.score[WARM:]).statistic > 0.9
    assert min(detector.scores_.score[850], other.score[850]) > 0.99
    assert np.array_equal(detector.scores_.expected, other.expected)  # no chance is in it


def test_it_leaves_what_it_is_given_alone():
    t, v = T.copy(), V.copy()
    v[300:310] = np.nan
    kept = v.copy()
    t.setflags(write=False)
    v.setflags(write=False)
    Detector().fit(t, v).score(t, v, 5)
    assert np.array_equal(v, kept, equal_nan=True)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows_can_be_scored(detector, rows):
    t, v = T[-1] + 300_000 * np.arange(1, rows + 1), np.full(rows, 50.0)
    scores = detector.score(t, v, rows)
    assert scores.score.shape == scores.alert.shape == (rows,)
    assert np.isfinite(scores.score).all()
    assert np.isfinite(scores.expected).all()


@pytest.mark.parametrize("factor", [1e-9, 1024.0, 1e9])
def test_units_do_not_matter(detector, factor):
    scores = Detector(seed=1).fit(T, V * factor).scores_
    assert np.allclose(scores.score, detector.scores_.score, atol=0.02)
    assert np.allclose(scores.expected, detector.scores_.expected * factor, rtol=1e-3)


def test_neither_does_where_zero_is(detector):
    scores = Detector(seed=1).fit(T, V + 1e6).scores_
    assert np.abs(scores.score - detector.scores_.score).mean() < 0.02  # rounding decides ties
    assert scores.score[850] > 0.99
    assert np.allclose(scores.expected, detector.scores_.expected + 1e6, atol=0.01)


def test_neither_does_which_way_up_it_is(detector):
    scores = Detector(seed=1).fit(T, -V).scores_
    assert np.abs(scores.score - detector.scores_.score).mean() < 0.02
    assert scores.score[850] > 0.99


def test_neither_does_the_year(detector):
    later = T + 3650 * 86_400_000
    assert np.allclose(Detector(seed=1).fit(later, V).scores_.score, detector.scores_.score)


GROWING = """
import json, time
from pathlib import Path
from models.ensemble import Detector
from models.synthetic import daily, times

for rows in (15_000, 45_000):
    begun = time.process_time()
    detector = Detector().fit(times(rows, 60_000), daily(rows, period=1440))
    seconds = time.process_time() - begun
    learned = sum(array.nbytes for array in detector.to_arrays().values())
    print(json.dumps([seconds / rows, learned]))
# not ru_maxrss, which begins with what the parent held
(peak,) = [s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM")]
print(int(peak.split()[1]))
"""


@pytest.mark.slow
def test_long_histories_cost_time_by_the_row_and_no_more_memory():
    """A million rows cost what these do by the row: what is looked back on has an end."""
    done = subprocess.run(
        [sys.executable, "-c", GROWING], capture_output=True, text=True, check=True, timeout=600
    )
    short, long, kilobytes = map(json.loads, done.stdout.splitlines())
    assert long[0] < 1.5 * short[0]
    assert long[1] < 2 * short[1] < 2_000_000
    assert kilobytes < 500_000
