"""`POST /api/v1/write` on the whole application, as a Prometheus meets it."""

import struct

import cramjam
import httpx
import numpy as np
import pytest

from service.api import recording
from service.domain.clock import ManualClock
from service.domain.series import Series
from service.domain.tenants import PLATFORM, Role
from service.ingest.remote_write import INFLATED_MAX
from service.settings import Settings
from service.storage import keys
from service.storage.columns import Batch
from service.storage.log import START, LogReader
from service.wiring import Wiring, wired
from tests.support.whole import calling

PATH = "/api/v1/write"
STALE = 0x7FF0000000000002
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def _sized(tag: int, value: bytes) -> bytes:
    size = (
        bytes([len(value)])
        if len(value) < 128
        else bytes([len(value) & 127 | 128, len(value) >> 7])
    )
    return bytes([tag]) + size + value


def series(name: str, value: float | int, t_ms: int, tail: bytes = b"", **labels: str) -> bytes:
    """A series with one sample; an int stands for the value's bits."""
    raw = struct.pack("<d", value) if isinstance(value, float) else struct.pack("<Q", value)
    parts = [
        _sized(0x0A, _sized(0x0A, key.encode()) + _sized(0x12, text.encode()))
        for key, text in sorted({"__name__": name, **labels}.items())
    ]
    digits = bytes([*(t_ms >> 7 * i & 127 | 128 for i in range(5)), t_ms >> 35])
    parts.append(_sized(0x12, b"\x09" + raw + b"\x10" + digits))
    return _sized(0x0A, b"".join(parts) + tail)


def snappy(message: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message))


@pytest.fixture
def t(clock: ManualClock) -> int:
    return round(clock.now() * 1000)


async def key(parts: Wiring, role: Role = Role.WRITER, tenant: str = "acme") -> dict[str, str]:
    _, made = await parts.keys.create(tenant, role, "test", "test")
    return {**HEADERS, "Authorization": f"Bearer {made}"}


async def logged(parts: Wiring, tenant: str = "acme") -> Batch:
    """All samples in the log of a tenant."""
    shard = keys.shard_of(tenant, parts.settings.log_shards)
    found = await LogReader(parts.redis).read(shard, START, count=100, block_ms=10)
    return Batch.join([e.batch for e in found if e.tenant == tenant])


async def test_samples_are_kept_bit_for_bit(
    client: httpx.AsyncClient, parts: Wiring, t: int
) -> None:
    message = (
        series("up", 1.0, t, job="node")
        + series("up", STALE, t, job="gone")
        + series("ratio", float("inf"), t - 1000)
    )
    answer = await client.post(PATH, content=snappy(message), headers=await key(parts))
    assert (answer.status_code, answer.content) == (204, b"")
    batch = await logged(parts)
    wanted = [Series.of("up", {"job": "node"}), Series.of("up", {"job": "gone"})]
    wanted.append(Series.of("ratio"))
    assert batch.id.tolist() == [found.id for found in wanted]
    assert batch.t.tolist() == [t, t, t - 1000]
    assert batch.v.view(np.uint64).tolist() == [0x3FF0000000000000, STALE, 0x7FF0000000000000]
    assert await parts.registry.all("acme") == {found.id: found for found in wanted}


async def test_nothing_to_keep_is_fine(client: httpx.AsyncClient, parts: Wiring) -> None:
    metadata = _sized(0x1A, b"\x08\x01\x12\x02up")
    for message in (b"", metadata):
        answer = await client.post(PATH, content=snappy(message), headers=await key(parts))
        assert answer.status_code == 204
    assert len((await logged(parts)).id) == 0


async def test_a_large_request_is_kept_as_a_whole(
    client: httpx.AsyncClient, parts: Wiring, t: int
) -> None:
    await parts.tenants.set_quota(
        "acme", {"series": 20_000, "new_series_per_minute": 20_000}, "test"
    )
    values = np.random.default_rng(0).random(20_000).tolist()
    message = b"".join(series("m", v, t, n=str(n)) for n, v in enumerate(values))
    body = snappy(message)
    assert len(body) > recording.LARGE
    answer = await client.post(PATH, content=body, headers=await key(parts))
    assert answer.status_code == 204, answer.text
    assert (await logged(parts)).v.tolist() == values


async def test_what_is_not_kept_is_named_and_the_rest_kept(
    client: httpx.AsyncClient, parts: Wiring, t: int
) -> None:
    message = (
        series("up", 1.0, t)
        + series("up", 1.0, t - 3_600_001, job="late")
        + series("http.requests", 1.0, t)
        + series("latency", 2.0, t, tail=b"\x22\x02\x08\x01")
    )
    answer = await client.post(PATH, content=snappy(message), headers=await key(parts))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["detail"].startswith('kept 2 of 5 samples; up{job="late"}: timestamp')
    assert [(e["where"], e["reason"][:20]) for e in told["errors"]] == [
        ('up{job="late"}', "timestamp 2023-11-14"),
        ("http.requests", "name 'http.requests'"),
        ("latency", "native histograms ar"),
    ]
    assert (await logged(parts)).v.tolist() == [1.0, 2.0]


async def test_a_series_over_the_quota_is_named(
    client: httpx.AsyncClient, parts: Wiring, t: int
) -> None:
    await parts.tenants.set_quota("acme", {"series": 1}, "test")
    headers = await key(parts)
    message = series("a", 1.0, t) + series("b", 1.0, t)
    for _ in range(2):
        answer = await client.post(PATH, content=snappy(message), headers=headers)
        assert answer.status_code == 400
        assert "kept 1 of 2 samples; b: a new series" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (snappy(b""), {"Content-Type": "application/json"}, 415, "'application/json' is not taken"),
        (snappy(b""), {"Content-Type": ""}, 415, "send application/x-protobuf"),
        (
            snappy(b""),
            {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
            415,
            "remote write 1.0 is",
        ),
        (snappy(b""), {"Content-Encoding": "gzip"}, 415, "'gzip' is not taken here"),
        (snappy(b""), {"Content-Encoding": ""}, 415, "is snappy"),
        (b"", {}, 400, "is not snappy"),
        (b"\x05\x00a", {}, 400, "is not snappy"),
        (snappy(b"\x0a\x7fabc"), {}, 400, "is no prometheus.WriteRequest"),
        (snappy(bytes(INFLATED_MAX + 1)), {}, 413, "inflates to 10485761 bytes"),
        (bytes(10 << 20) + b"x", {}, 413, "10 MiB"),
    ],
)
async def test_a_body_that_is_none_says_so(
    client: httpx.AsyncClient,
    parts: Wiring,
    body: bytes,
    headers: dict[str, str],
    status: int,
    detail: str,
) -> None:
    answer = await client.post(PATH, content=body, headers=await key(parts) | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-protobuf;proto=prometheus.WriteRequest",
        'Application/X-Protobuf; proto="prometheus.WriteRequest"; charset=x',
    ],
)
async def test_the_message_may_be_named(
    client: httpx.AsyncClient, parts: Wiring, t: int, content_type: str
) -> None:
    headers = await key(parts) | {"Content-Type": content_type, "Content-Encoding": "Snappy"}
    answer = await client.post(PATH, content=snappy(series("up", 1.0, t)), headers=headers)
    assert answer.status_code == 204


async def test_the_key_decides_the_tenant(client: httpx.AsyncClient, parts: Wiring, t: int) -> None:
    body = snappy(series("up", 1.0, t))

    async def status(headers: dict[str, str]) -> int:
        return (await client.post(PATH, content=body, headers=headers)).status_code

    assert await status(HEADERS) == 401
    assert await status(await key(parts, Role.READER)) == 403
    writer = await key(parts)
    assert await status(writer | {"X-Tenant-ID": "other"}) == 404
    assert await status(writer) == 204
    admin = await key(parts, Role.ADMIN, PLATFORM)
    assert await status(admin) == 400
    assert await status(admin | {"X-Tenant-ID": "other"}) == 204
    assert [len((await logged(parts, tenant)).id) for tenant in ("acme", "other")] == [1, 1]


async def test_a_store_that_is_down_answers_503_with_retry_after(
    settings: Settings, parts: Wiring, t: int
) -> None:
    headers = await key(parts)
    down = settings.model_copy(update={"redis_url": "unix:///nowhere/store.sock"})
    async with wired(down) as broken, calling(broken) as client:
        answer = await client.post(PATH, content=snappy(series("up", 1.0, t)), headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
