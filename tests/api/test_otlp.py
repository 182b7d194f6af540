"""`POST /v1/metrics` on the whole application, as exporters of OpenTelemetry meet it."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from service.app import create_app
from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.settings import Settings
from service.storage import keys
from service.storage.columns import Batch
from service.storage.log import START, LogReader
from service.wiring import Wiring, wired

PATH = "/v1/metrics"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def key(parts: Wiring) -> dict[str, str]:
    _, made = await parts.keys.create("acme", Role.WRITER, "test", "test")
    return {"Authorization": f"Bearer {made}"}


async def samples(parts: Wiring) -> list[tuple[str, int, float]]:
    shard = keys.shard_of("acme", parts.settings.log_shards)
    found = await LogReader(parts.redis).read(shard, START, count=100, block_ms=10)
    whole = Batch.join([entry.batch for entry in found])
    known = await parts.registry.all("acme")
    return [
        (str(known[i]), t, v)
        for i, t, v in zip(whole.id.tolist(), whole.t.tolist(), whole.v.tolist(), strict=True)
    ]


def in_protobuf(*metrics: dict[str, Any]) -> bytes:
    from google.protobuf.json_format import ParseDict

    return ParseDict(of(*metrics), ExportMetricsServiceRequest()).SerializeToString()


def of(*metrics: dict[str, Any]) -> dict[str, Any]:
    attributes = [{"key": "service.name", "value": {"stringValue": "shop"}}]
    return {
        "resourceMetrics": [
            {"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": list(metrics)}]}
        ]
    }


def gauge(clock: ManualClock, value: float = 3.5, age: float = 0) -> dict[str, Any]:
    nano = round((clock.now() - age) * 1000) * 1_000_000
    return {
        "name": "queue.depth",
        "gauge": {"dataPoints": [{"timeUnixNano": str(nano), "asDouble": value}]},
    }


async def test_both_encodings_are_answered_in_kind(
    client: httpx.AsyncClient, parts: Wiring, clock: ManualClock, key: dict[str, str]
) -> None:
    metric = gauge(clock)
    binary = await client.post(PATH, content=in_protobuf(metric), headers=key | PROTOBUF)
    assert (binary.status_code, binary.content) == (200, b"")
    assert binary.headers["content-type"] == "application/x-protobuf"
    text = await client.post(
        PATH,
        content=gzip.compress(json.dumps(of(metric)).encode()),
        headers=key | JSON | {"Content-Encoding": "gzip"},
    )
    assert (text.status_code, text.json()) == (200, {})
    assert text.headers["content-type"] == "application/json"
    one = ('queue_depth{job="shop"}', round(clock.now() * 1000), 3.5)
    assert await samples(parts) == [one, one]


async def test_what_is_not_kept_is_counted_in_points_and_told(
    client: httpx.AsyncClient, parts: Wiring, clock: ManualClock, key: dict[str, str]
) -> None:
    old = {
        "name": "latency",
        "histogram": {
            "aggregationTemporality": 2,
            "dataPoints": [
                {
                    "timeUnixNano": 1,
                    "count": 3,
                    "sum": 1,
                    "bucketCounts": [1, 1, 1],
                    "explicitBounds": [1, 2],
                }
            ],
        },
    }
    metrics = [gauge(clock), old, gauge(clock, age=4000)]
    text = await client.post(PATH, json=of(*metrics), headers=key)
    assert text.status_code == 200
    partial = text.json()["partialSuccess"]
    assert partial["rejectedDataPoints"] == "2"  # one of them is five samples
    assert "point 1 (latency): timestamp 1970-01-01T00:00:00Z is too old" in partial["errorMessage"]
    assert "point 2 (queue.depth): timestamp" in partial["errorMessage"]
    binary = await client.post(PATH, content=in_protobuf(*metrics), headers=key | PROTOBUF)
    answer = ExportMetricsServiceResponse.FromString(binary.content)
    assert answer.partial_success.rejected_data_points == 2
    assert answer.partial_success.error_message == partial["errorMessage"]
    assert len(await samples(parts)) == 2
    many = await client.post(PATH, json=of(*[gauge(clock, age=4000)] * 9), headers=key)
    assert many.json()["partialSuccess"]["rejectedDataPoints"] == "9"
    assert many.json()["partialSuccess"]["errorMessage"].endswith("; and 4 more")


def bomb(size: int) -> bytes:
    """Gzip of an unknown field that is `size` zeros long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    length = bytearray()
    rest = size
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    packed = packer.compress(b"\x7a" + bytes([*length, rest]))
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        packed += packer.compress(piece)
    return packed + packer.flush()


GZIP = {"Content-Encoding": "gzip"}
REFUSED = [
    (b"\xff\xff", PROTOBUF, 400, "not an ExportMetricsServiceRequest in protobuf"),
    (b"{", JSON, 400, "not an ExportMetricsServiceRequest in JSON"),
    (b"[]", JSON, 400, "Expected object, got array"),
    (b"{}", JSON | GZIP, 400, "not valid gzip"),
    (gzip.compress(b"{}", mtime=0)[:-9], JSON | GZIP, 400, "gzip body is cut off"),
    (gzip.compress(b"{}", mtime=0) + b"rubbish", JSON | GZIP, 400, "not valid gzip"),
    (b"", JSON | GZIP, 400, "gzip body is cut off"),
    (b"{}", {"Content-Type": "text/plain"}, 415, "'text/plain' is not taken here"),
    (b"{}", {}, 415, "send application/x-protobuf or application/json"),
    (b"{}", JSON | {"Content-Encoding": "br"}, 415, "'br' is not taken here"),
    (b" " * (10 << 20) + b"{}", JSON, 413, "10 MiB"),
]


@pytest.mark.parametrize(("body", "headers", "status", "detail"), REFUSED)
async def test_a_body_that_is_none_says_so(
    client: httpx.AsyncClient,
    key: dict[str, str],
    body: bytes,
    headers: dict[str, str],
    status: int,
    detail: str,
) -> None:
    answer = await client.post(PATH, content=body, headers=key | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


async def test_gzip_is_inflated_up_to_the_limit_and_no_further(
    client: httpx.AsyncClient, key: dict[str, str]
) -> None:
    headers = key | PROTOBUF | GZIP
    fits = await client.post(PATH, content=bomb(9 << 20), headers=headers)
    assert (fits.status_code, fits.content) == (200, b"")
    for body in (bomb(10 << 20), bomb(256 << 20), bomb(6 << 20) + bomb(6 << 20)):
        assert len(body) < 1 << 20
        answer = await client.post(PATH, content=body, headers=headers)
        assert answer.status_code == 413
        assert "10 MiB" in answer.json()["detail"]


async def test_only_who_may_record_does(client: httpx.AsyncClient, parts: Wiring) -> None:
    assert (await client.post(PATH, json={})).status_code == 401
    _, reader = await parts.keys.create("acme", Role.READER, "test", "test")
    answer = await client.post(PATH, json={}, headers={"Authorization": f"Bearer {reader}"})
    assert answer.status_code == 403


async def test_a_store_that_is_down_answers_503_with_retry_after(
    settings: Settings, parts: Wiring, clock: ManualClock, key: dict[str, str]
) -> None:
    down = settings.model_copy(update={"redis_url": "unix:///nowhere/store.sock"})
    async with wired(down, clock) as broken:
        transport = httpx.ASGITransport(create_app(broken))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            answer = await client.post(
                PATH, content=in_protobuf(gauge(clock)), headers=key | PROTOBUF
            )
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
