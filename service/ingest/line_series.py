"""The series of a line: from measurement, tags and field name as they were sent to its labels."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from service.domain.series import Series
from service.ingest.limits import NAME_MAX, check_labels, check_name

_MEASUREMENT = re.compile(rb"(?:\\[, ]|[^, ])++").match
_TAG_TEXT = re.compile(rb"(?:\\[,= ]|[^,= ])++").match
_MEASUREMENT_ESCAPE = re.compile(rb"\\([, ])")
_TAG_ESCAPE = re.compile(rb"\\([,= ])")
_NOT_IN_METRIC = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")

_NOT_UTF8 = "it is not valid UTF-8"
#: Looked at of a measurement or field whose name is shown.
_NAME_BYTES = 8 * NAME_MAX

#: What the sender wrote of a series: measurement with tags, and the field's name.
Key = tuple[bytes, bytes]


def series_by(keys: Sequence[Key]) -> Callable[[int], Series | str]:
    """The series of a row, or what is wrong with it."""
    # Lines have many fields, and what is before them is read once.
    head_of = lru_cache(maxsize=16)(_head)

    def series(row: int) -> Series | str:
        head, field_name = keys[row]
        found = head_of(head)
        if isinstance(found, str):
            return found
        try:
            name = _metric(found.measurement, field_name)
        except UnicodeDecodeError:
            return _NOT_UTF8
        return check_name(name) or Series.of(name, found.labels)

    return series


class _Head(NamedTuple):
    """What fields of a line share."""

    measurement: str
    labels: dict[str, str]


def _head(head: bytes) -> _Head | str:
    """Measurement and tags as they were sent, or what is wrong with them."""
    measurement = _MEASUREMENT(head)
    if measurement is None:
        return "the measurement is missing"
    try:
        text = _MEASUREMENT_ESCAPE.sub(rb"\1", measurement[0]).decode()
        if len(text) > NAME_MAX:
            return check_name(text) or ""
        labels = _labels(head, measurement.end())
    except UnicodeDecodeError:
        return _NOT_UTF8
    if isinstance(labels, str):
        return labels
    return check_labels(labels) or _Head(text, labels)


def _labels(head: bytes, at: int) -> dict[str, str] | str:
    """The labels of the tags from `at` on, or what is wrong with them."""
    labels: dict[str, str] = {}
    tags: dict[str, str] = {}
    end = len(head)
    while at < end:
        tag = _TAG_TEXT(head, at + 1)
        if tag is None:
            return "a tag has no name"
        text = _TAG_ESCAPE.sub(rb"\1", tag[0]).decode()
        value = _TAG_TEXT(head, tag.end() + 1) if head.startswith(b"=", tag.end()) else None
        if value is None:
            return f"tag {text[:60]!r} has no value"
        if value.end() < end and head[value.end()] != ord(","):
            return f"tag {text[:60]!r}: write = in a value as \\="
        label = _label(text)
        if label in labels:
            other = tags[label]
            if other == text:
                return f"tag {text[:60]!r} is there twice"
            return f"tags {other[:60]!r} and {text[:60]!r} are both the label {label}"
        labels[label] = _TAG_ESCAPE.sub(rb"\1", value[0]).decode()
        tags[label] = text
        at = value.end()
    return labels


def _metric(measurement: str, field_name: bytes) -> str:
    text = measurement
    if field_name != b"value":
        text += "_" + _TAG_ESCAPE.sub(rb"\1", field_name).decode()
    text = _NOT_IN_METRIC.sub("_", text)
    return "_" + text if text[0].isdigit() else text


def _label(text: str) -> str:
    label = _NOT_IN_LABEL.sub("_", text)
    return "_" + label if label[0].isdigit() else label


def name_of(key: Key) -> str:
    """The metric's name for an answer, whatever state the key is in."""
    measurement = _MEASUREMENT(key[0], 0, _NAME_BYTES)
    if measurement is None:
        return ""
    text = _MEASUREMENT_ESCAPE.sub(rb"\1", measurement[0])
    try:
        return _metric(text.decode(), key[1][:_NAME_BYTES])[:NAME_MAX]
    except UnicodeDecodeError:
        return ""
