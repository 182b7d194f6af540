"""What is usual, in spite of what is not."""

import numpy as np

from models.base import Array


def windows(x: Array, width: int) -> Array:
    """Every stretch of `width` values of (n,), contiguous: a view (n - width + 1, width).

    As `sliding_window_view`, which takes many times as long to say so.
    """
    size = x.itemsize
    return np.ndarray((len(x) - width + 1, width), x.dtype, x, 0, (size, size))


def mean(values: Array) -> float:
    """Mean of values (n,), n ≥ 1, without what `np.mean` spends on a few values."""
    return float(np.add.reduce(values)) / len(values)


def median(values: Array) -> float:
    """Median of values (n,), n ≥ 1, no NaN: that of `np.median`, in a fraction of the time.

    To look for one place is much faster than for the two in the middle.
    """
    n, half = len(values), len(values) // 2
    ordered = values.copy()
    ordered.partition(half)
    upper = float(ordered[half])
    return upper if n % 2 else (float(ordered[:half].max()) + upper) / 2.0


def row_medians(rows: Array) -> Array:
    """Medians (n,) of rows (n, m), m ≥ 1, none of them NaN."""
    m = rows.shape[1]
    ordered = np.sort(rows, axis=1)
    return np.asarray((ordered[:, (m - 1) // 2] + ordered[:, m // 2]) / 2.0)


def mean_and_spread(rows: Array) -> tuple[Array, Array]:
    """Mean and standard deviation (n,) of rows (n, m), m ≥ 1: two sums instead of four."""
    m = rows.shape[1]
    middle = np.add.reduce(rows, axis=1) / m
    away = rows - middle[:, None]
    away *= away
    return middle, np.sqrt(np.add.reduce(away, axis=1) / m)


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
