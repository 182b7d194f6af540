"""Members of a group against each other: the odd one is found, and nobody else is called odd."""

import time

import numpy as np
import pytest
from scipy.signal import lfilter

from models.peers import ASPECTS, judge

WINDOW = 24
ROWS = 9 * WINDOW


def group(members, seed=0, rows=ROWS, noise=0.05):
    """Traffic that rises and falls for all, shared unequally."""
    rng = np.random.default_rng(seed)
    shares = np.exp(rng.normal(0, 1, members))[:, None]
    common = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(rows) / 288 + rng.random()))
    own = lfilter([0.8], [1, -0.6], rng.normal(size=(members, rows)), axis=1)
    return 100 * shares * common * (1 + noise * own)


def odd(found):
    return np.flatnonzero(found.unlike).tolist()


def test_the_odd_one_is_found_among_unequal_members():
    values = group(8)
    assert odd(judge(values, WINDOW)) == []
    values[3, -WINDOW:] *= 2
    found = judge(values, WINDOW)
    assert odd(found) == [3]
    assert found.score[3] > 0.99
    assert found.score[3] > np.delete(found.score, 3).max()
    assert ASPECTS[found.aspect[3]] == "level"
    assert found.expected[3] == pytest.approx(found.level[3] / 2, rel=0.15)
    assert found.majority.tolist() == [i != 3 for i in range(8)]


def test_a_change_shows_before_it_fills_half_of_the_window():
    values = group(8)
    values[5, -WINDOW // 3 :] *= 2
    found = judge(values, WINDOW)
    assert odd(found) == [5]


def test_one_that_came_back_is_odd_no_longer():
    values = group(8)
    values[5, -WINDOW : -WINDOW // 2] *= 2
    assert odd(judge(values, WINDOW)) == []
    values[5, -WINDOW // 2 :] /= 2
    assert odd(judge(values, WINDOW)) == [5]


def test_who_does_not_follow_the_others_is_odd():
    values = group(8)
    values[np.arange(8) != 2, -WINDOW:] *= 2
    assert odd(judge(values, WINDOW)) == [2]


def test_one_that_flutters_and_one_that_stands_still_are_odd():
    values = group(12, noise=0.02)
    rng = np.random.default_rng(1)
    values[4, -WINDOW:] *= 1 + 0.2 * rng.normal(size=WINDOW)
    values[7, -WINDOW:] = values[7, -WINDOW]
    found = judge(values, WINDOW)
    assert {4, 7} <= set(odd(found))
    assert ASPECTS[found.aspect[4]] == "roughness"
    assert found.above[4]


@pytest.mark.parametrize("change", [lambda v: v * 2, lambda v: v / 2, lambda v: v * 0])
def test_a_move_of_all_by_the_same_share_makes_nobody_odd(change):
    values = group(10)
    values[:, -WINDOW:] = change(values[:, -WINDOW:])
    assert odd(judge(values, WINDOW)) == []


def test_a_move_of_all_by_the_same_amount_makes_nobody_odd():
    rng = np.random.default_rng(2)
    values = 20 + 5 * rng.normal(size=(10, 1)) + rng.normal(size=(10, ROWS))
    values[:, -WINDOW:] += 40
    assert odd(judge(values, WINDOW)) == []
    values[6, -WINDOW:] += 20
    assert odd(judge(values, WINDOW)) == [6]


def test_normal_groups_are_left_alone():
    called = sum(judge(group(m, seed), WINDOW).unlike.sum() for seed in range(25) for m in (4, 20))
    assert called / (25 * 24) < 0.005


def bursts(members, seed):
    """Nothing most of the time, and now and then something for eight rows."""
    rng = np.random.default_rng(seed)
    values = np.zeros((members, ROWS))
    for member, start in enumerate(rng.integers(0, ROWS - 8, members).tolist() * 2):
        values[member % members, start : start + 8] += rng.poisson(5, 8)
    return values


def sparse(members, seed):
    rng = np.random.default_rng(seed)
    return (rng.random((members, ROWS)) < 0.05) * rng.poisson(3.0, (members, ROWS))


def rounded(members, seed):
    return np.round(50 + np.random.default_rng(seed).normal(0, 0.3, (members, ROWS)))


@pytest.mark.parametrize("kind", [bursts, sparse, rounded])
def test_what_members_do_now_and_then_is_no_news(kind):
    called = sum(judge(kind(10, seed), WINDOW).unlike.sum() for seed in range(20))
    assert called / 200 <= 0.04
    values = kind(10, 0).astype(float)
    values[0, -WINDOW:] += 60
    assert odd(judge(values, WINDOW)) == [0]


def test_scores_of_normal_members_are_about_uniform():
    scores = np.concatenate([judge(group(50, seed), WINDOW).score for seed in range(20)])
    assert 0.4 < np.median(scores) < 0.65
    assert (scores >= 0.9).mean() < 0.2
    assert (scores >= 0.999).mean() < 0.005


def test_two_natural_clusters_are_no_outliers():
    values = group(20)
    values[:10, -WINDOW:] *= 3  # half of the servers got the new version
    found = judge(values, WINDOW)
    assert odd(found) == []
    levels = np.where(np.arange(20)[:, None] < 10, 5.0, 500.0)
    apart = levels * (1 + 0.02 * np.random.default_rng(3).normal(size=(20, ROWS)))
    assert odd(judge(apart, WINDOW)) == []
    apart[0, -WINDOW:] *= 2
    assert odd(judge(apart, WINDOW)) == [0]


def test_a_pair_that_went_off_together_is_odd():
    values = group(20)
    values[:2, -WINDOW:] *= 3
    assert odd(judge(values, WINDOW)) == [0, 1]


def test_where_nobody_agrees_nobody_is_odd():
    values = group(9)
    values[:, -WINDOW:] *= np.linspace(0.2, 3, 9)[:, None]
    assert odd(judge(values, WINDOW)) == []


def test_small_groups_say_nothing():
    values = group(3)
    values[0, -WINDOW:] *= 10
    found = judge(values, WINDOW)
    assert odd(found) == []
    assert found.score.tolist() == [0, 0, 0]


@pytest.mark.parametrize("level", [0.0, 42.0, -7.0, 1e14, 1e-12])
def test_identical_members_and_constants(level):
    values = np.full((6, ROWS), level)
    found = judge(values, WINDOW)
    assert odd(found) == []
    assert found.expected == pytest.approx(values[:, -1])
    values[1, -WINDOW:] += max(abs(level), 1.0)
    assert odd(judge(values, WINDOW)) == [1]


def test_missing_values_and_members():
    rng = np.random.default_rng(4)
    values = group(8)
    values[3, -WINDOW:] *= 2
    values[rng.random(values.shape) < 0.4] = np.nan
    values[5] = np.nan  # never seen
    values[6, -WINDOW:] = np.nan  # gone
    values[7, : -2 * WINDOW] = np.nan  # new
    values[0, 10] = np.inf
    found = judge(values, WINDOW)
    assert odd(found) == [3]
    assert found.known.tolist() == [True, True, True, True, True, False, False, True]
    assert np.isnan(found.expected[[5, 6]]).all()
    assert not found.score[[5, 6]].any()
    assert np.isfinite(found.score).all()


def test_an_empty_group_and_one_without_values():
    assert len(judge(np.zeros((0, ROWS)), WINDOW).score) == 0
    assert not judge(np.full((5, ROWS), np.nan), WINDOW).known.any()
    assert not judge(np.zeros((5, 0)), WINDOW).known.any()


def test_one_point_only():
    found = judge(np.array([[0.03], [0.04], [0.05], [0.035], [0.31], [0.045]]), 2)
    assert odd(found) == [4]
    assert odd(judge(np.array([[1.0], [2.0], [3.0], [4.0]]), 2)) == []
    assert odd(judge(np.full((5, 1), 3.0), 2)) == []


def test_a_new_member_is_compared_with_where_the_others_are():
    rng = np.random.default_rng(5)
    values = 10 + rng.normal(size=(8, ROWS))
    values[0, :-WINDOW] = np.nan
    assert odd(judge(values, WINDOW)) == []
    values[0, -WINDOW:] += 100
    assert odd(judge(values, WINDOW)) == [0]


def test_an_outlier_of_before_hides_none_of_now_and_stays_one_for_a_while():
    values = group(8)
    values[2, -3 * WINDOW :] *= 2
    assert odd(judge(values, WINDOW)) == [2]


def test_only_the_order_of_members_differs():
    values = group(9)
    values[3, -WINDOW:] *= 2
    order = np.random.default_rng(6).permutation(9)
    one, other = judge(values, WINDOW), judge(values[order], WINDOW)
    assert one.score[order] == pytest.approx(other.score)
    assert one.unlike[order].tolist() == other.unlike.tolist()


def test_extreme_values_stay_finite():
    values = group(6)
    values[0] *= 1e300
    values[1, -5:] = -1e308
    values[2] *= 1e-300
    with np.errstate(all="raise", under="ignore"):
        found = judge(values, WINDOW)
    assert np.isfinite(found.score).all()


def test_a_window_of_one_column_is_refused():
    with pytest.raises(ValueError, match="two halves need 2"):
        judge(group(5), 1)


def test_a_thousand_members_take_well_under_a_second():
    values = group(1000)
    values[0, -WINDOW:] *= 3
    judge(values, WINDOW)
    begun = time.process_time()
    found = judge(values, WINDOW)
    assert time.process_time() - begun < 0.5
    assert odd(found) == [0]


def test_more_members_than_are_clustered_are_judged_alike():
    values = group(2500, noise=0.02)
    values[:2, -WINDOW:] *= 3
    values[1000:2000, -WINDOW:] *= 2  # four in ten have another version
    found = judge(values, WINDOW)
    assert found.unlike[:2].all()
    assert found.unlike.mean() < 0.003
    assert found.majority.sum() == pytest.approx(1500, abs=10)
