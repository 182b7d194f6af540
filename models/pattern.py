"""What the time of day adds to a level, learned from a whole history at once.

Medians over days of what is left when each day's own level is taken away, so that neither an odd
day nor a level that changes between days disturbs it. Knows no weekdays.
"""

import numpy as np

from models.base import Array, Flags, Integers
from models.grid import Grid
from models.robust import median

#: Days that a pattern is learned from at least, and how much better it must explain other days.
DAYS_LEAST, BETTER = 3, 0.95


def day_of(t_ms: Integers) -> int:
    """Rows of a day; 0 where there is no time of day."""
    return Grid.learn(t_ms[:256]).period if len(t_ms) > 1 else 0


def without_pattern(x: Array, t_ms: Integers, day: int) -> Array:
    """Values (n,) less what each time of the day usually adds to its day's level.

    Unchanged without three days, or if the pattern of some days does not explain others.
    """
    if not day:
        return x
    grid = Grid.learn(t_ms[:256])
    index = grid.index(t_ms)
    index = index - index[-1] - 1  # whole days up to the newest row
    days = -int(index[0]) // day + 1
    if days < DAYS_LEAST + 1 or days * day > 4 * len(x):
        return x
    place = index + days * day
    table = np.full(days * day, np.nan)
    table[place] = x
    table = table.reshape(days, day)[1:]  # the first is a part of a day
    seen: Flags = np.isfinite(table)
    full = seen.mean(axis=1) >= 0.5
    table, seen = table[full], seen[full]
    if len(table) < DAYS_LEAST:
        return x
    middle = np.array([median(row[known]) for row, known in zip(table, seen, strict=True)])
    table = table - middle[:, None]
    others = table[::2]
    away = np.abs(others - _usual(table[1::2]))[seen[::2]]
    if away.mean() >= BETTER * np.abs(others[seen[::2]]).mean():
        return x
    pattern = _usual(table)
    return np.asarray(x - (pattern - np.median(pattern))[place % day])


def _usual(table: Array) -> Array:
    """Median of each column of (days, day) but for NaN; 0 where there is nothing else."""
    ordered = np.sort(table, axis=0)  # NaN sorts to the end
    count = np.isfinite(table).sum(axis=0)
    column = np.arange(table.shape[1])
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, len(table) - 1)
    return np.where(count > 0, (ordered[low, column] + ordered[high, column]) / 2, 0.0)
