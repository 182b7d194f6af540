"""How many rows a week series bring, for budgets of alerts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.domain.series import Selector, Series
from service.rules.sight import Sight

_WEEK_MS = 7 * 86_400_000
_DAY_MS = 86_400_000
#: Samples that show the usual step, and the fewest that do.
_SAMPLES, _FEWEST = 64, 3
#: How long a sum is kept.
_KEPT_MS = 600_000
_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Inflow:
    """So many `series` bring so many rows together."""

    rows_a_week: float
    series: int


NOTHING = Inflow(0.0, 0)


@dataclass(slots=True)
class Inflows:
    """Sums by tenant, query and number of series; each is kept for ten minutes."""

    _known: dict[tuple[str, Selector, int], tuple[int, Inflow]] = field(default_factory=dict)

    def of(self, sight: Sight, query: Selector, chosen: Sequence[Series]) -> Inflow:
        """What the series that a query has chosen bring; those silent for a day do not count."""
        name = (sight.tenant, query, len(chosen))
        until, inflow = self._known.get(name, (0, NOTHING))
        if until - _KEPT_MS <= sight.now_ms < until:
            return inflow
        steps = [step for series in chosen if (step := _usual_step(sight, series))]
        inflow = Inflow(sum(_WEEK_MS / step for step in steps), len(steps))
        if steps:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[name] = (sight.now_ms + _KEPT_MS, inflow)
        return inflow

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        # From a list of names, for a thread that judges another tenant may add some meanwhile.
        for name in list(self._known):
            if name[0] == tenant:
                self._known.pop(name, None)


def _usual_step(sight: Sight, series: Series) -> float | None:
    """Milliseconds between two of the newest samples, None where there are too few."""
    t = sight.window(series.id, sight.now_ms - _DAY_MS, sight.now_ms).t
    if len(t) and len(t) < _FEWEST:  # a step of many hours
        t = sight.window(series.id, 0, sight.now_ms).t
    if len(t) < _FEWEST:
        return None
    return float(np.median(np.diff(t[-_SAMPLES - 1 :])))
