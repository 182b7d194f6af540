"""Series that settled at another level, as the last training found them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.rules import Severity
from service.domain.series import MetricType
from service.insights import words
from service.insights.finding import Finding, Kind, clearest
from service.insights.look import Look
from service.insights.reading import Watched

#: How long a new level is news.
NEWS_SECONDS = 7 * 86400.0
#: By then the detector has learned it.
LEARNED_SECONDS = 86400.0
_MOST = 6


@dataclass(frozen=True, slots=True)
class Level:
    """Since `at` (Unix seconds) a series runs at `now` instead of `before`."""

    at: float
    before: float
    now: float
    strength: float


def levels(quality: Mapping[str, Any]) -> list[Level]:
    """The changes of level that a model's record has, oldest first."""
    return [
        Level(point["at"], point["from"], point["to"], point["strength"])
        for point in quality.get("change_points", [])
        if point["kind"] == "level"
    ]


def newest_level(quality: Mapping[str, Any]) -> Level | None:
    """The newest change of level that a model's record has."""
    return next(reversed(levels(quality)), None)


def instead(series_name: str, level: Level, *, counter: bool = False) -> str:
    """“62 % instead of 40 %”; of a counter a second."""
    each = " a second" if counter else ""
    now, before = words.rough(level.now, series_name), words.rough(level.before, series_name)
    return f"{now}{each} instead of {before}"


def new_levels(look: Look) -> list[Finding]:
    """Level changes of the last week; of one metric the clearest, at most six."""
    return clearest(_found(look), _MOST)


def _found(look: Look) -> Iterator[Finding]:
    for i, quality in look.quality.items():
        w, level = look.watched.get(i), newest_level(quality)
        if w is not None and level is not None and 0 <= look.now - level.at <= NEWS_SECONDS:
            yield _finding(w, level, look.now)


def _finding(w: Watched, level: Level, now: float) -> Finding:
    name, since = w.series.name, now - level.at
    counter = w.series.metric_type is MetricType.COUNTER
    text = f"has run at {instead(name, level, counter=counter)} for {words.span(since)}; "
    if since >= LEARNED_SECONDS:
        text += "it is judged by the new level"
    else:
        text += "a day after the change it is judged by the new level"
    side = "higher" if level.now > level.before else "lower"
    return Finding(
        Kind.NEW_LEVEL,
        Severity.LOW,
        f"{words.metric_words(name)} at a {side} level",
        words.placed(w.series, text),
        (w.series.hex,),
        level.at,
        {"from": level.before, "to": level.now, "since": level.at, "strength": level.strength},
        min(1.0, level.strength / 100.0),
        name,
    )
