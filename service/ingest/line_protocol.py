"""InfluxDB's line protocol to columns.

    measurement[,tag=value…] field=value[,field=value…] [timestamp]

A series is called `<measurement>_<field>`, or `<measurement>` where the field is called `value`;
its labels are the tags. What the sender wrote of measurement, tags and field name is the key of the
tenant's series cache, so that these are parsed and checked once a series. Bodies of plain lines
(numbers and a timestamp, no escapes) are taken apart as a whole; other bodies line by line, and
lines with escapes or strings by `_Point`, which knows all of the syntax.

Escapes are as InfluxDB reads them: in names and tags a backslash counts only directly before a
character that would end the name, and stands for itself before any other, also before another one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import Series
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded
from service.ingest.limits import NAME_MAX, check_labels, check_name
from service.storage.columns import Times, Values

#: Samples of one request. Clients send some thousands; memory is needed for each.
SAMPLES_MAX = 200_000

#: Milliseconds of a timestamp are `timestamp * by // per`, by precision.
_PRECISIONS = {
    "ns": (1, 1_000_000),
    "us": (1, 1_000),
    "ms": (1, 1),
    "s": (1_000, 1),
    "m": (60_000, 1),
    "h": (3_600_000, 1),
}
_SHORT = {"": "ns", "n": "ns", "u": "us", "µ": "us"}

# Small enough that one piece, inflated a thousandfold, is still a bounded overrun.
# Beyond that, milliseconds are no time, and the smallest would mean "now".
_TIME_MAX = 1 << 62

# What no plain body holds.
_NOT_PLAIN = (b"\\", b'"', b"\t", b"\0")
_TO_SPACE = re.compile(rb"(?:\\ |[^ \n])++").match
_MEASUREMENT = re.compile(rb"(?:\\[, ]|[^, ])++").match
_TAG_TEXT = re.compile(rb"(?:\\[,= ]|[^,= ])++").match
_FIELD_NAME = re.compile(rb"(?:\\[,= ]|[^,= \n])++").match
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL).match
_BARE = re.compile(rb"[^, \n]*+").match
_WORD = re.compile(rb"[^ \n]*+").match
_SPACES = re.compile(rb"[ \t]*+").match
# Nothing is tried twice, so that long digits take no longer than others.
_FLOAT = re.compile(rb"-?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?").fullmatch
_INTEGER = re.compile(rb"(-?)(?=[0-9])0*+([0-9]{0,20})").fullmatch
_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), 0.0),
}
_MEASUREMENT_ESCAPE = re.compile(rb"\\([, ])")
_TAG_ESCAPE = re.compile(rb"\\([,= ])")
_NOT_IN_METRIC = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")


_NOT_UTF8 = "it is not valid UTF-8"
#: Looked at of a measurement or field whose name is shown.
_NAME_BYTES = 8 * NAME_MAX

#: What the sender wrote of a series: measurement with tags, and the field's name.
Key = tuple[bytes, bytes]
_Match = Callable[[bytes, int], re.Match[bytes] | None]


@dataclass(frozen=True, slots=True)
class Precision:
    """The unit of a request's timestamps."""

    name: str
    by: int
    per: int

    @classmethod
    def of(cls, text: str, allowed: Sequence[str]) -> "Precision":
        """The precision of that name; nanoseconds if empty. `InvalidInput` for any other."""
        name = _SHORT.get(text, text)
        if name not in allowed:
            raise InvalidInput(
                f"precision {text[:20]!r} is none of {', '.join(allowed)}", where="precision"
            )
        return cls(name, *_PRECISIONS[name])


NANOSECONDS = Precision("ns", *_PRECISIONS["ns"])


@dataclass(slots=True)
class _Rows:
    """Samples so far: line, raw series, milliseconds and value of each."""

    lines: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    ignored: int = 0


def decode(body: bytes, precision: Precision, answer: Answer) -> tuple[Decoded, int]:
    """Columns of a body, and how many text fields were left out; bad lines go into `answer`.

    `index` is the number of the line, from 1. Raises `TooLarge` over `SAMPLES_MAX` samples.
    """
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if body.count(b"\n") > SAMPLES_MAX:  # each line costs time, also one that holds nothing
        raise _too_many()
    found = _plain(body, precision)
    if found is not None:
        return found, 0
    rows = _Rows()
    start, number = 0, 1
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end]
        if not _simple(line, number, precision, rows):
            begin = end - len(line.lstrip(b" \t\0"))
            if begin < end and body[begin] != ord("#"):
                end = _slow(body, begin, number, precision, rows, answer)
                number += body.count(b"\n", start, end)
        if len(rows.values) > SAMPLES_MAX:
            raise _too_many()
        start, number = end + 1, number + 1
    times, values = np.array(rows.times, np.int64), np.array(rows.values, np.float64)
    return _decoded(rows.lines, rows.keys, times, values), rows.ignored


def _decoded(lines: Sequence[int], keys: Sequence[Key], times: Times, values: Values) -> Decoded:
    return Decoded(
        protocol="line",
        index=lines,
        keys=keys,
        t_ms=times,
        values=values,
        series=_series_by(keys),
        name=lambda row: _name_of(keys[row]),
    )


def _too_many() -> TooLarge:
    return TooLarge(f"a request may hold {SAMPLES_MAX} samples; send smaller batches")


def _plain(body: bytes, precision: Precision) -> Decoded | None:
    """Columns of a body of plain lines: `head field=number[,…] timestamp`; None of any other."""
    if any(odd in body for odd in _NOT_PLAIN):
        return None
    # A search for two bytes takes long, so it is made only where one of them is there.
    if (b"+" in body and b"=+" in body) or (b"#" in body and b"\n#" in b"\n" + body):
        return None
    parts = [line.split(b" ") for line in body.removesuffix(b"\n").split(b"\n")]
    if set(map(len, parts)) != {3}:
        return None
    heads, fields, stamps = zip(*parts, strict=True)
    counts = [item.count(b",") + 1 for item in fields]
    if sum(counts) > SAMPLES_MAX:
        raise _too_many()
    pairs = [item.split(b"=") for item in b",".join(fields).split(b",")]
    if set(map(len, pairs)) != {2}:
        return None
    names, numbers = zip(*pairs, strict=True)
    left = b"".join(numbers).translate(None, b"0123456789.eE+-")
    if not all(heads) or not all(names):
        return None
    if left.strip(b"i") or b"".join(stamps).translate(None, b"0123456789-"):
        return None
    try:
        if left:
            numbers = tuple([n if n[-1:] != b"i" else int(n[:-1]) for n in numbers])
        values = np.array(list(map(float, numbers)), np.float64)
        times = np.array(list(map(int, stamps)), np.int64)
    except (ValueError, OverflowError):
        return None
    bound = _TIME_MAX // precision.by
    if not np.isfinite(values).all() or times.max() >= bound or times.min() <= -bound:
        return None
    if left and np.abs(values).max() >= 2.0**63:
        return None
    times = times * precision.by // precision.per
    lines: Sequence[int] = range(1, len(parts) + 1)
    if len(pairs) > len(parts):
        times = np.repeat(times, counts)
        lines = np.repeat(np.arange(1, len(parts) + 1), counts).tolist()
        heads = tuple(chain.from_iterable(map(repeat, heads, counts)))
    keys = list(zip(heads, names, strict=True))
    return _decoded(lines, keys, times, values)


def _simple(line: bytes, number: int, precision: Precision, rows: _Rows) -> bool:
    """Take a line without escapes and strings; False, and nothing taken, if it is another."""
    if b"\\" in line or b'"' in line or line[:1] in (b"", b" ", b"\0", b"#"):
        return False
    if b"\t" in line:
        return False
    parts = line.split(b" ")
    if len(parts) == 3:
        t_ms = _time(parts[2], precision)
        if isinstance(t_ms, str):
            return False
    elif len(parts) == 2:
        t_ms = NO_TIME
    else:
        return False
    if parts[1].count(b",") > SAMPLES_MAX:
        raise _too_many()
    head = parts[0]
    keys, values = [], []
    for item in parts[1].split(b","):
        name, _, raw = item.partition(b"=")
        value = _number(raw)
        if not name or isinstance(value, str):
            return False
        keys.append((head, name))
        values.append(value)
    rows.keys += keys
    rows.values += values
    rows.times += [t_ms] * len(keys)
    rows.lines += [number] * len(keys)
    return True


def _number(raw: bytes) -> float | str:
    """The number of a field that is no string, or what is wrong with it."""
    if _FLOAT(raw):
        value = float(raw)
        return value if abs(value) != np.inf else f"{_shown(raw)} is beyond a 64-bit float"
    if raw in _BOOLEANS:
        return _BOOLEANS[raw]
    kind = raw[-1:]
    if kind in (b"i", b"u") and (whole := _whole(raw[:-1])) is not None:
        low, high = (-(1 << 63), 1 << 63) if kind == b"i" else (0, 1 << 64)
        if low <= whole < high:
            return float(whole)
        return f"{_shown(raw)} is beyond 64 bits"
    if not raw:
        return "it has no value"
    return f"{_shown(raw)} is no number, no boolean and no string in double quotes"


def _whole(raw: bytes) -> int | None:
    """An integer of up to 20 digits and any number of zeros before them, None if it is none."""
    found = _INTEGER(raw)
    return None if found is None else int(found[1] + (found[2] or b"0"))


def _time(raw: bytes, precision: Precision) -> int | str:
    """Milliseconds of a timestamp, or what is wrong with it."""
    if (stamp := _whole(raw)) is not None:
        t_ms = stamp * precision.by // precision.per
        if -_TIME_MAX < t_ms < _TIME_MAX:
            return t_ms
        return f"timestamp {_shown(raw)} is no time in {precision.name}"
    return f"timestamp {_shown(raw)} is no whole number"


class _BadLine(Exception):
    """What is wrong with a line, and where reading stopped."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.at = at


def _slow(
    body: bytes, begin: int, number: int, precision: Precision, rows: _Rows, answer: Answer
) -> int:
    """Take any line that begins at `begin`; gives where it ends: strings may hold newlines."""
    try:
        point = _Point(body, begin, precision)
    except _BadLine as bad:
        answer.reject(number, "", str(bad))
        end = body.find(b"\n", bad.at)
        return len(body) if end < 0 else end
    rows.keys += [(point.head, name) for name in point.names]
    rows.values += point.values
    rows.times += [point.t_ms] * len(point.names)
    rows.lines += [number] * len(point.names)
    rows.ignored += point.ignored
    return point.end


class _Point:
    """One line, read from left to right. Raises `_BadLine`."""

    def __init__(self, body: bytes, begin: int, precision: Precision) -> None:
        self._body = body
        self._at = begin
        self.names: list[bytes] = []
        self.values: list[float] = []
        self.ignored = 0
        self.t_ms = NO_TIME
        self.head = self._take(_TO_SPACE)
        self._take(_SPACES)
        if self._next() in (b"", b"\n"):
            raise self._bad(f"there are no fields after {_shown(self.head)}")
        self._field()
        while self._next() == b",":
            self._at += 1
            self._field()
        if self._next() not in (b"", b" ", b"\n"):
            raise self._bad("a string ends in the middle of a field")
        self._take(_SPACES)
        if stamp := self._take(_WORD):
            t_ms = _time(stamp, precision)
            if isinstance(t_ms, str):
                raise self._bad(t_ms)
            self.t_ms = t_ms
            self._take(_SPACES)
        if self._next() not in (b"", b"\n"):
            raise self._bad(f"{_shown(self._take(_WORD))} follows the timestamp")
        self.end = self._at

    def _field(self) -> None:
        name = self._take(_FIELD_NAME)
        if not name:
            raise self._bad("a field has no name")
        if self._next() != b"=":
            raise self._bad(f"field {_shown(name)} has no value")
        self._at += 1
        if self._next() == b'"':
            if not self._take(_STRING):
                raise self._bad(f"the string of field {_shown(name)} is not closed")
            self.ignored += 1
            return
        value = _number(self._take(_BARE))
        if isinstance(value, str):
            raise self._bad(f"field {_shown(name)}: {value}")
        if len(self.names) > SAMPLES_MAX:
            raise _too_many()
        self.names.append(name)
        self.values.append(value)

    def _next(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _take(self, match: _Match) -> bytes:
        found = match(self._body, self._at)
        if found is None:
            return b""
        self._at = found.end()
        return found[0]

    def _bad(self, reason: str) -> _BadLine:
        return _BadLine(reason, self._at)


def _series_by(keys: Sequence[Key]) -> Callable[[int], Series | str]:
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


def _name_of(key: Key) -> str:
    """The metric's name for an answer, whatever state the key is in."""
    measurement = _MEASUREMENT(key[0], 0, _NAME_BYTES)
    if measurement is None:
        return ""
    text = _MEASUREMENT_ESCAPE.sub(rb"\1", measurement[0])
    try:
        return _metric(text.decode(), key[1][:_NAME_BYTES])[:NAME_MAX]
    except UnicodeDecodeError:
        return ""


def _shown(raw: bytes) -> str:
    return repr(raw[:40].decode("utf-8", "replace"))
