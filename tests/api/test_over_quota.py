"""What each protocol answers to a tenant over its rates; no other tenant notices."""

import json
from collections.abc import Callable

import cramjam
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from structlog.testing import capture_logs

from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.whole import calling, headers_of

Body = Callable[[list[str], int], tuple[str, bytes, dict[str, str]]]


def in_json(hosts: list[str], t_ms: int) -> tuple[str, bytes, dict[str, str]]:
    items = [
        {"name": "up", "value": 1, "timestamp": t_ms / 1000, "labels": {"h": h}} for h in hosts
    ]
    return "/analytics/metrics", json.dumps(items).encode(), {"Content-Type": "application/json"}


def in_remote_write(hosts: list[str], t_ms: int) -> tuple[str, bytes, dict[str, str]]:
    def field(tag: int, value: bytes) -> bytes:
        return bytes([tag, len(value)]) + value

    def varint(number: int) -> bytes:
        digits = []
        while number > 127:
            digits.append(number & 127 | 128)
            number >>= 7
        return bytes([*digits, number])

    def label(name: bytes, value: bytes) -> bytes:
        return field(0x0A, field(0x0A, name) + field(0x12, value))

    sample = field(0x12, b"\x09" + b"\x00" * 6 + b"\xf0\x3f" + b"\x10" + varint(t_ms))
    series = [label(b"__name__", b"up") + label(b"h", h.encode()) + sample for h in hosts]
    body = bytes(cramjam.snappy.compress_raw(b"".join(field(0x0A, one) for one in series)))
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    return "/api/v1/write", body, headers


def in_otlp(hosts: list[str], t_ms: int) -> tuple[str, bytes, dict[str, str]]:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="up")
    for host in hosts:
        point = metric.gauge.data_points.add(time_unix_nano=t_ms * 1_000_000, as_double=1)
        point.attributes.add(key="h").value.string_value = host
    return "/v1/metrics", request.SerializeToString(), {"Content-Type": "application/x-protobuf"}


def in_lines(hosts: list[str], t_ms: int) -> tuple[str, bytes, dict[str, str]]:
    lines = "\n".join(f"up,h={host} value=1 {t_ms}" for host in hosts)
    return "/api/v2/write?precision=ms", lines.encode(), {"Content-Type": "text/plain"}


@pytest.mark.parametrize("body", [in_json, in_remote_write, in_otlp, in_lines])
async def test_over_its_rate_a_tenant_is_told_when_to_come_back_and_another_is_not(
    parts: Wiring, clock: ManualClock, body: Body
) -> None:
    await parts.tenants.set_quota("acme", {"samples_per_second": 1}, "test")  # a burst of 20
    t_ms = round(clock.now() * 1000)
    url, content, headers = body([f"h{i}" for i in range(30)], t_ms)
    async with (
        calling(parts, await headers_of(parts, Role.WRITER)) as acme,
        calling(parts, await headers_of(parts, Role.WRITER, "other")) as other,
    ):
        first = await acme.post(url, content=content, headers=headers)
        assert first.status_code in (200, 204)  # into debt, as a whole
        with capture_logs() as lines:
            for _ in range(3):
                over = await acme.post(url, content=content, headers=headers)
                assert over.status_code == 429
                assert over.headers["content-type"] == "application/problem+json"
                assert 5 <= int(over.headers["retry-after"]) <= 12
                assert "more than its 1 samples a second" in over.json()["detail"]
        assert [line.get("status") for line in lines] == [429]  # not a line for each
        fine = await other.post(url, content=content, headers=headers)
        assert fine.status_code in (200, 204)


@pytest.mark.parametrize("body", [in_json, in_remote_write, in_otlp, in_lines])
async def test_series_over_the_minutes_number_may_come_later(
    parts: Wiring, clock: ManualClock, body: Body
) -> None:
    await parts.tenants.set_quota("acme", {"new_series_per_minute": 2}, "test")
    t_ms = round(clock.now() * 1000)
    async with calling(parts, await headers_of(parts, Role.WRITER)) as acme:
        url, content, headers = body(["a", "b", "c"], t_ms)
        some = await acme.post(url, content=content, headers=headers)
        if body is in_json:  # names what it left out, and the client decides
            assert some.json()["accepted"] == 2
            (left,) = some.json()["rejected"]
            assert "over the tenant's 2 a minute; try again in" in left["reason"]
            url, content, headers = body(["c"], t_ms)
            some = await acme.post(url, content=content, headers=headers)
        # The others' senders can only send the whole again, which does no harm.
        assert some.status_code == 429
        assert 1 <= int(some.headers["retry-after"]) <= 31
        assert "over the tenant's 2 a minute; try again in" in some.json()["detail"]
    names = {series.label("h") for series in (await parts.registry.all("acme")).values()}
    assert names == {"a", "b"}
