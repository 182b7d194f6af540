"""Durations as people write them: `90s`, `5m`, `1h30m`, `2w`, or a number of seconds."""

import re

from service.domain.errors import InvalidInput

_UNIT = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdwy])")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
#: As Prometheus writes them: each unit once, the longest first.
_PROMETHEUS = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)
_PROMETHEUS_MS = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1000, 1)


def parse_duration(value: object) -> float:
    """Seconds of `value`, a number of them or text such as `1h30m`; `InvalidInput` if neither."""
    if isinstance(value, bool):
        raise InvalidInput(f"a duration is a number of seconds or text like 5m, not {value!r}")
    is_number = isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    if isinstance(value, int | float) or (isinstance(value, str) and is_number):
        seconds = float(value)
    elif isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        seconds = sum(float(n) * _UNIT[unit] for n, unit in _PART.findall(value))
    else:
        raise InvalidInput(f"a duration is a number of seconds or text like 5m, not {value!r}")
    if not 0 <= seconds <= 10 * _UNIT["y"]:
        raise InvalidInput(f"a duration lies between 0 and ten years, not {value!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text of whole units: `5m`, `1h30m`, `45s`; under a second `250ms`."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    rest, parts = round(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNIT[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def duration_ms(text: str) -> int:
    """Milliseconds of a duration as Prometheus writes it: `1d2h`, `90s`, `0`; `InvalidInput`."""
    if text == "0":
        return 0
    found = _PROMETHEUS.fullmatch(text)
    if not text or found is None:
        raise InvalidInput(f"not a valid duration string: {text[:60]!r}")
    length = sum(
        int(count) * unit
        for count, unit in zip(found.groups(), _PROMETHEUS_MS, strict=True)
        if count is not None
    )
    if length >= 1 << 53:
        raise InvalidInput("duration out of range")
    return length
