"""Bodies as clients write them, and as they could: what is then damaged. All from one `Random`."""

import gzip
import json
from random import Random
from typing import Any

from tests.fuzz import wire
from tests.support.slow_decoders.result import bits_of

NAMES = (
    "cpu",
    "http_requests_total",
    "rtt_sum",
    "5xx",
    "a.b",
    "",
    "x:forecast",
    "_",
    "rule:a",
    "value",
)
KEYS = (
    "host",
    "le",
    "job",
    "a.b",
    "a_b",
    "a-b",
    "é",
    "__name__",
    "instance",
    "quantile",
    "1st",
    "",
)
TEXTS = (
    "a",
    "",
    "eu-1",
    "C:\\new dir",
    'say "hi"',
    "a=b,c d",
    "Köln",
    "😀",
    "\n",
    "\t",
    "x" * 130,
    "\0",
    "ö" * 512,
    "ö" * 513,
)
REALS = (0.0, -0.0, 1.5, -3.25, 1e300, 5e-324, 0.1, 2.0**53, 2.0**63, 2.0**64, 1e15, 99.999)
WHOLE = (0, 1, -1, 7, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 10**20)
TIMES = (0, 1, 1_700_000_000, 1_700_000_000_123, 1_700_000_000_123_456_789, -5, 2**63 - 1)
ISO = (
    "2024-05-01T00:00:00Z",
    "2024-05-01 10:00:00.123456+02:00",
    "2024-05-01T00:00:00",
    "20240501T000000Z",
    "2024-W18-3T00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "yesterday",
)


def _some(rng: Random, most: int) -> range:
    return range(min(rng.randrange(most + 1), rng.randrange(most + 1)))


def _name(rng: Random) -> str:
    return rng.choice(NAMES[:3] if rng.random() < 0.8 else NAMES)


def _labels(rng: Random) -> dict[str, str]:
    names = ("host", "region", "job", "a") if rng.random() < 0.7 else KEYS
    texts = TEXTS[:-3] if rng.random() < 0.9 else TEXTS
    return {rng.choice(names): rng.choice(texts) for _ in _some(rng, 5)}


def _real(rng: Random) -> float:
    return rng.choice(REALS) if rng.random() < 0.5 else rng.uniform(-1e6, 1e6)


def _dumped(rng: Random, value: Any) -> bytes:
    spaced = rng.choice([(",", ":"), (", ", ": "), (" , ", " : ")])
    indent = 1 if rng.random() < 0.1 else None
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, separators=spaced, indent=indent)
    return text.encode()


def json_body(rng: Random) -> bytes:
    """An array of metrics, or one."""
    items = [_json_item(rng) for _ in range(1 + len(_some(rng, 6)))]
    if rng.random() < 0.2:  # the same series once more, with another value and order
        again = dict(items[0])
        again["value"] = _real(rng)
        if "labels" in again:
            again["labels"] = dict(reversed(again["labels"].items()))
        items.append(again)
    return _dumped(rng, items[0] if len(items) == 1 and rng.random() < 0.5 else items)


def _json_item(rng: Random) -> dict[str, Any]:
    value = _real(rng) if rng.random() < 0.7 else rng.choice(WHOLE)
    item: dict[str, Any] = {"name": _name(rng), "value": value}
    if rng.random() < 0.7:
        kind = rng.random()
        item["timestamp"] = rng.choice(ISO) if kind < 0.3 else rng.choice((*TIMES, 1.7e9 + 0.1234))
    if rng.random() < 0.7:
        item["labels"] = _labels(rng)
    if rng.random() < 0.3:
        item["metric_type"] = rng.choice(("gauge", "counter", "histogram", "summary", "Gauge"))
    if rng.random() < 0.15:
        item["tenant_id"] = rng.choice(("t", "other", None))
    if rng.random() < 0.1:
        item[rng.choice(("unit", "Name", "x"))] = rng.choice((None, [1, {"a": []}], "x", 1e5))
    pairs = list(item.items())
    if rng.random() < 0.3:
        rng.shuffle(pairs)
    return dict(pairs)


def line_body(rng: Random) -> bytes:
    """Lines: plain ones only, or of all kinds."""
    odd = rng.random() < 0.7
    lines = []
    for _ in range(1 + len(_some(rng, 7))):
        kind = rng.random()
        if odd and kind < 0.1:
            lines.append(rng.choice(("", "  ", "# note", '# "', "\t")))
        else:
            lines.append(_line(rng, odd and kind < 0.6))
    return (rng.choice(("\n", "\n", "\r\n")).join(lines) + rng.choice(("", "\n", "\r\n"))).encode()


def _line(rng: Random, odd: bool) -> str:
    texts = (
        ("a", "b\\", "c d", "e=f", "g,h", "é", "\\\\", "1", "i\\j", '"')
        if odd
        else ("a", "b", "c1")
    )

    def text(escapable: str) -> str:
        found = "".join(rng.choice(texts) for _ in range(1 + (rng.random() < 0.3)))
        for c in escapable if rng.random() < 0.95 else "":
            found = found.replace(c, "\\" + c)
        return found

    line = rng.choice(("cpu", "mem", "net.rtt")) if rng.random() < 0.6 else text(", ")
    for _ in _some(rng, 4):
        line += f",{text(',= ')}={text(',= ')}"
    fields = []
    for _ in range(1 + len(_some(rng, 4))):
        name = rng.choice(("value", "idle", "u")) if rng.random() < 0.7 else text(",= ")
        fields.append(f"{name}={_line_value(rng, odd)}")
    line += rng.choice((" ", "  ", " \t")) if odd and rng.random() < 0.1 else " "
    line += ",".join(fields)
    if rng.random() < (0.7 if odd else 0.97):
        line += " " + str(rng.choice(TIMES) if rng.random() < 0.5 else rng.randrange(10**19))
    return line


def _line_value(rng: Random, odd: bool) -> str:
    kind = rng.random()
    if kind < 0.5:
        return repr(_real(rng))
    if kind < 0.8:
        number = rng.choice(WHOLE) if rng.random() < 0.3 else rng.randrange(-1000, 1000)
        return "0" * rng.choice((0, 0, 0, 2, 130)) + f"{number}{rng.choice(('i', 'i', 'u', ''))}"
    if not odd:
        return rng.choice(("1.", ".5", "-.5e3", "1e5", "2E-3", "1e400", "007"))
    words = ("t", "T", "true", "f", "False", "FALSE", "tRue", '""', '"a, b=c"', '"x\\"y"', '"l\nm"')
    return rng.choice((*words, '"\\\\"', "nan", "+1", "0x1", "1_0", ""))


def remote_write_message(rng: Random) -> bytes:
    """A WriteRequest; mostly as Prometheus writes it."""
    out = b""
    for _ in range(1 + len(_some(rng, 6))):
        labels = {"__name__": rng.choice(NAMES[:5]), **_labels(rng)}
        body = b"".join(
            wire.field(1, 2, wire.field(1, 2, key.encode()) + wire.field(2, 2, value.encode()))
            for key, value in labels.items()
            if value or rng.random() < 0.2
        )
        for _ in range(1 if rng.random() < 0.8 else rng.randrange(4)):
            bits = (
                rng.choice((0x7FF0000000000002, 0x7FF8000000000000))
                if rng.random() < 0.1
                else (bits_of(_real(rng)))
            )
            t = (
                rng.choice(TIMES)
                if rng.random() < 0.4
                else 1_700_000_000_000 + rng.randrange(10**7)
            )
            value = wire.field(1, 1, bits.to_bytes(8, "little")) if bits else b""
            body += wire.field(2, 2, value + (wire.field(2, 0, wire.varint(t)) if t else b""))
        if rng.random() < 0.05:
            body += wire.field(rng.choice((3, 4)), 2, b"\x08\x01")
        out += wire.field(1, 2, body)
    return out + (wire.field(3, 2, b"\x08\x01") if rng.random() < 0.05 else b"")


def otlp_request(rng: Random) -> dict[str, Any]:
    """An ExportMetricsServiceRequest as JSON has it."""
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": _attributes(rng, ("service.name", "host"))},
                "scopeMetrics": [
                    {
                        "scope": _scope(rng),
                        "metrics": [_metric(rng) for _ in range(1 + len(_some(rng, 3)))],
                    }
                    for _ in range(1 + (rng.random() < 0.1))
                ],
            }
            for _ in range(1 + (rng.random() < 0.1))
        ]
    }


def _scope(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {}
    return {"name": rng.choice(TEXTS), "version": "1", "attributes": _attributes(rng, KEYS)}


def _attributes(rng: Random, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    all_keys = (*keys, "service.namespace", "service.instance.id") if rng.random() < 0.3 else keys
    return [{"key": rng.choice(all_keys), "value": _value(rng, 0)} for _ in _some(rng, 3)]


def _value(rng: Random, depth: int) -> dict[str, Any]:
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind < 2:
        return {"stringValue": rng.choice(TEXTS)}
    if kind == 2:
        return {"boolValue": rng.random() < 0.5}
    if kind == 3:
        return {"intValue": _integer(rng, -(2**63), 2**63)}
    if kind == 4:
        return {"doubleValue": _otlp_real(rng)}
    if kind == 5:
        return rng.choice(({"bytesValue": "AP8="}, {"bytesValue": "AP8"}, {}))
    if kind == 6:
        return {"arrayValue": {"values": [_value(rng, depth + 1) for _ in _some(rng, 3)]}}
    pairs = [{"key": rng.choice(KEYS), "value": _value(rng, depth + 1)} for _ in _some(rng, 3)]
    return {"kvlistValue": {"values": pairs}}


def _integer(rng: Random, low: int, high: int) -> int | str:
    wanted = [number for number in (*WHOLE, *TIMES) if low <= number < high]
    number = rng.choice(wanted)
    return str(number) if rng.random() < 0.5 else number


def _otlp_real(rng: Random) -> float | str:
    if rng.random() < 0.15:
        return rng.choice(("NaN", "Infinity", "-Infinity", "1.5", "-2e3"))
    return _real(rng)


def _metric(rng: Random) -> dict[str, Any]:
    metric: dict[str, Any] = {
        "name": _name(rng),
        "unit": rng.choice(("", "1", "s", "By/s", "{call}", "ms", "%", "km/h", "total")),
    }
    kind = rng.choice(("gauge", "gauge", "sum", "sum", "histogram", "histogram", "summary", "exp"))
    points = [_point(rng, kind) for _ in _some(rng, 4)]
    data: dict[str, Any] = {"dataPoints": points}
    if kind in ("sum", "histogram", "exp"):
        data["aggregationTemporality"] = rng.choice((0, 1, 2, 2, 2))
    if kind == "sum" and rng.random() < 0.6:
        data["isMonotonic"] = True
    metric["exponentialHistogram" if kind == "exp" else kind] = data
    return metric


def _point(rng: Random, kind: str) -> dict[str, Any]:
    point: dict[str, Any] = {"attributes": _attributes(rng, KEYS)}
    if rng.random() < 0.95:
        point["timeUnixNano"] = _integer(rng, 0, 2**64)
    if rng.random() < 0.1:
        point["flags"] = rng.randrange(4)
    if kind in ("gauge", "sum"):
        which = rng.random()
        if which < 0.5:
            point["asDouble"] = _otlp_real(rng)
        elif which < 0.95:
            point["asInt"] = _integer(rng, -(2**63), 2**63)
        return point
    point["count"] = _integer(rng, 0, 2**64)
    if rng.random() < 0.8:
        point["sum"] = _otlp_real(rng)
    if kind == "histogram":
        counts = [rng.randrange(300) for _ in range(rng.randrange(5))]
        bounds = sorted(rng.uniform(-1, 100) for _ in counts[1:])
        point["bucketCounts"] = [str(n) if rng.random() < 0.5 else n for n in counts]
        point["explicitBounds"] = bounds
        if rng.random() < 0.9:
            point["count"] = sum(counts)
    elif kind == "summary":
        point["quantileValues"] = [
            {"quantile": rng.choice((0, 0.5, 0.99, 1, 2)), "value": _otlp_real(rng)}
            for _ in _some(rng, 3)
        ]
    return point


def otlp_json_body(rng: Random) -> bytes:
    """An ExportMetricsServiceRequest in JSON."""
    return _dumped(rng, otlp_request(rng))


def otlp_body(rng: Random) -> bytes:
    """An ExportMetricsServiceRequest in protobuf."""
    return wire.otlp(otlp_request(rng), rng)


def gzip_body(rng: Random) -> bytes:
    """One member or two."""
    parts = [b"cpu value=1\n" * rng.randrange(40), rng.randbytes(rng.randrange(60))]
    return b"".join(
        gzip.compress(part, rng.randrange(10), mtime=0) for part in parts[: rng.randrange(1, 3)]
    )
