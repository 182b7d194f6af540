"""What one would do without Offbeat: plain detectors of one series, causal as ours is.

Each takes values (n,) and gives scores (n,), high where a value is unusual, 0 for the first
`models.opinions.WARM` rows. A row is judged by the rows before it alone.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest

from models.base import Array, Flags
from models.opinions import RECENT, WARM

#: Rows that the z scores look back on.
WINDOW = 2000
#: A deviation of less than this share of the level is as good as none.
_LEAST = 1e-9
#: No z score is larger; one of no deviation at all is none.
_LARGEST = 1e6
#: Rows of the running mean and deviation that the forest sees.
_SPAN = 10
_TREES, _REFIT = 50, 2000


def gaussian_z(values: Array) -> Array:
    """Distance from the mean of the rows before, in standard deviations."""
    past = _past(values)
    return _z(values, _array(past.mean()), _array(past.std()))


def robust_z(values: Array) -> Array:
    """Distance from the median of the rows before, in median absolute deviations.

    Where more than half of the values are one, in mean absolute deviations (Iglewicz and Hoaglin,
    1993).
    """
    middle = _array(_past(values).median())
    deviation = _past(np.abs(values - middle), WARM // 2)
    spread = 1.4826 * _array(deviation.median())
    mean = 1.2533 * _array(deviation.mean())
    return _z(values, middle, np.where(spread > _LEAST * np.abs(middle), spread, mean))


def isolation_forest(values: Array) -> Array:
    """scikit-learn's forest on value, change, and mean and deviation of the last rows.

    Fitted to the newest rows, and anew when there are half as many more, or `_REFIT`.
    """
    recent = pd.Series(values).rolling(_SPAN, min_periods=1)
    change = np.diff(values, prepend=values[:1])
    spread = recent.std(ddof=0).to_numpy()
    rows = np.column_stack((values, change, recent.mean().to_numpy(), spread))
    scores = np.zeros(len(values))
    start = WARM
    while start < len(values):
        stop = start + min(start // 2, _REFIT)
        forest = IsolationForest(n_estimators=_TREES, random_state=0)
        forest.fit(rows[max(0, start - RECENT) : start])
        scores[start:stop] = -forest.score_samples(rows[start:stop])
        start = stop
    return scores


#: By name, as the tables show them.
BASELINES: dict[str, Callable[[Array], Array]] = {
    "Gaussian z": gaussian_z,
    "robust z": robust_z,
    "isolation forest": isolation_forest,
}


def alarms(scores: Array, limit: float) -> Flags:
    """Alerts (n,) of a plain threshold: the first row of each run above it."""
    above = scores > limit
    return above & ~np.concatenate(([False], above[:-1]))


def limit_at(normal: Sequence[tuple[Array, Flags]], alerts: float) -> float:
    """The least threshold at which series (scores, labels) raise at most `alerts` false alarms.

    Told in hindsight, by the labels: the baselines are given what they cannot know.
    """
    every = np.unique(np.concatenate([scores for scores, _ in normal]))
    low, high = 0, len(every) - 1
    while low < high:
        middle = (low + high) // 2
        false = sum(int((alarms(s, every[middle]) & ~label).sum()) for s, label in normal)
        low, high = (low, middle) if false <= alerts else (middle + 1, high)
    return float(every[low])


def _past(values: Array, least: int = WARM) -> "pd.api.typing.Rolling[pd.Series[float]]":
    return pd.Series(values).shift(1).rolling(WINDOW, min_periods=least)


def _z(values: Array, middle: Array, spread: Array) -> Array:
    away = np.abs(values - middle)
    known = np.isfinite(spread) & np.isfinite(away)
    score = np.where(known & (away > _LEAST * np.abs(middle)), _LARGEST, 0.0)
    np.divide(away, spread, out=score, where=known & (spread * _LARGEST > away))
    score[:WARM] = 0.0
    return score


def _array(column: "pd.Series[float]") -> Array:
    return np.asarray(column.to_numpy(), np.float64)
