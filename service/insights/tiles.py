"""One figure at a glance: the newest value against its expectation."""

import math
from dataclasses import dataclass

from service.insights import charts, words
from service.insights.reading import Watched
from service.insights.unusual import Run

_SPARK_MS = 21_600_000


@dataclass(frozen=True, slots=True)
class Tile:
    """A series' value against its expectation. `spark` is the `d` of a path in a 96×26 box."""

    series: str
    label: str
    place: str
    value: float | None
    shown: str
    note: str
    warn: bool
    spark: str


def tile(w: Watched, run: Run | None, now: float, *, alerted: bool, lookback: float) -> Tile:
    """The tile of one series; `lookback` is how long (seconds) a silence is none."""
    name, newest = w.series.name, w.last
    now_ms = round(now * 1000)
    unusual = run is not None and not run.ended
    expectation = w.expectation()
    value = newest[1] if newest else None
    share = (
        words.relative(value, expectation[0])
        if value is not None and expectation is not None
        else None
    )
    if newest and w.silent(now, lookback):
        note = f"silent for {words.span(now - newest[0] / 1000)}"
    elif unusual:
        note = f"{words.change(share)}, unusual" if share is not None else "unusual"
    elif alerted:
        note = "alert firing"
    elif expectation is None or value is None:
        note = "no expectation yet"
    elif expectation[1] <= value <= expectation[2] or (share is not None and abs(share) < 0.02):
        note = "as expected"
    elif share is None:
        note = f"{words.figure(expectation[0], name)} expected"
    else:
        note = f"{words.change(share)} against expectation"
    return Tile(
        series=w.series.hex,
        label=words.metric_words(name),
        place=words.place(w.series),
        value=value if value is not None and math.isfinite(value) else None,
        shown=words.figure(value, name),
        note=note,
        warn=unusual or alerted,
        spark=charts.spark(w.samples.between(now_ms - _SPARK_MS, now_ms)),
    )
