"""Why a point has its score, in numbers and in a sentence."""

from dataclasses import dataclass

from models.features import FEATURES


@dataclass(frozen=True, slots=True)
class Explanation:
    """One point: what was seen and expected, and who found it unusual.

    `surprises` has each member's -log10 p, `features` each feature's z value, `member` and
    `feature` name the largest of them.
    """

    t_ms: int
    score: float
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
