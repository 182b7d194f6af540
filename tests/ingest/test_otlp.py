"""OTLP in both encodings to samples: every kind of point, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import MetricType, Series
from service.ingest import otlp
from service.ingest.decoded import Decoded
from service.ingest.otlp import PointAnswer, decode_json, decode_protobuf

T = 1_700_000_000_123
NANO = str(T * 1_000_000 + 999_999)
Sample = tuple[str, MetricType, int, float]


def request(
    *metrics: dict[str, Any],
    resource: list[dict[str, Any]] | None = None,
    scope: dict[str, Any] | None = None,
) -> dict[str, Any]:
    of_scope: dict[str, Any] = {"metrics": list(metrics)}
    if scope is not None:
        of_scope["scope"] = scope
    return {
        "resourceMetrics": [
            {"resource": {"attributes": resource or []}, "scopeMetrics": [of_scope]}
        ]
    }


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def point(*attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"timeUnixNano": NANO, **more}
    if attributes:
        given["attributes"] = list(attributes)
    return given


def samples_of(decoded: Decoded, answer: PointAnswer) -> list[Sample | tuple[int, str]]:
    """Series, type, time and value of each row, as the intake would see them; or what is wrong."""
    found: list[Sample | tuple[int, str]] = [(i.index, i.reason) for i in answer.items]
    for row, (t, v) in enumerate(zip(decoded.t_ms.tolist(), decoded.values.tolist(), strict=True)):
        series = decoded.series(row)
        if isinstance(series, Series):
            found.append((str(series), series.metric_type, t, v))
        else:
            found.append((decoded.index[row], series))
    return found


def in_json(body: dict[str, Any]) -> list[Any]:
    answer = PointAnswer()
    return samples_of(decode_json(json.dumps(body).encode(), answer), answer)


def in_protobuf(body: dict[str, Any]) -> list[Any]:
    answer = PointAnswer()
    message = ParseDict(body, ExportMetricsServiceRequest(), ignore_unknown_fields=True)
    return samples_of(decode_protobuf(message.SerializeToString(), answer), answer)


def both(body: dict[str, Any]) -> list[Any]:
    """What both encodings of a request come to, which is the same."""
    found = in_json(body)
    assert repr(in_protobuf(body)) == repr(found)  # repr: NaN is like itself
    return found


G, C, H, S = MetricType.GAUGE, MetricType.COUNTER, MetricType.HISTOGRAM, MetricType.SUMMARY
BUCKETS = {"count": "6", "sum": 9.5, "bucketCounts": ["1", 2, "3"], "explicitBounds": [0.5, 1]}
QUANTILES = {
    "count": 4,
    "sum": 10,
    "quantileValues": [{"quantile": 0, "value": 1}, {"quantile": 0.99, "value": "NaN"}],
}

KINDS = [
    ({"name": "a", "gauge": {"dataPoints": [point(asDouble=1.5)]}}, [("a", G, T, 1.5)]),
    ({"name": "a", "gauge": {"dataPoints": [point(asInt="-7")]}}, [("a", G, T, -7.0)]),
    ({"name": "a", "gauge": {"dataPoints": [point(asInt=0)]}}, [("a", G, T, 0.0)]),
    (
        {"name": "a", "gauge": {"dataPoints": [point(asDouble="-Infinity")]}},
        [("a", G, T, float("-inf"))],
    ),
    (
        {
            "name": "a",
            "sum": {
                "aggregationTemporality": 2,
                "isMonotonic": True,
                "dataPoints": [point(asInt="9007199254740992")],
            },
        },
        [("a_total", C, T, 2.0**53)],
    ),
    (
        {"name": "a", "sum": {"aggregationTemporality": 2, "dataPoints": [point(asInt=3)]}},
        [("a", G, T, 3.0)],
    ),
    (
        {
            "name": "a",
            "sum": {
                "aggregationTemporality": 1,
                "isMonotonic": True,
                "dataPoints": [point(asInt=3)],
            },
        },
        [("a", G, T, 3.0)],
    ),
    (
        {"name": "a", "histogram": {"aggregationTemporality": 2, "dataPoints": [point(**BUCKETS)]}},
        [
            ('a_bucket{le="0.5"}', H, T, 1.0),
            ('a_bucket{le="1"}', H, T, 3.0),
            ('a_bucket{le="+Inf"}', H, T, 6.0),
            ("a_sum", H, T, 9.5),
            ("a_count", H, T, 6.0),
        ],
    ),
    (
        {"name": "a", "histogram": {"aggregationTemporality": 1, "dataPoints": [point(count=2)]}},
        [('a_bucket{le="+Inf"}', G, T, 2.0), ("a_count", G, T, 2.0)],
    ),
    (
        {"name": "a", "summary": {"dataPoints": [point(**QUANTILES)]}},
        [
            ('a{quantile="0"}', S, T, 1.0),
            ('a{quantile="0.99"}', S, T, float("nan")),
            ("a_sum", S, T, 10.0),
            ("a_count", S, T, 4.0),
        ],
    ),
    ({"name": "a"}, []),
    ({"name": "a", "gauge": {}}, []),
]


@pytest.mark.parametrize(("metric", "expected"), KINDS)
def test_every_kind_of_point(metric: dict[str, Any], expected: list[Sample]) -> None:
    assert repr(both(request(metric))) == repr(expected)


REFUSED = [
    ({"gauge": {"dataPoints": [point()]}}, "neither asDouble nor asInt"),
    ({"gauge": {"dataPoints": [{"asInt": 1}]}}, "timeUnixNano is not set"),
    ({"sum": {"dataPoints": [point(asInt=1)]}}, "aggregationTemporality is neither 1"),
    ({"histogram": {"dataPoints": [point()]}}, "aggregationTemporality is neither 1"),
    (
        {"exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point(count=1)]}},
        "exponential histograms are not taken",
    ),
    (
        {
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [point(count=1, bucketCounts=[1, 0], explicitBounds=[1, 2])],
            }
        },
        "2 bucketCounts do not go with 2 explicitBounds",
    ),
    (
        {
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [point(count=0, explicitBounds=[1])],
            }
        },
        "0 bucketCounts do not go with 1 explicitBounds",
    ),
    (
        {
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [point(count=9, bucketCounts=[1, 1], explicitBounds=[1])],
            }
        },
        "bucketCounts add up to 2, and count is 9",
    ),
    (
        {
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [point(count=0, bucketCounts=[0, 0, 0], explicitBounds=[2, 1])],
            }
        },
        "not finite and rising",
    ),
    (
        {
            "summary": {
                "dataPoints": [point(quantileValues=[{"quantile": 1.5, "value": 1}])],
            }
        },
        "not between 0 and 1",
    ),
    (
        {"gauge": {"dataPoints": [point(attribute("x", stringValue="y" * 1025), asInt=1)]}},
        "label x has a value of over 1024 bytes",
    ),
    (
        {"gauge": {"dataPoints": [point(attribute("__name__", stringValue="y"), asInt=1)]}},
        "reserved",
    ),
    (
        {"gauge": {"dataPoints": [point(attribute("", stringValue="y"), asInt=1)]}},
        "label name ''",
    ),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED)
def test_a_refused_point_is_named_and_its_neighbours_are_kept(
    data: dict[str, Any], reason: str
) -> None:
    good = {"name": "good", "gauge": {"dataPoints": [point(asInt=1)]}}
    found = both(request(good, {"name": "bad"} | data, good))
    assert sorted(found, key=str) == sorted(
        [("good", G, T, 1.0), ("good", G, T, 1.0), next(f for f in found if len(f) == 2)], key=str
    )
    index, said = next(f for f in found if len(f) == 2)
    assert index == 1
    assert reason in said


@pytest.mark.parametrize(
    ("metric", "ended"),
    [
        ({"name": "a", "gauge": {"dataPoints": [point(flags=1)]}}, 1),
        ({"name": "a", "gauge": {"dataPoints": [point(flags=3, asInt=4)]}}, 1),
        (
            {
                "name": "a",
                "histogram": {
                    "aggregationTemporality": 2,
                    "dataPoints": [point(flags=1, explicitBounds=[1])],
                },
            },
            3,
        ),
        ({"name": "a", "summary": {"dataPoints": [point(**QUANTILES, flags=1)]}}, 4),
    ],
)
def test_no_recorded_value_is_a_stale_marker(metric: dict[str, Any], ended: int) -> None:
    for decode, body in (
        (decode_json, json.dumps(request(metric)).encode()),
        (
            decode_protobuf,
            ParseDict(request(metric), ExportMetricsServiceRequest()).SerializeToString(),
        ),
    ):
        decoded = decode(body, PointAnswer())
        assert decoded.values.view(np.uint64).tolist() == [0x7FF0000000000002] * ended


def test_resource_and_scope_become_labels() -> None:
    body = request(
        {"name": "a", "gauge": {"dataPoints": [point(attribute("k", intValue="1"), asInt=1)]}},
        resource=[
            attribute("service.name", stringValue="cart"),
            attribute("service.namespace", stringValue="shop"),
            attribute("service.instance.id", stringValue="i-1"),
            attribute("host.name", stringValue="h1"),
        ],
        scope={
            "name": "lib",
            "version": "2",
            "attributes": [attribute("team", stringValue="web")],
        },
    )
    assert both(body) == [
        (
            'a{host_name="h1",instance="i-1",job="shop/cart",k="1",otel_scope_name="lib",'
            'otel_scope_team="web",otel_scope_version="2"}',
            G,
            T,
            1.0,
        )
    ]


VALUES = [
    ({"stringValue": "x"}, "x"),
    ({"boolValue": True}, "true"),
    ({"boolValue": False}, "false"),
    ({"intValue": "-12"}, "-12"),
    ({"intValue": 12}, "12"),
    ({"doubleValue": 2}, "2"),
    ({"doubleValue": 0.1}, "0.1"),
    ({"doubleValue": 1e30}, "1e+30"),
    ({"doubleValue": "NaN"}, "NaN"),
    ({"doubleValue": "-Infinity"}, "-Inf"),
    ({"bytesValue": "/-8"}, "/+8="),
    (
        {"arrayValue": {"values": [{"stringValue": "é"}, {"intValue": "1"}, {}]}},
        '["é",1,null]',
    ),
    (
        {"arrayValue": {"values": [{"doubleValue": "NaN"}, {"boolValue": True}]}},
        '["NaN",true]',
    ),
    (
        {"kvlistValue": {"values": [{"key": "b", "value": {"arrayValue": {}}}]}},
        '{"b":[]}',
    ),
    ({}, None),
    ({"stringValue": ""}, None),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_every_kind_of_value_becomes_text(value: dict[str, Any], expected: str | None) -> None:
    body = request(
        {"name": "a", "gauge": {"dataPoints": [point(attribute("v", **value), asInt=1)]}}
    )
    answer = PointAnswer()
    series = decode_json(json.dumps(body).encode(), answer).series(0)
    assert isinstance(series, Series)
    assert series.tags == ({} if expected is None else {"v": expected})
    assert both(body)


def test_json_is_read_with_its_liberties() -> None:
    raw = (
        '{"resourceMetrics":[{"resource":null,"schemaUrl":"x","scopeMetrics":[{"scope":null,'
        '"metrics":[{"name":"a","unit":null,"unknown":[{}],"sum":{"aggregationTemporality":'
        '"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,"dataPoints":[{"attributes":null,'
        f'"timeUnixNano":{NANO},"asInt":4.0,"flags":null,"exemplars":[{{"traceId":"0af7"}}]}}]}}}},'
        '{"name":null}]},{"metrics":null}]},{"scopeMetrics":null},{}]}'
    )
    answer = PointAnswer()
    assert samples_of(decode_json(raw.encode(), answer), answer) == [("a_total", C, T, 4.0)]
    assert len(decode_json(b'{"resource_metrics":[1]}', answer).index) == 0  # no valid key: unknown
    assert len(decode_json(b"{}", answer).index) == 0
    assert len(decode_protobuf(b"", answer).index) == 0


@pytest.mark.parametrize(
    "data",
    [
        {"gauge": {"dataPoints": [point(asInt="1.5")]}},
        {"gauge": {"dataPoints": [point(asInt=2**63)]}},
        {"gauge": {"dataPoints": [point(asInt=1, asDouble=1)]}},
        {"gauge": {"dataPoints": [point(asDouble="nan")]}},
        {"gauge": {"dataPoints": [point(asDouble="1e999")]}},
        {"gauge": {"dataPoints": [point(asDouble=10**400)]}},
        {"gauge": {"dataPoints": [point(asDouble=True)]}},
        {"gauge": {"dataPoints": [{"timeUnixNano": "-1", "asInt": 1}]}},
        {"gauge": {"dataPoints": [{"timeUnixNano": str(2**64), "asInt": 1}]}},
        {"gauge": {}, "sum": {}},
        {"gauge": {"dataPoints": {}}},
        {"name": 7},
    ],
)
def test_json_that_protobuf_could_not_hold_is_malformed(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        decode_json(json.dumps(request({"name": "a"} | data)).encode(), PointAnswer())


def test_a_request_has_a_limit_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "SAMPLES_MAX", 3)
    body = request({"name": "a", "gauge": {"dataPoints": [point(asInt=1)] * 3}})
    assert len(both(body)) == 3
    body["resourceMetrics"] *= 2
    with pytest.raises(TooLarge, match="more than 3 samples"):
        in_json(body)
    for nothing in ({}, {"scopeMetrics": [{}]}, {"scopeMetrics": [{"metrics": [{}]}]}):
        assert both({"resourceMetrics": [nothing] * 3}) == []
        for encoding in (in_json, in_protobuf):
            with pytest.raises(TooLarge):
                encoding({"resourceMetrics": [nothing] * 4})


def test_a_key_is_the_same_for_the_same_series_only() -> None:
    """What the intake caches: equal over requests, different where anything differs."""

    def keys(body: dict[str, Any]) -> list[Any]:
        message = ParseDict(body, ExportMetricsServiceRequest()).SerializeToString()
        return [
            *decode_json(json.dumps(body).encode(), PointAnswer()).keys,
            *decode_protobuf(message, PointAnswer()).keys,
        ]

    def of(attributes: list[Any], **more: Any) -> dict[str, Any]:
        metric = {"name": "a", "gauge": {"dataPoints": [point(*attributes, asInt=1)]}}
        return request(metric | more.pop("metric", {}), **more)

    one = attribute("k", stringValue="1")
    variants = [
        of([]),
        of([one]),
        of([one, one]),
        of([attribute("k", intValue="1")]),
        of([one], metric={"unit": "s"}),
        of([one], metric={"name": "b"}),
        of([one], resource=[one]),
        of([], resource=[one]),
        of([], scope={"attributes": [one]}),
        of([], scope={"name": "k"}),
        of([], scope={"version": "k"}),
    ]
    found = [key for body in variants for key in keys(body)]
    assert found == [key for body in variants for key in keys(body)]
    assert len(set(found)) == 2 * len(variants)


def test_a_sum_of_minus_zero_keeps_its_sign() -> None:
    histogram = {"dataPoints": [point(**BUCKETS | {"sum": -0.0})], "aggregationTemporality": 2}
    found = both(request({"name": "m", "histogram": histogram}))
    assert [repr(v) for name, _, _, v in found if name == "m_sum"] == ["-0.0"]
