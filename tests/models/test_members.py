"""Every member of the ensemble goes through the same checks."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from models.density import CoreDistance
from models.features import FEATURES
from models.members import LEARNING

WIDTH = len(FEATURES)


def view(part, Z):
    return part.view(Z, np.zeros(len(Z)))


def rows(kind: str, n: int = 400):
    rng = np.random.default_rng(4)
    if kind == "normal":
        return rng.normal(size=(n, WIDTH))
    if kind == "constant":
        return np.zeros((n, WIDTH))
    if kind == "two":
        return rng.normal(size=(2, WIDTH))
    if kind == "few values":
        return rng.integers(0, 2, (n, WIDTH)).astype(float)
    return rng.normal(size=(n, WIDTH)) * 10.0 ** rng.integers(-9, 7, (n, 1))


@pytest.fixture(params=list(LEARNING))
def part(request):
    return LEARNING[request.param]


@pytest.mark.parametrize("kind", ["normal", "constant", "two", "few values", "huge"])
def test_scores_are_finite_and_not_negative(part, kind):
    X = view(part, rows(kind))
    member = part.make(0)
    assert member.fit(X) is member
    score = member.score(X)
    assert score.shape == (len(X),)
    assert np.isfinite(score).all()
    assert (score >= 0).all()


def test_far_is_higher_than_near(part):
    X = rows("normal")
    member = part.make(0).fit(view(part, X))
    far = view(part, np.full((1, WIDTH), 9.0))
    assert member.score(far)[0] > np.quantile(member.score(view(part, X)), 0.99)


def test_the_same_seed_gives_the_same_model(part):
    X = view(part, rows("normal", 900))
    assert np.array_equal(part.make(7).fit(X).score(X), part.make(7).fit(X).score(X))


def test_arrays_hold_everything(part):
    X = view(part, rows("normal"))
    member = part.make(0).fit(X)
    again = part.load({k: np.array(v) for k, v in member.to_arrays().items()})
    assert np.array_equal(again.score(X), member.score(X))
    assert all(array.dtype != object for array in member.to_arrays().values())


def test_scores_do_not_depend_on_company(part):
    X = view(part, rows("normal"))
    member = part.make(0).fit(X)
    alone = np.concatenate([member.score(X[i : i + 1]) for i in range(20)])
    assert np.allclose(alone, member.score(X)[:20], atol=1e-6)


def test_density_knows_what_dbscan_calls_noise():
    rng = np.random.default_rng(0)
    X = np.vstack(
        [rng.normal(0, 1, (150, 3)), rng.normal(8, 1, (150, 3)), rng.normal(4, 9, (9, 3))]
    )
    member = CoreDistance(neighbours=5, share=0.9, rows=1000).fit(X)
    reference = DBSCAN(eps=member.eps_, min_samples=6).fit(X)
    assert np.array_equal(member.score(X) > 1.0, reference.labels_ == -1)
    assert len(member.core_) == len(reference.core_sample_indices_)


def test_density_has_several_normals():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(0, 1, (200, 2)), rng.normal(20, 1, (200, 2))])
    near, between = CoreDistance().fit(X).score(np.array([[20.0, 20.0], [10.0, 10.0]]))
    assert between > 3 * near
