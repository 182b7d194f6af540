"""Samples that say where they belong: from a sequence number follow series, time and value."""

import json
import struct
from dataclasses import dataclass

import cramjam
import numpy as np

from service.domain.series import Series
from service.storage.columns import Times, Values

PROTOCOLS = ("json", "remote_write", "line_protocol")
#: Series of one sender, and milliseconds between two samples of a series.
WIDTH, STEP_MS = 25, 100

PATHS = {
    "json": "/analytics/metrics",
    "remote_write": "/api/v1/write",
    "line_protocol": "/api/v2/write?precision=ms",
}
HEADERS = {
    "json": {"Content-Type": "application/json"},
    "remote_write": {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"},
    "line_protocol": {"Content-Type": "text/plain"},
}


@dataclass(frozen=True)
class Stamps:
    """The samples of one sender, in its protocol.

    Sample `i` lies in series `i % WIDTH` at `start_ms + i // WIDTH * STEP_MS`; its value is a
    seventh of a number that no other sample of any sender has, so that no bit of it is spare.
    """

    sender: int
    protocol: str
    start_ms: int

    def series(self, n: int) -> Series:
        """The `n`th series."""
        return Series.of("stamped", {"sender": str(self.sender), "n": str(n)})

    def rows(self, first: int, last: int) -> tuple[list[int], list[int], list[float]]:
        """Series, milliseconds and value of samples `first` to `last`, the latter not included."""
        i = np.arange(first, last)
        t = self.start_ms + i // WIDTH * STEP_MS
        return (i % WIDTH).tolist(), t.tolist(), self._values(i).tolist()

    def _values(self, i: Times) -> Values:
        return ((self.sender << 32) + i) / 7

    def of_series(self, n: int, count: int) -> tuple[Times, Times, Values]:
        """Sequence numbers, milliseconds and values of a series' share of the first `count`."""
        i = np.arange(n, count, WIDTH)
        return i, self.start_ms + i // WIDTH * STEP_MS, self._values(i)

    def body(self, first: int, last: int) -> bytes:
        """A request with these samples."""
        rows = self.rows(first, last)
        if self.protocol == "json":
            return self._json(*rows)
        if self.protocol == "remote_write":
            return self._remote_write(*rows)
        lines = (
            f"stamped,sender={self.sender},n={n} value={v!r} {t}"
            for n, t, v in zip(*rows, strict=True)
        )
        return "\n".join(lines).encode()

    def _json(self, series: list[int], t: list[int], values: list[float]) -> bytes:
        sender = str(self.sender)
        items = [
            {
                "name": "stamped",
                "labels": {"sender": sender, "n": str(n)},
                "timestamp": at / 1000,
                "value": v,
            }
            for n, at, v in zip(series, t, values, strict=True)
        ]
        return json.dumps(items).encode()

    def _remote_write(self, series: list[int], t: list[int], values: list[float]) -> bytes:
        labels: dict[int, bytes] = {}
        samples: dict[int, list[bytes]] = {}
        for n, at, v in zip(series, t, values, strict=True):
            if n not in labels:
                pairs = {"__name__": "stamped", "n": str(n), "sender": str(self.sender)}
                labels[n] = b"".join(
                    _field(1, _field(1, key.encode()) + _field(2, text.encode()))
                    for key, text in pairs.items()
                )
            point = b"\x09" + struct.pack("<d", v) + b"\x10" + _varint(at)
            samples.setdefault(n, []).append(_field(2, point))
        message = b"".join(_field(1, labels[n] + b"".join(samples[n])) for n in labels)
        return bytes(cramjam.snappy.compress_raw(message))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)
