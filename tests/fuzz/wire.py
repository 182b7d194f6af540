"""Protocol Buffers as an encoder writes them, and fields taken apart to be damaged."""

import base64
import struct
from random import Random
from typing import Any

Field = tuple[int, int, bytes]
"""Number, wire type, and the bytes of the value without the length."""


def varint(value: int, padding: int = 0) -> bytes:
    """A number, with up to `padding` bytes more than needed."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    if padding:
        out[-1] |= 128
        out += b"\x80" * (padding - 1) + b"\0"
    return bytes(out)


def field(number: int, wire_type: int, value: bytes, padding: int = 0) -> bytes:
    """A field; the value of a length-delimited one gets its length."""
    if wire_type == 2:
        value = varint(len(value), padding) + value
    return varint(number << 3 | wire_type, padding) + value


def fields_of(message: bytes) -> list[Field] | None:
    """The fields of a message, None if it is none or holds groups."""
    found: list[Field] = []
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint_at(message, at)
        kind = tag & 7
        begin = at
        if at < 0 or tag < 8:
            return None
        if kind == 0:
            _, at = _varint_at(message, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            size, begin = _varint_at(message, at)
            at = begin + size
            if begin < 0:
                return None
        else:
            return None
        if not 0 <= at <= end:
            return None
        found.append((tag >> 3, kind, message[begin:at]))
    return found


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends; -1 if it does not."""
    value = 0
    for place in range(10):
        if at >= len(message):
            break
        value |= (message[at] & 127) << (7 * place)
        at += 1
        if message[at - 1] < 128:
            return value, at
    return 0, -1


# Of each member: number in the message, kind, and the schema of a message.
_KEY_VALUE: dict[str, Any] = {}
_VALUE: dict[str, Any] = {
    "stringValue": (1, "text", None),
    "boolValue": (2, "varint", None),
    "intValue": (3, "varint", None),
    "doubleValue": (4, "double", None),
    "arrayValue": (5, "message", {"values": (1, "message", None)}),
    "kvlistValue": (6, "message", {"values": (1, "message", _KEY_VALUE)}),
    "bytesValue": (7, "bytes", None),
}
_VALUE["arrayValue"][2]["values"] = (1, "message", _VALUE)
_KEY_VALUE.update({"key": (1, "text", None), "value": (2, "message", _VALUE)})


def _attributes(number: int) -> Any:
    return (number, "message", _KEY_VALUE)


_NUMBER = {
    "attributes": _attributes(7),
    "timeUnixNano": (3, "fixed", None),
    "flags": (8, "varint", None),
    "asDouble": (4, "double", None),
    "asInt": (6, "fixed", None),
}
_HISTOGRAM = {
    "attributes": _attributes(9),
    "timeUnixNano": (3, "fixed", None),
    "count": (4, "fixed", None),
    "sum": (5, "double", None),
    "bucketCounts": (6, "packed fixed", None),
    "explicitBounds": (7, "packed double", None),
    "flags": (10, "varint", None),
}
_SUMMARY = {
    "attributes": _attributes(7),
    "timeUnixNano": (3, "fixed", None),
    "count": (4, "fixed", None),
    "sum": (5, "double", None),
    "quantileValues": (
        6,
        "message",
        {"quantile": (1, "double", None), "value": (2, "double", None)},
    ),
    "flags": (8, "varint", None),
}
_EXPONENTIAL = {"timeUnixNano": (3, "fixed", None), "flags": (10, "varint", None)}


def _data(number: int, point: Any) -> Any:
    more = {"aggregationTemporality": (2, "varint", None), "isMonotonic": (3, "varint", None)}
    return (number, "message", {"dataPoints": (1, "message", point), **more})


_METRIC = {
    "name": (1, "text", None),
    "unit": (3, "text", None),
    "gauge": _data(5, _NUMBER),
    "sum": _data(7, _NUMBER),
    "histogram": _data(9, _HISTOGRAM),
    "exponentialHistogram": _data(10, _EXPONENTIAL),
    "summary": _data(11, _SUMMARY),
}
_SCOPE = {"name": (1, "text", None), "version": (2, "text", None), "attributes": _attributes(3)}
_SCOPE_METRICS = {"scope": (1, "message", _SCOPE), "metrics": (2, "message", _METRIC)}
_RESOURCE_METRICS = {
    "resource": (1, "message", {"attributes": _attributes(1)}),
    "scopeMetrics": (2, "message", _SCOPE_METRICS),
}
_REQUEST = {"resourceMetrics": (1, "message", _RESOURCE_METRICS)}


def otlp(request: dict[str, Any], rng: Random) -> bytes:
    """A request of its form in JSON; now and then its fields are in another order."""
    return _message(request, _REQUEST, rng)


def _message(value: dict[str, Any], schema: Any, rng: Random) -> bytes:
    parts = []
    for key, item in value.items():
        if key not in schema:
            continue
        number, kind, inner = schema[key]
        if kind.startswith("packed "):
            packed = b"".join(_scalar(x, kind.removeprefix("packed "))[1] for x in item)
            parts += [field(number, 2, packed)] if item else []
            continue
        for one in item if isinstance(item, list) else [item]:
            if kind == "message":
                parts.append(field(number, 2, _message(one, inner, rng)))
            else:
                parts.append(field(number, *_scalar(one, kind)))
    if rng.random() < 0.05:
        rng.shuffle(parts)
    return b"".join(parts)


def _scalar(value: Any, kind: str) -> tuple[int, bytes]:
    """Wire type and bytes of a value."""
    if kind == "text":
        return 2, value.encode()
    if kind == "bytes":
        return 2, base64.b64decode(value + "=" * (-len(value) % 4))
    if kind == "double":
        return 1, struct.pack("<d", float(value))
    if kind == "fixed":
        return 1, struct.pack("<Q", int(value) & (1 << 64) - 1)
    return 0, varint(int(value))
