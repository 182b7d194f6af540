"""InfluxDB's line protocol, one byte at a time.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/, and where that is silent as
InfluxDB's own parser reads it: a backslash in a name or tag counts only before a character that it
can escape there, and `\\r\\n` ends a line like `\\n`.
"""

from fractions import Fraction

from tests.support.slow_decoders.result import NOW, Labels, Read, bits_of, series

#: Nanoseconds of one unit.
PRECISIONS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_BOOLEANS = {
    **dict.fromkeys(["t", "T", "true", "True", "TRUE"], 1.0),
    **dict.fromkeys(["f", "F", "false", "False", "FALSE"], 0.0),
}
_DIGITS = b"0123456789"


class _Bad(Exception):
    """The line is none."""


def read(body: bytes, precision: str = "ns") -> Read:
    """The samples of a body; an item is a line, counted from 1."""
    return _Reader(body, PRECISIONS[precision]).result


class _Reader:
    def __init__(self, body: bytes, unit: int) -> None:
        body = body.replace(b"\r\n", b"\n")
        self._body = body[:-1] if body.endswith(b"\r") else body
        self._unit = unit
        self._at = 0
        self.result = Read()
        while self._at < len(self._body):
            self._line()

    def _next(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _step(self) -> bytes:
        self._at += 1
        return self._body[self._at - 1 : self._at]

    def _line(self) -> None:
        number = self._body.count(b"\n", 0, self._at) + 1
        while self._next() in (b" ", b"\t", b"\0"):
            self._at += 1
        try:
            if self._next() not in (b"", b"\n", b"#"):
                self._point(number)
        except _Bad:
            self.result.rejected.add(number)
        while self._step() not in (b"", b"\n"):
            pass

    def _until(self, ends: bytes, escapable: bytes) -> tuple[bytes, bytes]:
        """Bytes up to one of `ends`, as they mean and as they are written."""
        means, written = bytearray(), bytearray()
        while (byte := self._next()) and byte not in ends:
            self._at += 1
            written += byte
            if byte == b"\\" and self._next() and self._next() in escapable:
                byte = self._step()
                written += byte
            means += byte
        return bytes(means), bytes(written)

    def _skip_spaces(self) -> None:
        while self._next() in (b" ", b"\t"):
            self._at += 1

    def _point(self, number: int) -> None:
        # Measurement and tags are looked at once the line is known to be one.
        begin = self._at
        self._until(b" \n", b" ")
        head = self._body[begin : self._at]
        self._skip_spaces()
        if self._next() in (b"", b"\n"):
            raise _Bad
        samples, texts = [], 0
        while True:
            name, value = self._field()
            if value is None:
                texts += 1
            else:
                samples.append((name, value))
            if self._next() != b",":
                break
            self._at += 1
        if self._next() not in (b"", b" ", b"\n"):
            raise _Bad
        self._skip_spaces()
        _, stamp = self._until(b" \n", b"")
        t_ms = NOW
        if stamp:
            t_ms = _milliseconds(stamp, self._unit)
            self._skip_spaces()
        if self._next() not in (b"", b"\n"):
            self._until(b" \n", b"")
            raise _Bad
        self.result.ignored += texts
        measurement, tags = _head(head)
        for name, value in samples:
            labels = _series(measurement, name, tags)
            self.result.add(number, labels, "gauge", t_ms, bits_of(value))

    def _field(self) -> tuple[bytes, float | None]:
        name, _ = self._until(b",= \n", b",= ")
        if not name or self._next() != b"=":
            raise _Bad
        self._at += 1
        if self._next() == b'"':
            self._string()
            return name, None
        _, raw = self._until(b", \n", b"")
        return name, _number(raw)

    def _string(self) -> None:
        begin = self._at
        self._at += 1
        while True:
            byte = self._step()
            if byte == b'"':
                return
            if byte == b"\\":
                byte = self._step()
            if not byte:
                self._at = begin  # what follows on further lines was not meant as a string
                raise _Bad


def _digits(text: bytes) -> int:
    """A number of digits only, at least one."""
    if not text or any(byte not in _DIGITS for byte in text):
        raise _Bad
    text = text.lstrip(b"0") or b"0"
    if len(text) > 20:
        raise _Bad
    return int(text)


def _integer(text: bytes) -> int:
    return -_digits(text[1:]) if text.startswith(b"-") else _digits(text)


def _number(raw: bytes) -> float:
    text = raw.decode("latin-1")
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if raw.endswith((b"i", b"u")):
        whole = _integer(raw[:-1])
        low, high = (-(2**63), 2**63 - 1) if raw.endswith(b"i") else (0, 2**64 - 1)
        if not low <= whole <= high:
            raise _Bad
        return float(whole)
    mantissa, exponent = raw.replace(b"E", b"e"), b"0"
    if b"e" in mantissa:
        mantissa, _, exponent = mantissa.partition(b"e")
        if exponent[:1] in (b"+", b"-"):
            exponent = exponent[1:]
    if mantissa.startswith(b"-"):
        mantissa = mantissa[1:]
    whole_part, _, fraction = mantissa.partition(b".")
    if not whole_part + fraction or not exponent:
        raise _Bad
    if any(byte not in _DIGITS for byte in whole_part + fraction + exponent):
        raise _Bad
    value = float(text)
    if abs(value) == float("inf"):
        raise _Bad
    return value


def _milliseconds(stamp: bytes, unit: int) -> int:
    exact = Fraction(_integer(stamp) * unit, 10**6)
    t_ms = exact.numerator // exact.denominator
    if abs(t_ms) >= 2**62:
        raise _Bad
    return t_ms


def _head(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]] | None]:
    """Measurement and tags; None if the tags are wrong."""
    reader = _Reader(b"", 1)
    reader._body, reader._at = head, 0
    measurement, _ = reader._until(b", ", b", ")
    tags: list[tuple[bytes, bytes]] = []
    while reader._next():
        if reader._step() != b",":
            return measurement, None
        key, _ = reader._until(b",= ", b",= ")
        if not key or reader._step() != b"=":
            return measurement, None
        value, _ = reader._until(b",= ", b",= ")
        if not value:
            return measurement, None
        tags.append((key, value))
    return measurement, tags


def _series(
    measurement: bytes, field: bytes, tags: list[tuple[bytes, bytes]] | None
) -> Labels | None:
    if not measurement or tags is None:
        return None
    try:
        text = measurement.decode()
        if field != b"value":
            text += "_" + field.decode()
        pairs = [(key.decode(), value.decode()) for key, value in tags]
    except UnicodeDecodeError:
        return None
    labels = {_cleaned(key, "_"): value for key, value in pairs}
    return series(_cleaned(text, "_:"), labels) if len(labels) == len(pairs) else None


def _cleaned(text: str, allowed: str) -> str:
    text = "".join(c if c.isascii() and (c.isalnum() or c in allowed) else "_" for c in text)
    return "_" + text if text[0].isdigit() else text
