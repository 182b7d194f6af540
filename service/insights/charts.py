"""What a chart draws: a series with its expected band, what was unusual, what comes next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.domain.series import Series
from service.insights import words
from service.insights.levels import Level
from service.insights.reading import Watched, watch
from service.query.source import Source
from service.storage.columns import Columns

_POINTS = 600
_HOUR = 3600.0
_LONGEST = 7 * 86400.0
Numbers = list[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns of one chart; times in ms, missing values None.

    `v`, `expected`, `lower`, `upper` lie at `t`; `anomalies` are positions in `t`; the forecast
    has its own times. `since` is where a shaded span begins, `threshold` a rule's limit;
    at `levels` the series settled at another level.
    """

    series: str
    title: str
    unit: str
    now: int
    t: list[int]
    v: Numbers
    expected: Numbers
    lower: Numbers
    upper: Numbers
    anomalies: list[int]
    forecast_t: list[int]
    forecast: Numbers
    forecast_lower: Numbers
    forecast_upper: Numbers
    since: int | None = None
    threshold: float | None = None
    levels: list[int] = field(default_factory=list)

    @property
    def about(self) -> str:
        """What a person who cannot see the chart needs to know of it."""
        parts = [self.title]
        if self.v:
            known = [v for v in self.v if v is not None]
            if known:
                parts.append(
                    f"between {words.figure(min(known))} and {words.figure(max(known))}, "
                    f"last {words.figure(known[-1])}"
                )
        if any(v is not None for v in self.expected):
            parts.append("with the expected band")
        if self.anomalies:
            parts.append(words.count(len(self.anomalies), "unusual point"))
        if self.levels:
            parts.append(words.count(len(self.levels), "change of level", "changes of level"))
        if self.forecast_t:
            parts.append("with a forecast")
        return ", ".join(parts)


def past_seconds(step_ms: int, horizon: int, age: float | None = None) -> float:
    """How far back a chart goes: a day where steps are minutes, longer for slow series.

    `age` is how long ago what the chart shows began; it fills half of the chart at most.
    """
    ahead = step_ms / 1000 * horizon
    seconds = max(2 * _HOUR, min(12 * ahead, 24 * _HOUR), 3 * ahead)
    if age is not None:
        seconds = max(seconds, 2 * age)
    return min(seconds, _LONGEST)


async def load(
    source: Source,
    tenant: str,
    known: Mapping[int, Series],
    series: Series,
    now: float,
    seconds: float,
    *,
    alarming: float,
    since: float | None = None,
    threshold: float | None = None,
) -> Chart:
    """The chart of one series over the last `seconds`; scores from `alarming` are anomalies."""
    watched = (await watch(source, tenant, known, [series], now, seconds))[0]
    return draw(watched, now, alarming=alarming, since=since, threshold=threshold)


def draw(
    watched: Watched,
    now: float,
    *,
    alarming: float,
    since: float | None = None,
    threshold: float | None = None,
    levels: Sequence[Level] = (),
) -> Chart:
    """The chart of what was read, thinned to some 600 points that keep every extreme."""
    score = watched.on_samples(watched.score)
    unusual = score >= alarming
    kept = _thinned(watched.samples, unusual)
    name = watched.series.name

    def past(columns: Columns) -> Numbers:
        return numbers(watched.on_samples(columns)[kept])

    ahead = watched.forecast
    at_first = int(watched.samples.t[0]) if len(watched.samples.t) else 0
    return Chart(
        series=watched.series.hex,
        title=words.named(watched.series),
        unit=words.unit_of(name),
        now=round(now * 1000),
        t=watched.samples.t[kept].tolist(),
        v=numbers(watched.samples.v[kept]),
        expected=past(watched.expected),
        lower=past(watched.lower),
        upper=past(watched.upper),
        anomalies=np.flatnonzero(unusual[kept]).tolist(),
        forecast_t=ahead.t.tolist(),
        forecast=numbers(ahead.v),
        forecast_lower=_beside(watched.forecast_lower, ahead),
        forecast_upper=_beside(watched.forecast_upper, ahead),
        since=None if since is None else round(since * 1000),
        threshold=threshold,
        levels=[at for level in levels if at_first <= (at := round(level.at * 1000))],
    )


def _beside(columns: Columns, onto: Columns) -> Numbers:
    found = dict(zip(columns.t.tolist(), columns.v.tolist(), strict=True))
    return numbers(np.array([found.get(t, np.nan) for t in onto.t.tolist()], np.float64))


def numbers(values: NDArray[np.float64]) -> Numbers:
    """As JSON takes them: what is no finite number becomes None."""
    # Nine significant digits are more than a screen or a sensor has.
    return [float(f"{v:.9g}") if np.isfinite(v) else None for v in values.tolist()]


def _thinned(samples: Columns, keep: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Positions to draw: lowest and highest of each stretch, the ends, and all of `keep`."""
    n = len(samples.t)
    if n <= _POINTS:
        return np.arange(n)
    span = max(1, int(samples.t[-1] - samples.t[0]))
    stretch = (samples.t - samples.t[0]) * (_POINTS // 2 - 1) // span
    order = np.lexsort((samples.v, stretch))
    starts = np.flatnonzero(np.r_[True, np.diff(stretch[order]) > 0])
    ends = np.r_[starts[1:], n] - 1
    flagged = np.flatnonzero(keep)
    if len(flagged) > _POINTS:  # a series that is unusual all day needs no point for each
        flagged = flagged[:: len(flagged) // _POINTS + 1]
    return np.unique(np.concatenate([order[starts], order[ends], flagged, [0, n - 1]]))


def spark(samples: Columns, *, width: float = 96, height: float = 26, points: int = 44) -> str:
    """The `d` of a small SVG path; empty with fewer than two samples."""
    good = np.isfinite(samples.v)
    t, v = samples.t[good], samples.v[good]
    if len(t) < 2:
        return ""
    span = max(1, int(t[-1] - t[0]))
    stretch = (t - t[0]) * (points - 1) // span
    count = np.bincount(stretch, minlength=points)
    used = count > 0
    mean = np.bincount(stretch, v, minlength=points)[used] / count[used]
    x = np.arange(points)[used] * (width / (points - 1))
    low, high = float(mean.min()), float(mean.max())
    # A nearly flat line stays flat: noise of a few per mille is no mountain range.
    room = max(high - low, 0.05 * max(abs(low), abs(high)), 1e-12)
    y = height - 3 - (mean - (low + high) / 2 + room / 2) / room * (height - 6)
    return "M" + " L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
