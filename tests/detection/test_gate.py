"""A new model is taken if it is no worse; the limits hold in simulations (see docs/models.md)."""

import numpy as np
import pytest

from models.synthetic import errors, latency, machine, web
from service.detection import gate
from service.detection.fitting import FitOptions, Trained, train_series
from service.detection.gate import REFUSALS_MAX, Labels

N, NEW, STEP = 1200, 120, 300_000
T = 1_700_000_000_000 + STEP * np.arange(N)


def values(seed: int) -> np.ndarray:
    family = (web, latency, machine, errors)[seed % 4]
    return family(seed, clean=True).values[:N]


def trained(v: np.ndarray, upto: int = N, before: Trained | None = None, **more) -> Trained:
    arrays = None if before is None else before.arrays
    return train_series(T[:upto], v[:upto], FitOptions(before=arrays, **more))


@pytest.mark.parametrize("seed", range(4))
def test_as_good_a_model_is_taken(seed: int) -> None:
    v = values(seed)
    old = trained(v, N - NEW)
    assert old.gate.decision == "first"
    found = trained(v, before=old).gate
    assert (found.decision, found.refusals) == ("taken", 0), found.why
    assert found.figures["error"] < gate.WORSE * found.figures["error_before"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("harm", ["scaled", "noise"])
def test_a_model_of_what_was_wrong_is_not_taken(seed: int, harm: str) -> None:
    v = values(seed)
    old = trained(v, N // 2)
    wrong = v.copy()
    if harm == "scaled":
        wrong[N // 2 : N - NEW] *= 10
    else:
        size = 5 * v.std()
        wrong[N // 2 : N - NEW] += np.random.default_rng(seed).normal(0, size, N // 2 - NEW)
    found = trained(wrong, before=old).gate
    assert (found.decision, found.refusals) == ("kept", 1), found.figures
    assert "instead of" in found.why


def test_what_goes_on_is_the_new_normal_after_some_refusals() -> None:
    v = values(0)
    old = trained(v, N // 2)
    v[N // 2 : N - NEW] *= 10
    last = trained(v, before=old, refusals=REFUSALS_MAX - 1).gate
    assert (last.decision, last.refusals) == ("kept", REFUSALS_MAX)
    found = trained(v, before=old, refusals=REFUSALS_MAX).gate
    assert (found.decision, found.refusals) == ("taken", 0)
    assert "for good" in found.why


def test_what_cannot_be_compared_is_taken() -> None:
    v = values(1)
    few = trained(v, before=trained(v, N - 20)).gate
    assert few.decision == "taken"
    assert "fewer than 48 rows" in few.why
    coarse = train_series(T[: N // 2] * 2 - T[0], v[: N // 2], FitOptions())
    assert "other steps" in trained(v, before=coarse).gate.why


def test_incidents_that_people_confirmed_count() -> None:
    t, v = T, values(0)
    old = trained(v, N - NEW)
    late = v.copy()
    late[-30:-20] += 20 * v.std()
    span = ((int(t[-30]), int(t[-21])),)
    new = trained(late, before=old, labels=Labels(useful=span))
    assert new.gate.decision == "taken", new.gate.why
    assert new.gate.figures["missed"] == 0
    # one that sees nothing, and one that sees what people called noise
    blind, loud = np.zeros(4), np.full(4, 0.9999)
    said = [gate.Scores(t[:4], score, score, v[:4], v[:4], v[:4]) for score in (blind, loud)]
    spans = ((int(t[1]), int(t[2])),)
    assert "misses 1" in gate._seen(said[1], said[0], Labels(useful=spans)).says
    assert gate._seen(said[0], said[1], Labels(useful=spans)).says == ""
    assert "1 more" in gate._seen(said[0], said[1], Labels(noise=spans)).says
