"""No body of a few KiB takes long, whatever is in it: what samples share is read once."""

import json
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.line_protocol import NANOSECONDS
from service.ingest.line_protocol import decode as decode_line
from service.ingest.otlp import decode_json, decode_protobuf
from service.ingest.remote_write import decode as decode_remote_write
from tests.fuzz import wire

MANY = [{"key": f"k{i}", "value": {"stringValue": "x"}} for i in range(1800)]
LONG = [{"key": "k" * 30_000, "value": {"stringValue": "x"}}]


def line(body: bytes) -> Decoded:
    return decode_line(body, NANOSECONDS, Answer())[0]


def request(resource: Any, **data: Any) -> dict[str, Any]:
    scope = {"metrics": [{"name": "m", **data}]}
    return {"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": [scope]}]}


def buckets(attributes: Any) -> dict[str, Any]:
    point = {
        "attributes": attributes,
        "timeUnixNano": 5,
        "bucketCounts": [0] * 2000,
        "explicitBounds": list(range(1999)),
    }
    return request([], histogram={"aggregationTemporality": 2, "dataPoints": [point]})


def points(resource: Any) -> dict[str, Any]:
    found = [
        {"attributes": [{"key": "z", "value": {"intValue": i}}], "timeUnixNano": 5, "asInt": 1}
        for i in range(1000)
    ]
    return request(resource, gauge={"dataPoints": found})


TAGS = b"m" + b"".join(b",t%d=1" % i for i in range(4000))
FIELDS = b" " + b",".join(b"f%d=1" % i for i in range(4000))
LABELS = b"".join(wire.field(1, 2, wire.field(1, 2, b"k%d" % i)) for i in range(4000))
OTLP = {"buckets": buckets, "points": points}


def otlp(body: bytes) -> Decoded:
    return decode_protobuf(body, Answer())


def otlp_json(body: bytes) -> Decoded:
    return decode_json(body, Answer())


@pytest.mark.parametrize(
    ("read", "body"),
    [
        pytest.param(line, TAGS + FIELDS, id="tags"),
        pytest.param(line, TAGS + FIELDS + b" 1", id="tags of a plain line"),
        pytest.param(line, b"m" * 30_000 + FIELDS, id="a measurement"),
        pytest.param(
            lambda body: decode_remote_write(body, Answer()),
            wire.field(1, 2, LABELS + wire.field(2, 2, b"") * 10_000),
            id="labels of remote write",
        ),
        *(
            pytest.param(
                decode,
                wire.otlp(of(many), Random(1)) if decode is otlp else json.dumps(of(many)).encode(),
                id=f"{decode.__name__} {how} {len(many)}",
            )
            for how, of in OTLP.items()
            for many in (MANY, LONG)
            for decode in (otlp, otlp_json)
        ),
    ],
)
def test_what_samples_share_is_read_once(read: Callable[[bytes], Decoded], body: bytes) -> None:
    began = time.process_time()
    decoded = read(body)
    assert len(decoded.keys) >= 1000
    met = set()
    for row, key in enumerate(decoded.keys):  # as the intake does
        decoded.name(row)
        if key not in met:
            met.add(key)
            decoded.series(row)
    assert time.process_time() - began < 1  # it was minutes
