"""Stretches of time that trainings hear of: left out, or spoken of by people."""

import numpy as np

from models.base import Flags
from service.storage.columns import Times

#: From and to in milliseconds, both included.
Spans = tuple[tuple[int, int], ...]


def inside(t_ms: Times, spans: Spans) -> Flags:
    """Which of ascending timestamps (n,) lie in a span."""
    found = np.zeros(len(t_ms), np.bool_)
    for begin, end in spans:
        found[np.searchsorted(t_ms, begin) : np.searchsorted(t_ms, end, side="right")] = True
    return found


def trusted(t_ms: Times, left_out: Spans) -> Flags:
    """Which of ascending timestamps (n,) lie in no span."""
    return ~inside(t_ms, left_out)
