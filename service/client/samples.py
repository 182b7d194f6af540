"""Checks of what is recorded, and its JSON. The rules are those of the server's intake."""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, SupportsFloat

import msgspec

from service.domain.series import DERIVED, NAME, MetricType

#: Prepared series that are kept; over that they are prepared anew.
_KNOWN_MAX = 20_000

_NAME_MAX, _VALUE_MAX, _LABELS_MAX = 128, 1024, 30
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TYPES = frozenset(str(kind) for kind in MetricType)
_LAST_SECOND = 253_402_300_799

Pairs = tuple[tuple[str, str], ...]
Key = tuple[str, str, Pairs]


class Target(NamedTuple):
    """A checked series: `head` is its JSON up to the value, `own` its labels but the client's."""

    name: str
    metric_type: str
    own: Pairs
    labels: Pairs
    head: bytes


class Sample(NamedTuple):
    """One value of a series at `t_ms`, Unix milliseconds."""

    target: Target
    value: float
    t_ms: int


class Targets:
    """Series met so far, checked and encoded once each."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._common = dict(labels)
        self._known: dict[Key, Target] = {}
        check("common_labels_of_the_client", self._common, "gauge")

    def of(self, name: str, labels: Mapping[str, str] | None, metric_type: str) -> Target:
        """The series; `ValueError` says what is wrong with its name, labels or type."""
        try:
            key = (name, metric_type, tuple(labels.items()) if labels else ())
            found = self._known.get(key)
        except (AttributeError, TypeError):
            raise ValueError(
                f"labels of {name!r} must map strings to strings, not {labels!r:.100}"
            ) from None
        if found is not None:
            return found
        merged = {**self._common, **(labels or {})}
        check(name, merged, metric_type)
        head = b'{"name":"%b","metric_type":"%b","labels":%b,"value":' % (
            name.encode(),
            str(metric_type).encode(),
            msgspec.json.encode(merged),
        )
        found = Target(name, str(metric_type), key[2], tuple(merged.items()), head)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[key] = found
        return found


def check(name: str, labels: Mapping[str, str], metric_type: str) -> None:
    """Raise `ValueError` with a sentence if the server would refuse such a series."""
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        raise ValueError(
            f"metric name {name!r:.200} may hold letters, digits, _ and :, and starts with no digit"
        )
    if len(name) > _NAME_MAX:
        raise ValueError(f"metric name has {len(name)} characters; {_NAME_MAX} are allowed")
    if name.endswith(DERIVED):
        raise ValueError(f"metric name {name!r} ends with what only models write")
    if metric_type not in _TYPES:
        raise ValueError(f"metric_type {metric_type!r:.50} is none of {', '.join(sorted(_TYPES))}")
    if len(labels) > _LABELS_MAX:
        raise ValueError(f"{len(labels)} labels of {name}; {_LABELS_MAX} are allowed")
    for key, value in labels.items():
        _check_label(name, key, value)


def _check_label(name: str, key: str, value: str) -> None:
    if not isinstance(key, str) or len(key) > _NAME_MAX or not _LABEL.fullmatch(key):
        raise ValueError(
            f"label name {key!r:.150} of {name} may hold letters, digits and _, starts with no "
            f"digit and has {_NAME_MAX} characters at most"
        )
    if key == NAME:
        raise ValueError(f"label {NAME} of {name} is reserved for the metric's name")
    if not isinstance(value, str):
        raise ValueError(f"label {key} of {name} is {value!r:.100}; labels are strings")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"label {key} of {name} holds a lone surrogate") from None
    if size > _VALUE_MAX or "\0" in value:
        raise ValueError(f"label {key} of {name} is over {_VALUE_MAX} bytes or holds a NUL")


def finite(name: str, value: SupportsFloat) -> float:
    """The value as a float; `ValueError` if it is no finite number."""
    try:
        if not isinstance(value, str | bytes) and math.isfinite(value):
            return float(value)
    except (TypeError, OverflowError):
        pass
    raise ValueError(f"value of {name} must be a finite number, not {value!r:.100}")


def milliseconds(name: str, timestamp: float | datetime) -> int:
    """Unix milliseconds of seconds or of a datetime with a zone."""
    if isinstance(timestamp, datetime):
        if timestamp.tzinfo is None:
            raise ValueError(f"timestamp of {name} has no zone: {timestamp!r}")
        timestamp = timestamp.timestamp()
    seconds = finite("the timestamp of " + str(name)[:_NAME_MAX], timestamp)
    if not 0 <= seconds <= _LAST_SECOND:
        raise ValueError(f"timestamp {seconds:.0f} of {name} is no time in Unix seconds")
    return round(seconds * 1000)


def encode(samples: list[Sample]) -> bytes:
    """The body of a request."""
    # A finite float's repr is JSON, and it reads back as the same float.
    items = [s.head + b'%a,"timestamp":%a}' % (value, t / 1000) for s, value, t in samples]
    return b"[" + b",".join(items) + b"]"
