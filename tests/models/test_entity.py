"""Metrics of one entity judged together: uniform when all is well, loud when several are odd."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from models.entity import Entity

ROWS = 6000


def related(metrics, share, seed=0, rows=ROWS):
    """Scores, each uniform, that have `share` of their variance in common and some memory."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(rows, 1)), rng.normal(size=(rows, metrics))
    return norm.cdf(np.sqrt(share) * common + np.sqrt(1 - share) * own)


@pytest.mark.parametrize("metrics", [2, 5, 10])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_joint_scores_of_normal_metrics_are_uniform_however_they_depend(metrics, share):
    scores = np.concatenate(
        [Entity().fit(related(metrics, share, seed)).scores_[500:] for seed in range(3)]
    )
    assert kstest(scores, "uniform").statistic < 0.03
    assert (scores >= 0.99).mean() < 0.02
    assert (scores >= 0.999).mean() < 0.003


def test_several_metrics_a_little_odd_at_once_are_found_though_none_is_alone():
    scores = related(10, 0.05)
    scores[-1] = [0.99, 0.985, 0.99, 0.98, 0.99, 0.985, 0.99, 0.97, 0.2, 0.5]
    assert Entity().fit(scores).scores_[-1] >= 0.999


def test_metrics_that_are_always_odd_together_are_less_news():
    apart, together = related(6, 0.1), related(6, 0.95)
    for scores in (apart, together):
        scores[-1] = 0.98
    assert Entity().fit(apart).scores_[-1] > 0.999
    assert Entity().fit(together).scores_[-1] < 0.99


def test_one_odd_metric_is_not_drowned_by_ten_normal_ones():
    scores = related(11, 0.3)
    scores[-1] = 0.5
    entity = Entity().fit(scores)
    assert entity.scores_[-1] < 0.9
    scores[-1, 4] = 1 - 1e-6
    assert entity.score(scores[-1:])[0] >= 0.999


def test_the_scores_of_a_prefix_are_the_prefix_of_the_scores():
    scores = related(4, 0.5, rows=1000)
    whole = Entity().fit(scores).scores_
    for rows in (1, 31, 100, 640):
        assert Entity().fit(scores[:rows]).scores_ == pytest.approx(whole[:rows], abs=1e-12)


def test_what_was_learned_is_kept():
    scores = related(5, 0.5)
    entity = Entity().fit(scores)
    again = Entity.from_arrays(entity.to_arrays())
    new = related(5, 0.5, seed=9, rows=500)
    assert again.score(new) == pytest.approx(entity.score(new), abs=0.005)
    fresh = Entity.from_arrays(Entity().fit(scores[:10]).to_arrays())
    assert not fresh.score(new).any()


def test_missing_scores_are_as_usual_and_rows_with_one_metric_say_nothing():
    scores = related(4, 0.3)
    scores[np.random.default_rng(1).random(scores.shape) < 0.2] = np.nan
    scores[2000:2100, 1:] = np.nan
    scores[3000:3010] = np.nan
    entity = Entity().fit(scores)
    assert np.isfinite(entity.scores_).all()
    assert not entity.scores_[2000:2100].any()
    assert not entity.scores_[3000:3010].any()
    assert entity.score(np.array([[0.995, np.nan, 0.997, 0.998]]))[0] > 0.999


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_constant_scores_are_no_news(score):
    said = Entity().fit(np.full((500, 3), score)).scores_
    assert np.isfinite(said).all()
    assert (said < 0.99).all()


def test_few_rows_and_none():
    assert Entity().fit(np.zeros((0, 2))).scores_.shape == (0,)
    assert Entity().fit(np.array([[0.9, 1.0]])).scores_.tolist() == [0.0]
    assert (Entity().fit(related(3, 0.5, rows=70)).scores_ < 0.999).all()


def test_one_metric_and_another_number_of_them_are_refused():
    with pytest.raises(ValueError, match="1 metrics; together are 2"):
        Entity().fit(np.zeros((10, 1)))
    with pytest.raises(ValueError, match="3 metrics; 2 were learned"):
        Entity().fit(np.zeros((10, 2))).score(np.zeros((1, 3)))
