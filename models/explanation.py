"""Why a point has its score, in numbers and in a sentence."""

from dataclasses import dataclass

import numpy as np

from models.base import Array, Integers
from models.features import FEATURES

#: A score from which on a row is odd; so many ordinary ones in a row end an odd stretch.
ODD, ORDINARY_ROWS = 0.99, 12


@dataclass(frozen=True, slots=True)
class Explanation:
    """One point: what was seen and expected, and who found it unusual.

    `surprises` has each member's -log10 p, `features` each feature's z value, `member` and
    `feature` name the largest of them. `since_ms` is the first row of the odd stretch that it
    belongs to; None where it is not odd.
    """

    t_ms: int
    score: float
    since_ms: int | None
    seen: float
    expected: float
    lower: float
    upper: float
    member: str
    feature: str
    surprises: dict[str, float]
    features: dict[str, float]

    def sentence(self) -> str:
        """For a person: seen, expected, and what stands out most."""
        z = self.features[self.feature]
        where = "inside" if self.lower <= self.seen <= self.upper else "outside"
        return (
            f"{self.seen:.4g}, expected {self.expected:.4g} "
            f"({where} {self.lower:.4g} to {self.upper:.4g}); "
            f"most unusual: {FEATURES[self.feature]} ({abs(z):.1f} times the usual, "
            f"{'high' if z > 0 else 'low'}); found by: {self.member}"
        )


def odd_since(t_ms: Integers, score: Array) -> int | None:
    """The first of the odd rows (n,) that go on, without a long pause, to the newest one."""
    odd = np.flatnonzero(score >= ODD)
    if not len(odd) or odd[-1] != len(score) - 1:
        return None
    pauses = np.flatnonzero(np.diff(odd) > ORDINARY_ROWS)
    return int(t_ms[odd[pauses[-1] + 1] if len(pauses) else odd[0]])
