"""Whatever is sent: both encodings agree, and broken bytes get an answer and nothing worse."""

import contextlib
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import Series
from service.ingest.decoded import Decoded
from service.ingest.inflate import gunzip
from service.ingest.otlp import PointAnswer, decode_json, decode_protobuf

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KEY = st.sampled_from(["a.b", "a_b", "job", "le", "service.name", "service.instance.id"]) | TEXT
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1.5", "-2e3", 7]
)


def either(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """A 64-bit integer as text or as a number."""
    return numbers | numbers.map(str)


VALUE: st.SearchStrategy[Any] = st.recursive(
    st.fixed_dictionaries({"stringValue": TEXT})
    | st.fixed_dictionaries({"boolValue": st.booleans()})
    | st.fixed_dictionaries({"intValue": either(INT64)})
    | st.fixed_dictionaries({"doubleValue": DOUBLE})
    | st.sampled_from([{"bytesValue": "AP8="}, {"bytesValue": "AP8"}, {}]),
    lambda inner: (
        st.fixed_dictionaries(
            {"arrayValue": st.fixed_dictionaries({"values": st.lists(inner, max_size=3)})}
        )
        | st.fixed_dictionaries(
            {
                "kvlistValue": st.fixed_dictionaries(
                    {
                        "values": st.lists(
                            st.fixed_dictionaries({"key": TEXT, "value": inner}), max_size=3
                        )
                    }
                )
            }
        )
    ),
    max_leaves=5,
)
ATTRIBUTES = st.lists(
    st.fixed_dictionaries({"key": KEY}, optional={"value": VALUE}),
    max_size=4,
)
COMMON = {
    "attributes": ATTRIBUTES,
    "timeUnixNano": either(UINT64),
    "startTimeUnixNano": either(UINT64),
    "flags": st.integers(0, 3),
}
NUMBER = st.builds(
    lambda point, value: point | value,
    st.fixed_dictionaries({}, optional=COMMON),
    st.fixed_dictionaries({"asInt": either(INT64)})
    | st.fixed_dictionaries({"asDouble": DOUBLE})
    | st.just({}),
)
HISTOGRAM = st.builds(
    lambda point, counts, bounds, right: (
        point
        | {"bucketCounts": counts, "explicitBounds": bounds}
        | ({"count": sum(int(c) for c in counts)} if right else {})
    ),
    st.fixed_dictionaries({}, optional=COMMON | {"count": either(UINT64), "sum": DOUBLE}),
    st.lists(either(st.integers(0, 2**40)), max_size=4),
    st.lists(st.integers(-5, 5) | DOUBLE, max_size=3),
    st.booleans(),
)
SUMMARY = st.fixed_dictionaries(
    {},
    optional=COMMON
    | {
        "count": either(UINT64),
        "sum": DOUBLE,
        "quantileValues": st.lists(
            st.fixed_dictionaries({"quantile": st.sampled_from([0, 0.5, 1, 2]), "value": DOUBLE}),
            max_size=3,
        ),
    },
)
TEMPORALITY = {"aggregationTemporality": st.sampled_from([0, 1, 2, 2, 2])}


def points(of: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {"dataPoints": st.lists(of, max_size=3)}


DATA = (
    st.fixed_dictionaries({"gauge": st.fixed_dictionaries(points(NUMBER))})
    | st.fixed_dictionaries(
        {
            "sum": st.fixed_dictionaries(
                points(NUMBER) | TEMPORALITY, optional={"isMonotonic": st.booleans()}
            )
        }
    )
    | st.fixed_dictionaries({"histogram": st.fixed_dictionaries(points(HISTOGRAM) | TEMPORALITY)})
    | st.fixed_dictionaries({"summary": st.fixed_dictionaries(points(SUMMARY))})
    | st.fixed_dictionaries(
        {"exponentialHistogram": st.fixed_dictionaries(points(st.just({"count": 1})) | TEMPORALITY)}
    )
    | st.just({})
)
METRIC = st.builds(
    lambda metric, data: metric | data,
    st.fixed_dictionaries(
        {"name": st.sampled_from(["plays", "a.b", "x:forecast"]) | TEXT},
        optional={"unit": st.sampled_from(["1", "s", "By/s", "{x}"]) | TEXT, "description": TEXT},
    ),
    DATA,
)
REQUEST = st.fixed_dictionaries(
    {
        "resourceMetrics": st.lists(
            st.fixed_dictionaries(
                {
                    "scopeMetrics": st.lists(
                        st.fixed_dictionaries(
                            {"metrics": st.lists(METRIC, max_size=3)},
                            optional={
                                "scope": st.fixed_dictionaries(
                                    {},
                                    optional={
                                        "name": TEXT,
                                        "version": TEXT,
                                        "attributes": ATTRIBUTES,
                                    },
                                )
                            },
                        ),
                        max_size=2,
                    )
                },
                optional={"resource": st.fixed_dictionaries({"attributes": ATTRIBUTES})},
            ),
            max_size=2,
        )
    }
)


def told(decoded: Decoded, answer: PointAnswer) -> list[object]:
    """All that the intake would learn of a request."""
    rows: list[object] = [(i.index, i.name, i.reason) for i in answer.items]
    bits = decoded.values.view("u8").tolist()
    for row, (t, v) in enumerate(zip(decoded.t_ms.tolist(), bits, strict=True)):
        found = decoded.series(row)
        what = (found.labels, found.metric_type) if isinstance(found, Series) else found
        rows.append((decoded.index[row], decoded.name(row), t, v, what))
    return rows


def to_protobuf(body: dict[str, Any]) -> bytes:
    message = ParseDict(body, ExportMetricsServiceRequest())
    return message.SerializeToString()


@settings(max_examples=250, deadline=None)
@given(REQUEST)
def test_protobuf_and_json_agree(body: dict[str, Any]) -> None:
    answers = PointAnswer(), PointAnswer()
    from_json = told(decode_json(json.dumps(body).encode(), answers[0]), answers[0])
    from_protobuf = told(decode_protobuf(to_protobuf(body), answers[1]), answers[1])
    assert from_json == from_protobuf


MUTATION = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["set", "cut", "add"]), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


def mutated(raw: bytes, changes: list[tuple[int, str, int]]) -> bytes:
    found = bytearray(raw)
    for place, how, byte in changes:
        at = place % (len(found) + 1)
        if how == "set" and at < len(found):
            found[at] = byte
        elif how == "cut":
            del found[at : at + byte % 8]
        else:
            found.insert(at, byte)
    return bytes(found)


@settings(max_examples=400, deadline=None)
@given(REQUEST, MUTATION, st.booleans())
def test_broken_bytes_are_refused_or_their_points_named(
    body: dict[str, Any], changes: list[tuple[int, str, int]], protobuf: bool
) -> None:
    raw = to_protobuf(body) if protobuf else json.dumps(body).encode()
    answer = PointAnswer()
    try:
        decoded = (decode_protobuf if protobuf else decode_json)(mutated(raw, changes), answer)
    except (InvalidInput, TooLarge):
        return
    assert all(told(decoded, answer))
    assert all(item.reason for item in answer.items)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(raw: bytes) -> None:
    for decode in (decode_protobuf, decode_json, lambda body, _answer: gunzip(body)):
        answer = PointAnswer()
        try:
            found = decode(raw, answer)
        except (InvalidInput, TooLarge):
            continue
        if isinstance(found, Decoded):
            told(found, answer)


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(st.data(), REQUEST, JSON_VALUE)
def test_any_json_in_any_place(data: st.DataObject, body: dict[str, Any], odd: Any) -> None:
    places = list(_places(body))
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = odd
    answer = PointAnswer()
    with contextlib.suppress(InvalidInput):
        assert told(decode_json(json.dumps(body).encode(), answer), answer) is not None


def _places(value: Any) -> Any:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def test_deep_values_are_refused() -> None:
    value: Any = {"intValue": 1}
    body = {
        "name": "a",
        "gauge": {
            "dataPoints": [
                {"timeUnixNano": 1, "asInt": 1, "attributes": [{"key": "k", "value": value}]}
            ]
        },
    }
    whole = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [body]}]}]})
    deep = '{"arrayValue":{"values":[' * 5000 + "]}}" * 5000
    answer = PointAnswer()
    raw = whole.replace(json.dumps(value), deep).encode()
    with pytest.raises(InvalidInput, match="nested too deep"):
        decode_json(raw, answer)
