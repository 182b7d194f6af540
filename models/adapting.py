"""When to learn sooner: a series that settled at another level is judged by the new one in a day.

Rows are judged in blocks by what was learned before them. Where a block is longer than a day, a new
level would go on being news for as long as the block lasts, so that a block ends early, at a day's
end, once a change point (`models.changepoint`) has shown in it.
"""

import numpy as np

from models.base import Array
from models.changepoint import latest
from models.grid import DAY_MS
from models.robust import row_medians

#: Days after a change in which every day is learned from by itself, and days that it is unlike.
DAYS, BEFORE = 3, 7
#: Rows that are searched for a change.
ROWS = 2048


def early_end(x: Array, start: int, stop: int, day: int) -> int:
    """Where the block that begins at `start` ends: at `stop`, or before if the level has changed.

    `x` (n,) are values on a grid with `day` rows a day. Whether a block ends at some row is decided
    by the rows before it.
    """
    step_ms = DAY_MS // day
    for end in range(start + day, stop, day):
        if _as_before(x[:end], day):
            continue
        first = max(0, end - ROWS)
        t_ms = np.arange(first, end, dtype=np.int64) * step_ms
        if latest(t_ms, x[first:end], (end - DAYS * day) * step_ms) is not None:
            return end
    return stop


def _as_before(x: Array, day: int) -> bool:
    """Whether the newest day's level is one of those before the last days: then nothing changed."""
    days = min(BEFORE + DAYS, len(x) // day)
    middles = row_medians(x[len(x) - days * day :].reshape(days, day))
    before = middles[:-DAYS]
    return len(before) >= 2 and bool(before.min() <= middles[-1] <= before.max())
