"""How numbers, times and foreign text read for people: short, in UTC, without surprises."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

# Control characters, lone surrogates, and the marks that turn the direction of text around:
# none of them belongs into what a person reads, and some of them forge it.
_UNFIT = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+"
)
_BARS = "▁▂▃▄▅▆▇█"
_BAR_COUNT = 30


def clean(text: object, limit: int = 200) -> str:
    """One line of at most `limit` characters that any receiver can take."""
    line = " ".join(_UNFIT.sub(" ", str(text)[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def whole(text: object) -> str:
    """All of a text, with what is no character (lone surrogates) replaced."""
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def number(value: float) -> str:
    """About four significant digits: `0.1235`, `1,235`, `12.3 million`."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        return f"{value:.3g}"
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if size >= limit * 0.9999995:
            return f"{value / limit:.3g} {word}"
    if value == round(value) or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def span(seconds: float) -> str:
    """`45 s`, `4 min`, `1 h 20 min`, `2 d 3 h`."""
    if seconds < 60:
        return f"{max(0, math.floor(seconds))} s"
    minutes = math.floor(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(at: float, now: float) -> str:
    """`21:10 UTC`, with the day in front if it is not the day of `now`."""
    return f"{_day(at, now)}{_time(at)} UTC"


def period(start: float, end: float, now: float) -> str:
    """`21:10 to 21:22 UTC`; with days where they are needed to be sure."""
    if _day(end, start) == "":
        return f"{_day(start, now)}{_time(start)} to {_time(end)} UTC"
    return f"{_day(start, end)}{_time(start)} to {_day(end, start)}{_time(end)} UTC"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M}"


def _day(at: float, other: float) -> str:
    """`18 Nov `, empty if both are on the same day."""
    when, then = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(other, UTC)
    if when.date() == then.date():
        return ""
    return f"{when.day} {when:%b} " if when.year == then.year else f"{when.day} {when:%b %Y} "


def spark(values: Sequence[float]) -> str:
    """The course of the values as a line of bars, oldest first; empty for fewer than four."""
    known = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(known) < 4:
        return ""
    count = min(_BAR_COUNT, len(known))
    # The largest of each slice: a spike must not vanish in an average.
    edges = [len(known) * i // count for i in range(count + 1)]
    tops = [max(known[a:b]) for a, b in pairwise(edges)]
    low, high = min(tops), max(tops)
    if high == low:
        return _BARS[0] * count
    return "".join(_BARS[round((v - low) / (high - low) * (len(_BARS) - 1))] for v in tops)
