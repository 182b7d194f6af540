import time

import numpy as np
import pytest
from scipy.stats import kstest

from models.ensemble import LARGEST_SCORE, Detector
from models.features import FEATURES
from models.synthetic import bursts, daily, noise, times, with_flatline, with_shift, with_spike

ROWS = 2304  # eight days of five minutes


def odd_series():
    rng = np.random.default_rng(3)
    t = times(900)
    gaps = np.sort(rng.choice(900, 600, replace=False))
    missing = daily(900)
    missing[rng.random(900) < 0.3] = np.nan
    return {
        "constant": (t, np.full(900, 42.0)),
        "zeros": (t, np.zeros(900)),
        "two values": (t, (np.arange(900) % 7 == 0) * 1.0),
        "sparse": (t, bursts(900)),
        "short": (times(64), daily(64)),
        "gaps": (t[gaps], daily(900)[gaps]),
        "long gap": (np.concatenate([t[:500], t[500:] + 40 * 86_400_000]), daily(900)),
        "missing": (t, missing),
        "negative": (t, -daily(900)),
        "huge": (t, daily(900) * 1e14),
        "largest": (t, np.where(np.arange(900) % 50 == 0, 1e308, -1e308)),
        "tiny": (t, daily(900) * 1e-12),
        "counter": (t, np.cumsum(np.abs(daily(900)))),
        "ramp": (t, np.arange(900.0)),
        "events": (np.cumsum(rng.exponential(60_000, 900).astype(np.int64) + 1), noise(900)),
        "seconds": (times(900, 1000), noise(900)),
        "hours": (times(900, 3_600_000), daily(900, period=24)),
        "days": (times(200, 86_400_000), daily(200, period=7)),
        "weeks": (times(100, 7 * 86_400_000), noise(100)),
        "one freak": (t, with_spike(daily(900), 400, 1e12)),
        "infinite": (t, with_spike(daily(900), 400, np.inf)),
    }


SERIES = odd_series()


@pytest.fixture(scope="module")
def trained():
    t, v = times(ROWS + 300), daily(ROWS + 300, seed=7)
    return Detector().fit(t[:ROWS], v[:ROWS]), t, v


def top(detector, t, v, at, rows=12):
    """The highest score of the `rows` from `at` on, each scored when it was the newest."""
    return detector.score(t[: at + rows], v[: at + rows], rows).score.max()


@pytest.mark.parametrize("name", SERIES)
def test_whatever_comes_everything_stays_finite(name):
    t, v = SERIES[name]
    detector = Detector().fit(t, v)
    for scores in (detector.holdout_, detector.score(t, v, 30), detector.score(t[-5:], v[-5:], 1)):
        for values in (scores.score, scores.expected, scores.lower, scores.upper):
            assert np.isfinite(values).all()
            assert len(values) == len(scores.t_ms)
        assert ((scores.score >= 0) & (scores.score <= LARGEST_SCORE)).all()
        assert (scores.lower <= scores.expected).all()
        assert (scores.expected <= scores.upper).all()
    explanation = detector.explain(t, v)
    assert set(explanation.features) == set(FEATURES)
    assert "expected" in explanation.sentence()


@pytest.mark.parametrize("name", ["constant", "zeros", "two values", "sparse"])
def test_dull_series_alarm_nobody(name):
    t, v = SERIES[name]
    detector = Detector().fit(t[:600], v[:600])
    assert (detector.score(t, v, 300).score >= 0.999).mean() < 0.005


def test_too_short_is_an_error_with_a_reason():
    with pytest.raises(ValueError, match="a detector needs 64"):
        Detector().fit(times(63), daily(63))
    with pytest.raises(ValueError, match="0 finite rows"):
        Detector().fit(times(100), np.full(100, np.nan))


@pytest.mark.parametrize("size", [15.0, -15.0])
def test_finds_a_spike(trained, size):
    detector, t, v = trained
    assert top(detector, t, with_spike(v, ROWS + 100, size), ROWS + 100, 1) > 0.999


def test_finds_a_shift(trained):
    detector, t, v = trained
    assert top(detector, t, with_shift(v, ROWS + 100, 9.0), ROWS + 100) > 0.999


def test_finds_a_flatline(trained):
    detector, t, v = trained
    assert top(detector, t, with_flatline(v, ROWS + 30), ROWS + 30, 100) > 0.999


def test_finds_what_is_wrong_for_the_time_of_day(trained):
    detector, t, v = trained
    wrong = v.copy()
    wrong[ROWS + 72 : ROWS + 100] = v[ROWS + 216 : ROWS + 244]  # the trough where the peak belongs
    assert top(detector, t, wrong, ROWS + 72, 28) > 0.999


def test_the_normal_goes_on_quietly(trained):
    detector, t, v = trained
    assert (detector.score(t, v, 300).score >= 0.999).sum() <= 2


def test_the_first_change_of_a_constant_is_news():
    t, v = times(700), np.full(700, 42.0)
    detector = Detector().fit(t[:600], v[:600])
    assert top(detector, t, with_spike(v, 650, 5.0), 650, 1) > 0.999


@pytest.mark.parametrize("make", [daily, noise])
def test_scores_of_normal_data_are_uniform(make):
    scores = []
    for seed in (1, 2, 3):
        t, v = times(6000), make(6000, seed)
        detector = Detector().fit(t[:4000], v[:4000])
        scores.append(detector.score(t, v, 2000).score)
    score = np.concatenate(scores)
    # rows are not independent: no textbook bound, but far from it something is wrong
    assert kstest(score, "uniform").statistic < 0.12
    assert 0.04 < (score >= 0.9).mean() < 0.17
    assert (score >= 0.999).mean() < 0.003


@pytest.mark.parametrize("name", ["daily", "gaps", "missing", "events", "one freak", "long gap"])
def test_no_row_is_judged_by_what_comes_after_it(name):
    t, v = (times(1500), daily(1500, seed=4)) if name == "daily" else SERIES[name]
    whole = Detector().fit(t, v).scores_
    for n in (200, 333, len(t) - 1):
        part = Detector().fit(t[:n], v[:n]).scores_
        for field in ("score", "alert", "expected", "lower", "upper"):
            # not to the last bit: sums of blocks of other sizes are rounded otherwise
            assert np.allclose(getattr(part, field), getattr(whole, field)[:n], atol=1e-6), field


def test_an_ongoing_anomaly_speaks_once(trained):
    detector, t, v = trained
    shifted = with_shift(v, ROWS + 100, 15.0)
    scores = detector.score(t, shifted, 300)
    assert (scores.score[100:112] > 0.99).sum() >= 6
    assert (scores.alert[100:112] > 0.9).any()
    assert (scores.alert[100:] > 0).sum() < 0.2 * (scores.score[100:] > 0.9).sum()


def test_scores_are_causal_and_need_no_batch(trained):
    detector, t, v = trained
    together = detector.score(t, v, 50)
    for back in (1, 20, 50):
        end = len(t) - back + 1
        alone = detector.score(t[:end], v[:end], 1)
        assert alone.score[0] == pytest.approx(together.score[-back], abs=1e-9)
        assert alone.expected[0] == pytest.approx(together.expected[-back])


def test_a_short_context_is_completed_from_training(trained):
    detector, t, v = trained
    whole = detector.score(t[: ROWS + 40], v[: ROWS + 40], 5)
    short = detector.score(t[ROWS : ROWS + 40], v[ROWS : ROWS + 40], 5)
    assert np.allclose(whole.score, short.score)
    assert np.allclose(whole.upper, short.upper)


def test_the_expectation_does_not_follow_an_anomaly(trained):
    detector, t, v = trained
    shifted = with_shift(v, ROWS + 100, 30.0)[: ROWS + 106]
    expected = detector.score(t[: ROWS + 106], shifted, 6).expected
    assert np.abs(expected - v[ROWS + 100 : ROWS + 106]).max() < 6


def test_the_band_holds_about_99_percent(trained):
    detector, t, v = trained
    scores = detector.score(t, v, 300)
    assert ((v[-300:] >= scores.lower) & (v[-300:] <= scores.upper)).mean() > 0.96
    assert detector.quality_["coverage"] == pytest.approx(0.99, abs=0.015)
    assert (scores.upper - scores.lower).mean() < 12  # the noise has a deviation of 1


def test_bands_of_what_is_never_negative_stay_above_zero():
    t, v = times(900), np.abs(noise(900) - 100)
    assert (Detector().fit(t, v).score(t, v, 100).lower >= 0).all()


def test_arrays_hold_everything(trained):
    detector, t, v = trained
    arrays = {name: np.array(array) for name, array in detector.to_arrays().items()}
    assert all(array.dtype != object for array in arrays.values())
    assert sum(array.nbytes for array in arrays.values()) < 400_000
    again = Detector.from_arrays(arrays)
    # ranks are stored at some points only
    assert np.allclose(again.score(t, v, 40).score, detector.score(t, v, 40).score, atol=0.01)
    assert again.explain(t, v).member == detector.explain(t, v).member
    once = Detector.from_arrays(again.to_arrays())
    assert np.allclose(once.score(t, v, 40).score, again.score(t, v, 40).score)


def test_the_same_data_give_the_same_detector():
    t, v = times(800), daily(800)
    one, two = Detector(seed=1).fit(t, v), Detector(seed=1).fit(t, v)
    assert np.array_equal(one.score(t, v, 50).score, two.score(t, v, 50).score)


def test_an_explanation_names_the_culprit(trained):
    detector, t, v = trained
    end = ROWS + 101
    explanation = detector.explain(t[:end], with_spike(v, ROWS + 100, 40.0)[:end])
    assert explanation.score > 0.999
    assert explanation.seen > explanation.upper
    assert explanation.features["next"] > 5
    assert "outside" in explanation.sentence()
    assert "high" in explanation.sentence()


def test_missing_newest_values_score_zero(trained):
    detector, t, v = trained
    gone = v.copy()
    gone[-3:] = np.nan
    scores = detector.score(t, gone, 5)
    assert (scores.score[-3:] == 0).all()
    assert np.isfinite(scores.expected).all()
    only = detector.score(t[-1:] + 86_400_000, np.array([np.nan]), 1)
    assert only.score[0] == 0


def test_scoring_is_fast(trained):
    detector, t, v = trained
    took = []
    for _ in range(5):
        begun = time.process_time()
        detector.score(t[-2500:], v[-2500:], 1)
        took.append(time.process_time() - begun)
    assert min(took) < 0.015
