"""How far what a model says has departed from what it said when it was trained: pure functions."""

import numpy as np

from service.storage.columns import Columns, Values

#: Drift above which a model no longer fits: its series is trained anew without waiting.
DRIFTED = 0.5
#: Rows of which fewer tell nothing, and how many of the newest are looked at.
ROWS_MIN, ROWS = 64, 512
#: Parts that the newest rows are cut into: rows side by side are alike, parts less so.
_PARTS = 8


def drift(scores: Values) -> float | None:
    """How far the newest scores (n,) of a series lie from uniform: 0 to 1; None of too few.

    Scores of a model that fits are uniform; the largest difference between the share of them below
    a value and that value (Kolmogorov and Smirnov) is near 0 then, and 1 - x where all lie above x.
    What chance alone makes of scores as dependent as these is taken off.
    """
    seen = scores[np.isfinite(scores)][-ROWS:]
    n = len(seen)
    if n < ROWS_MIN:
        return None
    away = _distance(seen)
    chance = _chance(seen)
    return float(max(0.0, (away - chance) / (1.0 - chance)))


def covered(values: Columns, lower: Columns, upper: Columns) -> tuple[float | None, int]:
    """Share of values inside the band that was told of their times, and of how many."""
    at, mine, low = np.intersect1d(values.t, lower.t, assume_unique=True, return_indices=True)
    _, of_at, high = np.intersect1d(at, upper.t, assume_unique=True, return_indices=True)
    v = values.v[mine[of_at]]
    inside = (v >= lower.v[low[of_at]]) & (v <= upper.v[high])
    known = np.isfinite(v)
    return (float(inside[known].mean()), int(known.sum())) if known.any() else (None, 0)


def _distance(scores: Values) -> float:
    ordered, n = np.sort(scores), len(scores)
    steps = np.arange(n + 1) / n
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def _chance(scores: Values) -> float:
    """The distance that one in a hundred uniform stretches of as many independent rows exceeds.

    So many count as independent as explain how far means of parts differ.
    """
    n = len(scores)
    length = n // _PARTS
    means = scores[-length * _PARTS :].reshape(_PARTS, length).mean(axis=1)
    within = float(scores.var())
    worth = within / max(float(means.var(ddof=1)), within / length, 1e-12)
    return min(0.5, 1.63 / float(np.sqrt(max(1.0, worth * _PARTS))))
