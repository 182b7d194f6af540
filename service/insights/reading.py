"""What the stores say about series: samples, and beside them what the models wrote about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.domain.series import (
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    FORECAST_LOWER,
    FORECAST_UPPER,
    SCORE,
    Series,
)
from service.query.source import Source
from service.storage.columns import Columns, Values

_PAST = (EXPECTED, EXPECTED_LOWER, EXPECTED_UPPER, SCORE)
_FUTURE = (FORECAST, FORECAST_LOWER, FORECAST_UPPER)
_EMPTY = Columns.empty()
_AHEAD_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Watched:
    """One series in a window of time, with what models wrote about it, empty where none did."""

    series: Series
    samples: Columns
    expected: Columns = _EMPTY
    lower: Columns = _EMPTY
    upper: Columns = _EMPTY
    score: Columns = _EMPTY
    forecast: Columns = _EMPTY
    forecast_lower: Columns = _EMPTY
    forecast_upper: Columns = _EMPTY

    def on_samples(self, columns: Columns) -> Values:
        """`columns` at the times of the samples, (n,), NaN where there is none."""
        return columns.at(self.samples.t)

    @property
    def step_ms(self) -> int:
        """The usual distance of two samples; 60,000 if there are too few to tell."""
        if len(self.samples.t) < 3:
            return 60_000
        return max(1, int(np.median(np.diff(self.samples.t))))

    @property
    def last(self) -> tuple[int, float] | None:
        """Time (ms) and value of the newest sample that is a number."""
        good = np.flatnonzero(np.isfinite(self.samples.v))
        if not len(good):
            return None
        return int(self.samples.t[good[-1]]), float(self.samples.v[good[-1]])

    def expectation(self) -> tuple[float, float, float] | None:
        """Expected, lower and upper at the newest sample; None if no model speaks there."""
        newest = self.last
        if newest is None:
            return None
        at = newest[0]
        found = [at_time(c, at) for c in (self.expected, self.lower, self.upper)]
        middle, low, high = (float("nan") if f is None else f for f in found)
        return (middle, low, high) if np.isfinite(middle) else None

    def silent(self, now: float, lookback: float) -> bool:
        """Whether it has stopped: nothing for five steps and for `lookback` seconds."""
        newest = self.last
        if newest is None:
            return False
        return now * 1000 - newest[0] > max(lookback * 1000, 5 * self.step_ms)


def at_time(columns: Columns, t: int) -> float | None:
    """The value at exactly `t`."""
    i = int(np.searchsorted(columns.t, t))
    return float(columns.v[i]) if i < len(columns.t) and columns.t[i] == t else None


async def watch(
    source: Source,
    tenant: str,
    known: Mapping[int, Series],
    series: Sequence[Series],
    now: float,
    seconds: float,
    *,
    ahead: bool = True,
) -> list[Watched]:
    """Read each of `series` over the last `seconds` and, with `ahead`, its forecast for a day.

    `known` is every series of the tenant; what no model ever wrote is not asked for.
    """
    now_ms = round(now * 1000)
    start_ms = now_ms - round(seconds * 1000)
    written = {s.id: _written(s, known) for s in series}
    past_ids, future_ids = [s.id for s in series], []
    for ids in written.values():
        past_ids += [ids[suffix] for suffix in _PAST if suffix in ids]
        future_ids += [ids[suffix] for suffix in _FUTURE if suffix in ids]
    past = await source.read(tenant, past_ids, start_ms, now_ms)
    future: dict[int, Columns] = {}
    if ahead and future_ids:
        future = await source.read(tenant, future_ids, now_ms, now_ms + _AHEAD_MS)

    def columns(of: Series, suffix: str, found: dict[int, Columns]) -> Columns:
        return found.get(written[of.id].get(suffix, -1), _EMPTY)

    return [
        Watched(
            s,
            past.get(s.id, _EMPTY),
            *(columns(s, suffix, past) for suffix in _PAST),
            *(columns(s, suffix, future) for suffix in _FUTURE),
        )
        for s in series
    ]


def _written(series: Series, known: Mapping[int, Series]) -> dict[str, int]:
    ids = {}
    for suffix in (*_PAST, *_FUTURE):
        derived = series.derived(suffix).id
        if derived in known:
            ids[suffix] = derived
    return ids
