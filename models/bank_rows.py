"""Rows of stacked series, picked without a copy where that can be."""

import numpy as np

from models.base import Integers


def run(rows: Integers) -> slice | Integers:
    """Numbers of rows (n,), n > 0, as a slice if each is one more than the one before.

    What a slice picks is a view: not to be written to, for rows picked by number are a copy.
    """
    first, n = int(rows[0]), len(rows)
    together = int(rows[-1]) - first == n - 1 and bool((np.diff(rows) == 1).all())
    return slice(first, first + n) if together else rows
