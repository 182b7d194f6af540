"""Recent movement, going on for a while and fading.

Damped trend after Gardner and McKenzie, "Forecasting trends in time series", Management Science
1985, with the slope of a line through the newest rows instead of a smoothed one: it has forgotten
the past after as many rows.
"""

from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer

ROWS = (6, 12, 24, 48)
DAMPING = (0.8, 0.9, 0.95, 0.98)
#: Horizon and moments that rows and damping are chosen on.
AHEAD, MOMENTS = 24, 300


class DampedTrend:
    """The last value plus a fading slope.

    The one that sees a slow failure coming; useless where values jump around a level.
    """

    rows_: int
    damping_: float

    def fit(self, y: Array, first: int) -> Self:
        """Choose how many rows make the slope, and how fast it fades, on values (n,)."""
        longest = ROWS[-1]
        self.rows_, self.damping_ = ROWS[1], DAMPING[0]
        if len(y) < longest + AHEAD + 1:
            return self
        starts = np.linspace(0, len(y) - longest - AHEAD, MOMENTS).round().astype(np.int64)
        windows = sliding_window_view(y, longest + AHEAD)[np.unique(starts)]
        past, truth = windows[:, :longest], windows[:, longest:]
        best = np.inf
        for rows in ROWS:
            for damping in DAMPING:
                error = float(np.abs(_go_on(past, rows, damping, AHEAD) - truth).mean())
                if error < best:
                    best, self.rows_, self.damping_ = error, rows, damping
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m)."""
        return _go_on(windows, self.rows_, self.damping_, horizon)

    def to_arrays(self) -> Arrays:
        """The two numbers."""
        return {"rows": np.array(self.rows_), "damping": np.array(self.damping_)}

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        model = cls()
        model.rows_ = integer(arrays, "rows")
        model.damping_ = float(floats(arrays, "damping"))
        return model


def _go_on(windows: Array, rows: int, damping: float, horizon: int) -> Array:
    recent = windows[:, -rows:]
    place = np.arange(recent.shape[1]) - (recent.shape[1] - 1) / 2
    slope = recent @ place / max(float(place @ place), 1.0)
    travelled = np.cumsum(damping ** np.arange(1, horizon + 1))
    return np.asarray(recent[:, -1:] + slope[:, None] * travelled)
