"""Requests of the four protocols, encoded before the clock starts.

A body is made once for each group of series and each step of a random walk. Between two uses only
its timestamp is written anew, in place, so that every sample sent is a new one and the memory does
not grow with the length of a run. Snappy blocks are patched too: where a timestamp is a copy of
the one before, only the first stands in the block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cramjam
import numpy as np
from numpy.typing import NDArray

from service.domain.series import Series

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

#: The largest memory that bodies may take.
MEMORY_MAX = 200 << 20
#: Values are whole thousandths between these, so that they have seven digits in text.
_LOW, _HIGH = 100_000, 999_999


@dataclass(frozen=True)
class Protocol:
    """How a protocol's requests look from outside."""

    name: str
    path: str
    headers: tuple[str, ...]


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("json", "/analytics/metrics", ("Content-Type: application/json",)),
        Protocol(
            "remote_write",
            "/api/v1/write",
            (
                "Content-Type: application/x-protobuf",
                "Content-Encoding: snappy",
                "X-Prometheus-Remote-Write-Version: 0.1.0",
            ),
        ),
        Protocol("otlp", "/v1/metrics", ("Content-Type: application/x-protobuf",)),
        Protocol("line_protocol", "/api/v2/write", ("Content-Type: text/plain; charset=utf-8",)),
    )
}


def labels_of(number: int) -> dict[str, str]:
    """Eight labels, as exporters have them."""
    return {
        "cpu": str(number % 16),
        "datacenter": f"eu-west-{number % 3}",
        "environment": "production",
        "instance": f"10.0.{number // 4000}.{number // 16 % 250}:9100",
        "job": "node_exporter",
        "mode": ("idle", "user", "system", "iowait")[number % 4],
        "pod": f"checkout-{number:06d}",
        "team": f"team-{number % 20}",
    }


def series_of(metric: str, number: int) -> Series:
    """The series that the service makes of one of ours."""
    return Series.of(metric, labels_of(number))


@dataclass(frozen=True)
class _Layout:
    """A message with places for values (n,) and for times (n,); `compress` packs it."""

    message: Bytes
    values_at: Ints
    times_at: Ints
    value_bytes: Callable[[Ints], Bytes]  # thousandths (n,) → (n, width)
    time_bytes: Callable[[int], bytes]  # milliseconds → width
    compress: bool = False


def _join(pieces: Sequence[tuple[bytes, int, int]]) -> tuple[bytes, Ints, Ints]:
    """Pieces one after the other: bytes, and where values and times stand, absolutely."""
    starts = np.cumsum([0, *(len(piece) for piece, _, _ in pieces)])[:-1]
    values = starts + np.array([value for _, value, _ in pieces])
    times = starts + np.array([time for _, _, time in pieces])
    return b"".join(piece for piece, _, _ in pieces), values, times


def varint(number: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + varint(len(body)) + body


def _doubles(thousandths: Ints) -> Bytes:
    return (thousandths / 1000).astype("<f8").view(np.uint8).reshape(len(thousandths), 8)


def _decimals(thousandths: Ints) -> Bytes:
    digits = thousandths[:, None] // 10 ** np.array([5, 4, 3, 2, 1, 0]) % 10 + ord("0")
    text = np.full((len(thousandths), 7), ord("."), np.uint8)
    text[:, [0, 1, 2, 4, 5, 6]] = digits
    return text


def _remote_write(metric: str, numbers: Sequence[int]) -> _Layout:
    pieces = []
    for number in numbers:
        labels = {"__name__": metric, **labels_of(number)}
        body = b"".join(
            _field(0x0A, _field(0x0A, name.encode()) + _field(0x12, value.encode()))
            for name, value in sorted(labels.items())
        )
        body += _field(0x12, b"\x09" + bytes(8) + b"\x10" + varint(1 << 40))
        piece = _field(0x0A, body)
        pieces.append((piece, len(piece) - 15, len(piece) - 6))
    message, values_at, times_at = _join(pieces)
    return _Layout(_array(message), values_at, times_at, _doubles, varint, compress=True)


def _otlp(metric: str, numbers: Sequence[int]) -> _Layout:
    def pair(name: str, value: str) -> bytes:
        return _field(0x0A, name.encode()) + _field(0x12, _field(0x0A, value.encode()))

    pieces = []
    for number in numbers:
        labels = {k: v for k, v in labels_of(number).items() if k != "job"}
        attributes = b"".join(_field(0x3A, pair(*item)) for item in labels.items())
        body = b"\x19" + bytes(8) + b"\x21" + bytes(8) + attributes
        piece = _field(0x0A, body)
        head = len(piece) - len(body)
        pieces.append((piece, head + 10, head + 1))
    points, values_at, times_at = _join(pieces)
    metrics = _field(0x12, _field(0x0A, metric.encode()) + _field(0x2A, points))
    resource = _field(0x0A, _field(0x0A, pair("service.name", "node_exporter")))
    message = _field(0x0A, resource + _field(0x12, metrics))
    shift = len(message) - len(points)
    return _Layout(
        _array(message),
        values_at + shift,
        times_at + shift,
        _doubles,
        lambda t_ms: (t_ms * 1_000_000).to_bytes(8, "little"),
    )


def _json(metric: str, numbers: Sequence[int]) -> _Layout:
    pieces = []
    for number in numbers:
        labels = ",".join(f'"{name}":"{value}"' for name, value in labels_of(number).items())
        head = f'{{"name":"{metric}","value":'
        middle = f'{head}000.000,"timestamp":'
        piece = f'{middle}0000000000.000,"labels":{{{labels}}}}},'
        pieces.append((piece.encode(), len(head), len(middle)))
    message, values_at, times_at = _join(pieces)
    return _Layout(
        _array(b"[" + message[:-1] + b"]"),
        values_at + 1,
        times_at + 1,
        _decimals,
        lambda t_ms: f"{t_ms // 1000}.{t_ms % 1000:03d}".encode(),
    )


def _line_protocol(metric: str, numbers: Sequence[int]) -> _Layout:
    pieces = []
    for number in numbers:
        tags = ",".join(f"{name}={value}" for name, value in labels_of(number).items())
        head = f"{metric},{tags} value="
        pieces.append((f"{head}000.000 {10**18}\n".encode(), len(head), len(head) + 8))
    message, values_at, times_at = _join(pieces)
    return _Layout(_array(message), values_at, times_at, _decimals, lambda t_ms: b"%d000000" % t_ms)


_LAYOUTS = {
    "json": _json,
    "remote_write": _remote_write,
    "otlp": _otlp,
    "line_protocol": _line_protocol,
}


def _array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8).copy()


def _literals(block: bytes) -> list[int]:
    """For each byte of the inflated message: where in the block it stands, as a literal."""
    pos = 0
    while block[pos] > 127:
        pos += 1
    pos += 1
    origin: list[int] = []
    while pos < len(block):
        tag = block[pos]
        kind, length = tag & 3, (tag >> 2) + 1
        pos += 1
        if kind == 0:
            if length > 60:
                more = length - 60
                length = int.from_bytes(block[pos : pos + more], "little") + 1
                pos += more
            origin += range(pos, pos + length)
            pos += length
            continue
        if kind == 1:
            length, back = 4 + (tag >> 2 & 7), tag >> 5 << 8 | block[pos]
            pos += 1
        else:
            width = 2 if kind == 2 else 4
            back = int.from_bytes(block[pos : pos + width], "little")
            pos += width
        start = len(origin) - back
        while length:  # a copy may reach into what it writes itself
            piece = origin[start : start + length]
            origin += piece
            start += len(piece)
            length -= len(piece)
    return origin


class Body:
    """One request as it goes over the wire, with a timestamp that can be set."""

    def __init__(self, head: bytes, content: bytes, at: Ints, which: Ints) -> None:
        """`at` are the places in the content of bytes of the timestamp, `which` tells which."""
        lines = head + b"Content-Length: %d\r\n\r\n" % len(content)
        self.request = bytearray(lines + content)
        self._bytes = np.frombuffer(self.request, np.uint8)
        self._at = at + len(lines)
        self._which = which

    def stamp(self, text: Bytes) -> None:
        """Set the timestamp, as the protocol writes it."""
        self._bytes[self._at] = text[self._which]


class Bodies:
    """All requests of a run: `count` groups of `per_request` series, some variants of each."""

    def __init__(
        self,
        protocol: str,
        metric: str,
        series: int,
        per_request: int,
        head: bytes,
        at_once: int = 4,
    ) -> None:
        """`at_once` requests may be on their way, each with a body of its own."""
        per_request = min(per_request, series)
        self.groups = [
            range(start, start + per_request)
            for start in range(0, series - per_request + 1, per_request)
        ]
        random = np.random.default_rng(1)
        layouts = [_LAYOUTS[protocol](metric, group) for group in self.groups]
        self._time_bytes = layouts[0].time_bytes
        memory = sum(len(layout.message) + 300 for layout in layouts)
        wanted = 4 if len(layouts) > 1000 else 8 if layouts[0].compress else 24
        least = -(-(at_once + 1) // len(layouts)) + 1
        variants = max(least, min(wanted, MEMORY_MAX // memory))
        #: Thousandths (variants, series) that each variant carries.
        self.ticks = _walk(random, variants, series)
        self.bodies = [
            [
                _filled(layout, self.ticks[variant, group.start : group.stop], head, random)
                for variant in range(variants)
            ]
            for layout, group in zip(layouts, self.groups, strict=True)
        ]

    def stamp(self, t_ms: int) -> Bytes:
        """A timestamp as `Body.stamp` takes it."""
        return np.frombuffer(self._time_bytes(t_ms), np.uint8)


def _walk(random: np.random.Generator, steps: int, series: int) -> Ints:
    """Random walks there and back again, so that the last step is near the first."""
    moves = random.integers(-500, 501, (steps, series))
    moves[0] = random.integers(_LOW, _HIGH, series)
    there = np.cumsum(moves, axis=0)
    order = np.r_[np.arange(0, steps, 2), np.arange(1, steps, 2)[::-1]]
    walk: Ints = np.empty_like(there)
    walk[np.arange(steps)] = there[order]
    return np.clip(walk, _LOW, _HIGH)


def _filled(layout: _Layout, ticks: Ints, head: bytes, random: np.random.Generator) -> Body:
    message = layout.message.copy()
    text = layout.value_bytes(ticks)
    message[layout.values_at[:, None] + np.arange(text.shape[1])] = text
    width = len(layout.time_bytes(1 << 40))
    times = layout.times_at[:, None] + np.arange(width)
    which = np.tile(np.arange(width), len(times))
    if not layout.compress:
        return Body(head, message.tobytes(), times.ravel(), which)
    for _ in range(20):
        # Any time will do; a rare one has bytes that stand nowhere else.
        message[times] = np.frombuffer(
            layout.time_bytes(int(random.integers(1 << 40, 1 << 41))), np.uint8
        )
        block = bytes(cramjam.snappy.compress_raw(message.tobytes()))
        origin = np.array(_literals(block))
        others = np.ones(len(origin), bool)
        others[times] = False
        owner = np.full(len(block), -1)
        owner[origin[times]] = np.arange(width)
        # Each byte to patch must belong to one byte of the timestamp and to nothing else.
        if (owner[origin[times]] == np.arange(width)).all() and (owner[origin[others]] < 0).all():
            at = np.flatnonzero(owner >= 0)
            return Body(head, block, at, owner[at])
    raise RuntimeError("no timestamp was found that can be patched in the snappy block")
