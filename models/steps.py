"""Since when a series comes at the step at which it comes now.

A grid (`models.grid`) has one step. What came at another one before fits on it badly: of a finer
step most rows find their cell taken, of a coarser one most cells are filled in.
"""

import numpy as np

from models.base import Integers
from models.grid import DAY_MS, Grid

#: How often the newest step must have followed, and for how long, before what came earlier is left.
ROWS, SPAN_MS = 288, 2 * DAY_MS
#: Steps that are the same one: up to so many times as long or short.
ALIKE = 1.5
#: Steps whose middle tells what the step is: outages and late rows are none.
AROUND = 25


def settled_at(t_ms: Integers) -> int:
    """Row of ascending timestamps (n,) from which on the step has been the one of today.

    0 where it always was, where it has not been for long, and where samples keep to no step.
    """
    if len(t_ms) < ROWS + AROUND:
        return 0
    gaps = np.diff(t_ms)
    today = float(np.median(gaps[-ROWS:]))
    other = (gaps * ALIKE < today) | (gaps > ALIKE * today)
    counted = np.concatenate(([0], np.cumsum(other)))
    mostly = np.flatnonzero(2 * (counted[AROUND:] - counted[:-AROUND]) > AROUND)
    if not len(mostly):
        return 0
    last = int(mostly[-1])
    begin = last + AROUND - int(np.argmax(other[last : last + AROUND][::-1]))
    lasting = len(t_ms) - begin >= ROWS and t_ms[-1] - t_ms[begin] >= SPAN_MS
    before, now = Grid.learn(t_ms[: begin + 1]), Grid.learn(t_ms[begin:])
    return begin if lasting and before.regular and now.regular else 0
