"""What is not trusted is judged and not learned from."""

import numpy as np
import pytest

from models.ensemble import ROWS_MIN, Detector
from models.synthetic import daily, noise, times
from models.trust import AGAIN, inside, spans, without

DAY, STEP_MS = 144, 600_000
ROWS, NEW = 8 * DAY, DAY
BEGIN, END = 5 * DAY + 50, 6 * DAY + 50
T = times(ROWS + NEW, STEP_MS)
CLEAN = daily(ROWS + NEW, seed=7, period=DAY)
TRUSTED = np.ones(ROWS, np.bool_)
TRUSTED[BEGIN:END] = False


def with_incident():
    values = CLEAN.copy()
    values[BEGIN:END] += 40 + 10 * np.random.default_rng(1).normal(size=END - BEGIN)
    return values


SICK = with_incident()


@pytest.fixture(scope="module")
def fitted():
    return {
        "clean": Detector().fit(T[:ROWS], CLEAN[:ROWS]),
        "marked": Detector().fit(T[:ROWS], SICK[:ROWS], TRUSTED),
        "unmarked": Detector().fit(T[:ROWS], SICK[:ROWS]),
    }


def width(scores, rows=slice(None)):
    return float((scores.upper - scores.lower)[rows].mean())


def test_a_marked_day_leaves_what_follows_as_it_would_have_been(fitted):
    clean, marked, unmarked = (fitted[name].scores_ for name in ("clean", "marked", "unmarked"))
    after = slice(END, ROWS)
    assert width(marked, after) == pytest.approx(width(clean, after), rel=0.2)
    assert width(unmarked, after) > 2 * width(clean, after)
    expected = np.abs(marked.expected - clean.expected)[after]
    assert expected.mean() < 0.5  # the noise has a deviation of 1
    assert abs(marked.score[after].mean() - clean.score[after].mean()) < 0.12
    assert (marked.score[after] >= 0.999).mean() < 0.003


def test_a_marked_day_is_judged_like_any_other(fitted):
    marked = fitted["marked"].scores_
    assert (marked.score[BEGIN:END] > 0.999).mean() > 0.9
    assert marked.alert[BEGIN : BEGIN + 12].max() > 0.99
    before = fitted["clean"].scores_.score[: BEGIN - DAY]
    assert np.array_equal(marked.score[: BEGIN - DAY], before)


def test_new_rows_are_judged_as_after_a_clean_history(fitted):
    clean = fitted["clean"].score(T, CLEAN, NEW)
    # the rows handed in still have the incident among them
    marked = fitted["marked"].score(T, SICK, NEW)
    unmarked = fitted["unmarked"].score(T, SICK, NEW)
    assert width(marked) == pytest.approx(width(clean), rel=0.2)
    assert width(unmarked) > 2 * width(clean)
    assert abs(marked.score.mean() - clean.score.mean()) < 0.12
    spike = SICK.copy()
    spike[-1] += 15
    assert fitted["marked"].score(T, spike, 1).score[0] > 0.999
    assert fitted["unmarked"].score(T, spike, 1).score[0] < 0.999


def test_to_what_is_learned_it_is_a_gap(fitted):
    gap = Detector().fit(T[:ROWS], np.where(TRUSTED, SICK[:ROWS], np.nan))
    assert np.array_equal(gap.scores_.score[TRUSTED], fitted["marked"].scores_.score[TRUSTED])
    one, other = gap.to_arrays(), fitted["marked"].to_arrays()
    learned = [name for name in one if name.startswith("learned/")]
    assert len(learned) > 20
    assert all(np.array_equal(one[name], other[name]) for name in learned)
    assert fitted["marked"].quality_["left_out_rows"] == END - BEGIN
    assert fitted["marked"].quality_["rows"] == ROWS - (END - BEGIN)


def test_trusting_everything_is_the_default(fitted):
    all_of_it = Detector().fit(T[:ROWS], CLEAN[:ROWS], np.ones(ROWS, np.bool_))
    assert np.array_equal(all_of_it.scores_.score, fitted["clean"].scores_.score)


def test_what_is_left_out_is_kept_with_the_model(fitted):
    again = Detector.from_arrays(fitted["marked"].to_arrays())
    marked = fitted["marked"].score(T, SICK, NEW)
    assert np.allclose(again.score(T, SICK, NEW).expected, marked.expected)


def test_what_was_left_out_is_missing_where_one_looks_back(fitted):
    detector = fitted["marked"]
    cleaned = detector.cleaned(T[:ROWS], SICK[:ROWS])
    assert np.array_equal(np.isnan(cleaned), ~TRUSTED)
    soon = END + 50  # it is only just over
    assert np.array_equal(detector.cleaned(T[:soon], SICK[:soon]), SICK[:soon])
    assert len(detector.cleaned(T[:0], SICK[:0])) == 0


def test_an_incident_that_goes_on_does_not_speak_again_after_a_training():
    values = CLEAN.copy()
    values[ROWS - 200 :] += 40
    trusted = np.arange(ROWS) < ROWS - 200
    detector = Detector().fit(T[:ROWS], values[:ROWS], trusted)
    scores = detector.score(T[: ROWS + 60], values[: ROWS + 60], 60)
    assert scores.score.min() > 0.99
    assert (scores.alert > 0.999).sum() == 0


@pytest.mark.parametrize("at", [END - 1, END + 100])
def test_no_row_is_judged_by_what_comes_after_it(at, fitted):
    part = Detector().fit(T[:at], SICK[:at], TRUSTED[:at]).scores_
    for field in ("score", "alert", "expected", "lower", "upper"):
        whole = getattr(fitted["marked"].scores_, field)[:at]
        # what stands in repeats itself, and distances of nothing are all rounding
        assert np.allclose(getattr(part, field), whole, atol=1e-3), field


@pytest.mark.parametrize("name", ["beginning", "middle", "end", "scattered", "events", "missing"])
def test_whatever_is_left_out_everything_stays_finite(name):
    t, v = times(500), daily(500)
    trusted = np.ones(500, np.bool_)
    if name == "scattered":
        trusted = np.random.default_rng(2).random(500) < 0.6
    else:
        begin = {"beginning": 0, "end": 250}.get(name, 200)
        trusted[begin : begin + 250] = False
    if name == "events":
        t = np.cumsum(np.random.default_rng(3).exponential(60_000, 500).astype(np.int64) + 1)
        v = noise(500)
    if name == "missing":
        v[180:300:2] = np.nan
    v[~trusted] *= 1e3
    detector = Detector().fit(t, v, trusted)
    for scores in (detector.scores_, detector.score(t, v, 30)):
        for values in (scores.score, scores.alert, scores.expected, scores.lower, scores.upper):
            assert np.isfinite(values).all()
    if name != "beginning":  # nothing is known yet that could stand in
        assert detector.scores_.upper[trusted].max() < 1e3


def test_too_little_that_is_trusted_is_too_little():
    trusted = np.arange(900) < ROWS_MIN - 1
    with pytest.raises(ValueError, match="63 finite rows"):
        Detector().fit(times(900), daily(900), trusted)


def test_what_was_before_stands_in():
    y = np.arange(20.0)
    kept = np.ones(20, np.bool_)
    kept[[2, 3]] = False
    kept[10:16] = False
    assert without(y, kept, 0)[2:4].tolist() == [1, 1]
    assert without(y, kept, 4)[10:16].tolist() == [6, 7, 8, 9, 6, 7]
    assert without(y, kept, 0)[10:16].tolist() == [0, 1, 1, 1, 4, 5]  # what stands there by then
    first = np.arange(20) >= 5
    assert without(y, first, 4).tolist() == y.tolist()
    long = np.arange(4 * AGAIN) < 2 * AGAIN
    filled = without(np.arange(4.0 * AGAIN), long, 0)
    assert filled[-AGAIN:].tolist() == np.arange(AGAIN, 2.0 * AGAIN).tolist()


def test_spans_hold_what_they_were_made_of():
    t = np.array([10, 20, 30, 40, 50])
    chosen = np.array([True, False, True, True, False])
    found = spans(t, chosen)
    assert found.tolist() == [[10, 10], [30, 40]]
    assert inside(t, found).tolist() == chosen.tolist()
    assert not inside(t, np.zeros((0, 2), np.int64)).any()
