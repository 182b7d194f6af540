"""What is usual, in spite of what is not."""

import numpy as np

from models.base import Array


def winsorised_mean(values: Array, share: float = 0.98) -> float:
    """Mean of values ≥ 0 after the largest were cut to the `share` quantile; 0 for none."""
    if not len(values):
        return 0.0
    return float(np.minimum(values, np.quantile(values, share)).mean())


def typical(y: Array) -> tuple[float, float]:
    """Median and usual deviation of values (n,); the latter is never 0.

    Series that rarely leave one value (error counters) have no quartile range; then the mean
    deviation counts, and for constants a thousandth of the value.
    """
    low, middle, high = (float(q) for q in np.quantile(y, [0.25, 0.5, 0.75]))
    away = np.abs(y / 2 - middle / 2)  # halves, for the sake of the largest floats
    unit = max(
        (high / 2 - low / 2) / 0.6745,
        0.6 * winsorised_mean(away),
        0.6 * winsorised_mean(away, 0.999),
        1e-3 * abs(middle),
        1e-9,
    )
    return middle, unit
