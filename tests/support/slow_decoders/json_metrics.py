"""JSON metrics, with `json.loads`."""

from datetime import datetime
from typing import Any

from tests.support.slow_decoders.result import NOW, Labels, Read, Refused, bits_of, series
from tests.support.slow_decoders.strict_json import Members, Number, is_text, parse

_TYPES = ("gauge", "counter", "histogram", "summary")


def read(body: bytes, tenant: str = "t") -> Read:
    """The samples of a metric or of an array of them. Raises `Refused`."""
    found = parse(body)
    if isinstance(found, Members):
        items: list[Any] = [found]
    elif isinstance(found, list):
        items = found
    else:
        raise Refused("neither a metric nor an array")
    result = Read()
    for index, item in enumerate(items):
        try:
            name, metric_type, t_ms, value, labels = _metric(item, tenant)
        except ValueError:
            result.rejected.add(index)
        else:
            result.add(index, _series(name, labels), metric_type, t_ms, bits_of(value))
    return result


def _metric(item: Any, tenant: str) -> tuple[str, str, int, float, Any]:
    """Name, type, milliseconds, value and raw labels. Raises `ValueError`."""
    if not isinstance(item, Members):
        raise ValueError
    # Of a repeated member the last counts, and each must be right.
    for key, value in item:
        if not _good(key, value):
            raise ValueError(key)
    members = dict(item)
    time = members.get("timestamp")
    if isinstance(time, Number):
        seconds = time.real()
        if not -1e15 < seconds < 1e15:
            raise ValueError(time)
        t_ms = round(seconds * 1000)
    elif time is not None:
        t_ms = _iso(time)
    else:
        t_ms = NOW
    if members.get("tenant_id") not in (None, tenant):
        raise ValueError
    if "name" not in members or "value" not in members:
        raise ValueError
    labels = members.get("labels", Members())
    return (
        members["name"],
        members.get("metric_type", "gauge"),
        t_ms,
        members["value"].real(),
        labels,
    )


def _good(key: str, value: Any) -> bool:
    text = is_text(value)
    number = isinstance(value, Number) and abs(value.real()) != float("inf")
    if key == "name":
        return text
    if key == "value":
        return number
    if key == "timestamp":
        return value is None or text or number
    if key == "metric_type":
        return text and value in _TYPES
    if key == "tenant_id":
        return value is None or text
    return True


def _iso(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    try:
        return round(moment.timestamp() * 1000)
    except OverflowError as error:
        raise ValueError(text) from error


def _series(name: str, labels: Any) -> Labels | None:
    if not isinstance(labels, Members):
        return None
    if not all(is_text(key) and is_text(value) for key, value in labels):
        return None
    return series(name, dict(labels))
