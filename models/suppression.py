"""The alert stream: an ongoing anomaly speaks once, and how often alerts that strong come is known.

A row speaks if it is stranger than everything of the last `MEMORY` rows by some margin: the first
of an anomaly does, and later only what is worse still. On normal data the strengths of rows that
speak fall off like an exponential, so two numbers tell the rate of any strength: how many reach
`BASE`, and by how much they exceed it on average.
"""

from typing import Self

import numpy as np

from models.base import Array, ArrayMap, Arrays, floats
from models.robust import windows

#: Rows that a row must stand out from, and by which factor.
MEMORY, MARGIN = 100, 1.1
#: Strengths below are of no interest. So many rows out of one reach it on normal data of many
#: series, and exceed it by so much on average.
BASE, USUAL_RATE, USUAL_EXCESS = 2.5, 0.0055, 0.9
#: What the series' own must argue against: rows that reach `BASE`, for its rate and its excess.
RATE_WEIGHT, EXCESS_WEIGHT = 40.0, 100.0
#: No single row counts for more: it may be an anomaly.
LARGEST_EXCESS = 2.5
#: Least and largest -log10 p of an alert.
LARGEST_RARITY = 12.0


def records(strength: Array, start: int = 0) -> Array:
    """Strengths (n - start,) of the rows from `start` on that speak, 0 for the others.

    `strength` (n,) ≥ 0; the rows before `start` are those that they are compared with.
    """
    n = len(strength)
    if n == start:
        return np.zeros(0)
    padded = np.concatenate((np.zeros(MEMORY), strength))[start:]
    before = windows(padded[:-1], MEMORY).max(axis=1)
    now = strength[start:]
    return np.where(now > MARGIN * before, now, 0.0)


class AlertRate:
    """How rare an alert of some strength is on the series' own normal data."""

    def __init__(self) -> None:
        self._rows, self._reached, self._excess = 0.0, 0.0, 0.0
        self.rate_, self.excess_ = USUAL_RATE, USUAL_EXCESS

    def rarity(self, alerts: Array) -> Array:
        """-log10 of the share of normal rows with an alert as strong as each of (n,), 0 for 0."""
        rarity = (alerts - BASE) / self.excess_ / np.log(10.0) - np.log10(self.rate_)
        return np.where(alerts > 0, np.clip(rarity, 0.0, LARGEST_RARITY), 0.0)

    def learn(self, alerts: Array) -> None:
        """Take rows (n,) in: their strength, 0 where they do not speak."""
        over = np.minimum(alerts[alerts >= BASE] - BASE, LARGEST_EXCESS)
        self._rows += len(alerts)
        self._reached += len(over)
        self._excess += float(over.sum())
        rate = self._reached + RATE_WEIGHT
        self.rate_ = rate / (self._rows + RATE_WEIGHT / USUAL_RATE)
        excess = self._excess + EXCESS_WEIGHT * USUAL_EXCESS
        self.excess_ = excess / (self._reached + EXCESS_WEIGHT)

    def to_arrays(self) -> Arrays:
        """Two numbers."""
        return {"rate": np.array([self.rate_, self.excess_])}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`, to be asked, not to go on learning."""
        known = cls()
        known.rate_, known.excess_ = (float(v) for v in floats(arrays, "rate"))
        return known


def threshold(alerts_a_week: float, rows_a_week: float) -> float:
    """Alert score that normal rows reach about so many times a week; at least 0."""
    return max(0.0, 1.0 - alerts_a_week / max(rows_a_week, 1e-9))
