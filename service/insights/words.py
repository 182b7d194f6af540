"""How figures, durations and names read. Pure; no time zones: durations, never clock times."""

import math
from collections.abc import Iterable, Sequence

from service.detection.progress import Learning
from service.domain.series import Series

_SUFFIXES = (
    ("_percent", "%"),
    ("_pct", "%"),
    ("_ratio", "ratio"),
    ("_milliseconds", "ms"),
    ("_ms", "ms"),
    ("_seconds", "s"),
    ("_bytes", "B"),
    ("_celsius", "°C"),
    ("_fahrenheit", "°F"),
    ("_degrees", "°"),
)
_SHORT = frozenset(
    ("api", "cdn", "cpu", "db", "dns", "gpu", "http", "io", "ip", "lb", "ram", "sql", "tls", "url")
)
_MINUS = "−"
_HUGE = 1e15  # beyond, no unit helps
SPACE = "\u00a0"  # figures and their units stay on one line
_NOT_ADDED = (
    *("rate", "ratio", "percent", "pct", "health", "latency", "duration", "seconds", "_ms"),
    *("usage", "utilization", "utilisation", "temperature", "celsius", "fahrenheit", "degrees"),
    *("load", "score", "lag"),
)


def metric_words(name: str) -> str:
    """`play_starts_total` as “Play starts”; units that the figure shows are left out."""
    bare = name.removesuffix("_total")
    for suffix, _ in _SUFFIXES:
        if bare.endswith(suffix) and len(bare) > len(suffix) and suffix != "_ratio":
            bare = bare.removesuffix(suffix)
            break
    parts = bare.replace(":", "_").replace(".", "_").split("_")
    words = " ".join(part.upper() if part in _SHORT else part for part in parts if part)
    return (words[:1].upper() + words[1:]) or name


def unit_of(name: str) -> str:
    """The unit that a metric's name states: `%`, `ratio`, `s`, `ms`, `B`, `°C` or nothing."""
    bare = name.removesuffix("_total")
    return next((unit for suffix, unit in _SUFFIXES if bare.endswith(suffix)), "")


def adds_up(name: str) -> bool:
    """Whether values of several series may be added; rates, shares and durations may not."""
    return not any(part in name for part in _NOT_ADDED)


def place(series: Series) -> str:
    """The label values of a series, e.g. “eu-west · web”; empty without labels."""
    return place_of(series.tags.values())


def placed(series: Series, text: str) -> str:
    """A sentence with the place that it is about: “eu-west: …”; as it is without labels."""
    where = place(series)
    return f"{where}: {text}" if where else text


def place_of(labels: Iterable[str]) -> str:
    """Label values in one line.

    A value that another one begins with (service `api`, host `api-2`) says nothing more.
    """
    values = list(dict.fromkeys(labels))
    return " · ".join(v for v in values if not any(o != v and o.startswith(v) for o in values))


def named(series: Series) -> str:
    """Metric and place, e.g. “Disk used on ingest-2”."""
    where = place(series)
    words = metric_words(series.name)
    return f"{words} ({where})" if where else words


def _plain(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", _MINUS) if text.strip("-0.") else "0"


def _scaled(value: float, step: float, units: Sequence[str]) -> str:
    size = abs(value)
    for unit in units[:-1]:
        if size < step:
            return f"{_significant(value)}{SPACE}{unit}"
        value, size = value / step, size / step
    return f"{_significant(value)}{SPACE}{units[-1]}"


def _significant(value: float) -> str:
    size = abs(value)
    if size >= 100 or size == 0:
        return _plain(value, 0)
    if size >= 10:
        return _plain(value, 1)
    if size >= 1:
        return _plain(value, 2)
    return _plain(value, min(8, 2 - math.floor(math.log10(size))))


def figure(value: float | None, name: str = "") -> str:
    """A value as people read it, with the unit that the metric's name states."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if abs(value) >= _HUGE:
        digits, _, power = f"{value:.2e}".partition("e+")
        return f"{digits}×10^{power}".replace("-", _MINUS)
    unit = unit_of(name)
    if unit == "%":
        return f"{_significant(value)}{SPACE}%"
    if unit == "ratio":
        return f"{_significant(value * 100)}{SPACE}%"
    if unit == "B":
        return _scaled(value, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))
    if unit == "s" and 0 < abs(value) < 1:
        return f"{_significant(value * 1000)}{SPACE}ms"
    if unit:
        return f"{_significant(value)}{SPACE}{unit}"
    if abs(value) >= 1e6:
        return _scaled(value, 1000, ("", "k", "M", "G", "T")).rstrip(SPACE)
    return _significant(value)


def percent(share: float) -> str:
    """A share as whole percent without a sign."""
    return f"{abs(share) * 100:.0f}{SPACE}%"


def likely(probability: float) -> str:
    """“82 % likely”; nothing is certain."""
    shown = round(100 * probability)
    return f"{shown}{SPACE}% likely" if shown < 100 else f"over 99{SPACE}% likely"


def relative(value: float, expected: float) -> float | None:
    """(value − expected) / |expected|; None where the expectation is too near to nothing."""
    if not (math.isfinite(value) and math.isfinite(expected)):
        return None
    if abs(expected) < 1e-9 or abs(expected) < 1e-3 * abs(value):
        return None
    return (value - expected) / abs(expected)


def against(value: float, expected: float, name: str = "") -> str:
    """“31 % under expectation”, “9 times expected”, or both figures."""
    share = relative(value, expected)
    if share is None:
        return f"{figure(value, name)} instead of {figure(expected, name)}"
    if share >= 2 and expected > 0:
        return f"{_significant(round(value / expected, 1))} times expected"
    side = "over" if share > 0 else "under"
    return f"{percent(share)} {side} expectation"


def verdict(value: float, expected: float) -> str:
    """The same without figures: “far below expectation”."""
    share = relative(value, expected)
    side = "above" if value > expected else "below"
    far = "far " if share is None or abs(share) >= 0.25 else ""
    return f"{far}{side} expectation"


def change(share: float) -> str:
    """A signed change for short notes: “+6 %”, “−22 %”, “×9”."""
    if share >= 2:
        return f"×{_significant(round(share + 1, 1))}"
    return f"{'+' if share >= 0 else _MINUS}{percent(share)}"


def rough(value: float, name: str = "") -> str:
    """A value that is a mean or a guess: no more than three digits that mean something."""
    if not math.isfinite(value) or value == 0 or abs(value) >= _HUGE:
        return figure(value, name)
    return figure(round(value, 2 - math.floor(math.log10(abs(value)))), name)


_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def span(seconds: float) -> str:
    """A duration in words, one unit: “14 minutes”, “2 hours”, “under a second”."""
    seconds = max(0.0, seconds)
    for size, unit in _UNITS:
        # 90 minutes read better than 2 hours; so a unit is used from one and a half of it.
        if seconds >= size * (1.5 if size > 1 else 1) or (seconds >= size and seconds % size < 1):
            count = round(seconds / size)
            return f"{count}{SPACE}{unit}{'s' if count != 1 else ''}"
    return "under a second" if seconds < 1 else span(round(seconds))


def learning(now: Learning) -> str:
    """How far the first training of a tenant's series is; empty if none waits for one."""
    if not now.first_waiting:
        return ""
    done, all_ = now.first_done, now.first_done + now.first_waiting
    said = f"Learning: {done:,} of {count(all_, 'new series', 'new series')}"
    if now.state == "paused":
        return f"{said}; it waits while judging has much to do"
    if now.seconds_left is None:
        return said
    minutes = round(now.seconds_left / 60)
    return f"{said}, about {minutes:,} min left" if minutes else f"{said}, under a minute left"


def count(number: int, one: str, many: str | None = None) -> str:
    """“1 alert”, “3 alerts”, “10,000 series”."""
    return f"{number:,}{SPACE}{one if number == 1 else many or one + 's'}"


def listing(items: Iterable[str], most: int = 3) -> str:
    """“a, b and c”, “a, b and 4 more”."""
    found = list(items)
    if len(found) > most:
        found = [*found[: most - 1], f"{len(found) - most + 1} more"]
    if len(found) <= 1:
        return "".join(found)
    return f"{', '.join(found[:-1])} and {found[-1]}"


def person(actor: str | None) -> str:
    """Who acted, without the role: “responder:Mira” is “Mira”."""
    return (actor or "").partition(":")[2] or actor or "somebody"


def upper_first(text: str) -> str:
    """The sentence with a capital letter at its start."""
    return text[:1].upper() + text[1:]
