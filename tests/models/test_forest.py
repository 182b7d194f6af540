"""scikit-learn is the oracle."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest as Reference
from sklearn.metrics import roc_auc_score

from models.forest import (
    IsolationForest,
    expected_length,
    from_sklearn,
    grow,
    path_lengths,
)


def data(seed: int, rows: int = 1500, columns: int = 8):
    rng = np.random.default_rng(seed)
    train = rng.normal(size=(rows, columns))
    test = np.vstack([rng.normal(size=(800, columns)), 2.2 * rng.normal(size=(100, columns))])
    return train, test, np.repeat([0, 1], [800, 100])


@pytest.mark.parametrize("sample", [64, 100, 256])
def test_the_same_trees_give_the_same_scores(sample):
    train, test, _ = data(1)
    reference = Reference(n_estimators=40, max_samples=sample, random_state=3).fit(train)
    assert np.allclose(
        from_sklearn(reference).score(test), -reference.score_samples(test), atol=1e-6
    )


def test_ranks_as_well_as_the_reference():
    train, test, label = data(2)
    ours = [
        roc_auc_score(label, IsolationForest(100, 256, s).fit(train).score(test)) for s in (0, 1)
    ]
    theirs = [
        roc_auc_score(
            label, -Reference(n_estimators=100, random_state=s).fit(train).score_samples(test)
        )
        for s in (0, 1)
    ]
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.02
    assert np.mean(ours) > 0.9


def test_scores_are_on_the_reference_scale():
    train, test, _ = data(3)
    ours = IsolationForest(100, 256).fit(train).score(test)
    theirs = -Reference(n_estimators=100, random_state=0).fit(train).score_samples(test)
    assert abs(ours.mean() - theirs.mean()) < 0.01
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95


def test_many_series_at_once_are_many_forests():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 300, 4)).astype(np.float32) * np.arange(1, 6)[:, None, None]
    X = X.astype(np.float32)
    heaps = grow(X, 50, 128, np.random.default_rng(1))
    far = np.full((5, 2, 4), 8.0, np.float32)
    lengths = path_lengths(heaps, far)
    assert lengths.shape == (5, 2)
    assert np.all(np.diff(lengths[:, 0]) > 0)  # 8 is further out for the narrow series


def test_constant_rows_end_at_once():
    forest = IsolationForest(10, 64).fit(np.ones((200, 3)))
    assert np.allclose(forest.score(np.ones((4, 3))), forest.score(np.zeros((4, 3))))
    assert np.isfinite(forest.score(np.ones((1, 3)))).all()


def test_expected_length_of_the_paper():
    assert np.allclose(expected_length(np.array([1, 2])), [0, 1])
    assert expected_length(np.array(256)) == pytest.approx(10.244, abs=1e-3)
