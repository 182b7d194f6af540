"""InfluxDB's line protocol to columns.

    measurement[,tag=value…] field=value[,field=value…] [timestamp]

A series is called `<measurement>_<field>`, or `<measurement>` where the field is called `value`;
its labels are the tags. What the sender wrote of measurement, tags and field name is the key of the
tenant's series cache, so that these are parsed and checked once a series. Lines with escapes or
strings are read by `_Point`, which knows all of the syntax. The others are taken apart all at once
if each is plain (numbers and a timestamp), else one by one.

Escapes are as InfluxDB reads them: in names and tags a backslash counts only directly before a
character that would end the name, and stands for itself before any other, also before another one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np

from service.domain.errors import InvalidInput, TooLarge
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded
from service.ingest.line_series import Key, name_of, series_by
from service.storage.columns import Times, Values

#: Samples of one request. Clients send some thousands; memory is needed for each.
SAMPLES_MAX = 200_000
#: From so many bytes on, to take all lines apart at once costs less than one after the other.
_MANY = 800

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

# Beyond that, milliseconds are no time, and the smallest would mean "now".
_TIME_MAX = 1 << 62

# What no plain line holds. Only with one of them can a point have more than a line.
_NOT_PLAIN = (b"\\", b'"', b"\t", b"\0")
_TO_SPACE = re.compile(rb"(?:\\ |[^ \n])++").match
_FIELD_NAME = re.compile(rb"(?:\\[,= ]|[^,= \n])++").match
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL).match
_BARE = re.compile(rb"[^, \n]*+").match
_WORD = re.compile(rb"[^ \n]*+").match
_BLANK = re.compile(rb"[ \t\0]*+").match
_SPACES = re.compile(rb"[ \t]*+").match
# Nothing is tried twice, so that long digits take no longer than others.
_FLOAT = re.compile(rb"-?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?").fullmatch
_INTEGER = re.compile(rb"(-?)(?=[0-9])0*+([0-9]{0,20})").fullmatch
_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), 0.0),
}


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


@dataclass(frozen=True, slots=True)
class _Columns:
    """Line, raw series, milliseconds and value of each of n samples."""

    lines: Sequence[int]
    keys: Sequence[Key]
    times: Times
    values: Values

    def joined(self, other: "_Columns") -> "_Columns":
        """These, and then the others."""
        return _Columns(
            [*self.lines, *other.lines],
            [*self.keys, *other.keys],
            np.concatenate([self.times, other.times]),
            np.concatenate([self.values, other.values]),
        )

    def in_order(self) -> "_Columns":
        """By line: of equal timestamps the last written wins."""
        order = np.argsort(np.array(self.lines, np.int64), kind="stable")
        places = order.tolist()
        return _Columns(
            [self.lines[place] for place in places],
            [self.keys[place] for place in places],
            self.times[order],
            self.values[order],
        )


@dataclass(slots=True)
class _Rows:
    """Samples so far: line, raw series, milliseconds and value of each."""

    lines: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    ignored: int = 0

    def columns(self) -> _Columns:
        """All of them."""
        times, values = np.array(self.times, np.int64), np.array(self.values, np.float64)
        return _Columns(self.lines, self.keys, times, values)


def decode(
    body: bytes, precision: Precision, answer: Answer, *, many: int = _MANY
) -> tuple[Decoded, int]:
    """Columns of a body, and how many text fields were left out; bad lines go into `answer`.

    `index` is the number of the line, from 1. Raises `TooLarge` over `SAMPLES_MAX` samples.
    """
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
    _bounded(body.count(b"\n"))  # each line costs time, also one that holds nothing
    rows = _Rows()
    lines, numbers = _odd_taken(body, precision, rows, answer)
    mixed = bool(lines and rows.keys)
    columns = _plain(lines, numbers, precision) if lines and len(body) >= many else None
    if columns is None:
        for line, number in zip(lines, numbers, strict=True):
            if not _simple(line, number, precision, rows):
                begin = _begin(line, 0)
                if begin is not None:
                    _slow(line, begin, number, precision, rows, answer)
            _bounded(len(rows.keys))
        columns = rows.columns()
    elif mixed:
        columns = columns.joined(rows.columns())
    _bounded(len(columns.keys))
    return _decoded(columns.in_order() if mixed else columns), rows.ignored


def _odd_taken(
    body: bytes, precision: Precision, rows: _Rows, answer: Answer
) -> tuple[list[bytes], Sequence[int]]:
    """Take lines with any of `_NOT_PLAIN`; gives the others, and the number of each."""
    odd = [(body.find(byte), byte) for byte in _NOT_PLAIN]
    if all(at < 0 for at, _ in odd):
        lines = body.removesuffix(b"\n").split(b"\n") if body else []
        return lines, range(1, len(lines) + 1)
    lines = []
    numbers: list[int] = []
    odd = [(-1, byte) for byte in _NOT_PLAIN]
    start, number = 0, 1
    while start < len(body):
        odd = [(at if at >= start else _find(body, byte, start), byte) for at, byte in odd]
        nearest = min(odd)[0]
        # Where the line with it begins, or the one at `start` if that is it.
        stop = len(body)
        if nearest < stop:
            stop = max(start, body.rfind(b"\n", start, nearest) + 1)
        if stop > start:
            block = body[start:stop].removesuffix(b"\n").split(b"\n")
            lines += block
            numbers += range(number, number + len(block))
            number += len(block)
        elif (begin := _begin(body, start)) is None:
            stop = _find(body, b"\n", start) + 1
            number += 1
        else:
            end = _slow(body, begin, number, precision, rows, answer)
            number += body.count(b"\n", start, end) + 1
            stop = end + 1
            _bounded(len(rows.keys))
        start = stop
    return lines, numbers


def _decoded(found: _Columns) -> Decoded:
    return Decoded(
        protocol="line",
        index=found.lines,
        keys=found.keys,
        t_ms=found.times,
        values=found.values,
        series=series_by(found.keys),
        name=lambda row: name_of(found.keys[row]),
    )


def _bounded(count: int) -> None:
    if count > SAMPLES_MAX:
        raise TooLarge(f"a request may hold {SAMPLES_MAX} samples; send smaller batches")


def _begin(body: bytes, start: int) -> int | None:
    """Where the point of a line begins, None if there is none."""
    blank = _BLANK(body, start)
    begin = start if blank is None else blank.end()
    return None if body[begin : begin + 1] in (b"", b"\n", b"#") else begin


def _find(body: bytes, byte: bytes, start: int) -> int:
    """Where the byte comes next, or the end of the body."""
    at = body.find(byte, start)
    return len(body) if at < 0 else at


def _plain(lines: Sequence[bytes], numbers: Sequence[int], precision: Precision) -> _Columns | None:
    """Columns of lines `head field=number[,…] timestamp`; None if one of them is another."""
    parts = [line.split(b" ") for line in lines]
    if set(map(len, parts)) != {3}:
        return None
    heads, fields, stamps = zip(*parts, strict=True)
    counts = [item.count(b",") + 1 for item in fields]
    _bounded(sum(counts))
    values_text = b",".join(fields)
    # A search for two bytes takes long, so it is made only where one of them is there.
    if b"+" in values_text and b"=+" in values_text:
        return None
    if any(head[:1] == b"#" for head in heads):
        return None
    pairs = [item.split(b"=") for item in values_text.split(b",")]
    if set(map(len, pairs)) != {2}:
        return None
    names, texts = zip(*pairs, strict=True)
    left = b"".join(texts).translate(None, b"0123456789.eE+-")
    if not all(heads) or not all(names):
        return None
    if left.strip(b"i") or b"".join(stamps).translate(None, b"0123456789-"):
        return None
    try:
        if left:
            texts = tuple([n if n[-1:] != b"i" else int(n[:-1]) for n in texts])
        values = np.array(list(map(float, texts)), np.float64)
        times = np.array(list(map(int, stamps)), np.int64)
    except (ValueError, OverflowError):
        return None
    bound = _TIME_MAX // precision.by
    if not np.isfinite(values).all() or times.max() >= bound or times.min() <= -bound:
        return None
    if left and np.abs(values).max() >= 2.0**63:
        return None
    times = times * precision.by // precision.per
    if len(pairs) > len(lines):
        times = np.repeat(times, counts)
        numbers = np.repeat(np.array(numbers), counts).tolist()
        heads = tuple(chain.from_iterable(map(repeat, heads, counts)))
    return _Columns(numbers, list(zip(heads, names, strict=True)), times, values)


def _simple(line: bytes, number: int, precision: Precision, rows: _Rows) -> bool:
    """Take a line without escapes and strings; False, and nothing taken, if it is another."""
    if line[:1] in (b"", b" ", b"#"):
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
    _bounded(parts[1].count(b","))
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
        return _find(body, b"\n", bad.at)
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
        _bounded(len(self.names))
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


def _shown(raw: bytes) -> str:
    return repr(raw[:40].decode("utf-8", "replace"))
