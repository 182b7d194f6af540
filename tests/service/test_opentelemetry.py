"""The SDK of OpenTelemetry sends to a real service, and what it measured is read back."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from service.domain.tenants import Role
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture
def service(store: EmbeddedStore, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """URL of a running api with a worker, and keys of two tenants that may record and read."""
    database = f"sqlite:///{tmp_path / 'offbeat.db'}"

    async def make() -> list[str]:
        keys = []
        options = Settings(data_dir=tmp_path, redis_url=store.url, database_url=database)
        await prepare(options)
        async with wired(options) as parts:
            await parts.redis.flushall()
            for tenant in ("acme", "other"):
                await parts.tenants.create(tenant, tenant.title(), "test")
                _, key = await parts.keys.create(tenant, Role.OPERATOR, "test", "test")
                keys.append(key)
        return keys

    keys = asyncio.run(make())
    environment = environment_of(tmp_path, store.url, database)
    url = f"http://127.0.0.1:{environment['OFFBEAT_PORT']}"
    log = tmp_path / "log.txt"
    processes = [start_role(role, environment, log) for role in ("api", "worker")]
    try:
        wait_ready(url, processes[0], log)
        yield url, keys
    finally:
        for process in processes:
            end(process, signal.SIGKILL)


def measure(provider: MeterProvider) -> None:
    """Use every kind of instrument."""
    meter = provider.get_meter("shop.meter", "1.2")
    orders = meter.create_counter("shop.orders", unit="{order}")
    orders.add(3, {"payment.method": "card"})
    orders.add(4, {"payment.method": "card"})
    orders.add(1, {"payment.method": "cash"})
    queue = meter.create_up_down_counter("shop.queue")
    queue.add(5)
    queue.add(-7)
    meter.create_gauge("shop.temperature", unit="Cel").set(21.5, {"rooms": ["a", "b"]})

    def used(_options: CallbackOptions) -> list[Observation]:
        return [Observation(0.25, {"on": True})]

    meter.create_observable_gauge("shop.disk", [used], unit="1")
    seconds = meter.create_histogram(
        "shop.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1]
    )
    for value in (0.0625, 0.5, 0.5, 8):
        seconds.record(value)


OURS = 'instance="i-1",job="shops/cart",otel_scope_name="shop.meter",otel_scope_version="1.2"'
EXPECTED = {
    f'shop_orders_total{{{OURS},payment_method="card"}}': ("counter", 7),
    f'shop_orders_total{{{OURS},payment_method="cash"}}': ("counter", 1),
    f"shop_queue{{{OURS}}}": ("gauge", -2),
    f'shop_temperature_celsius{{{OURS},rooms="[\\"a\\",\\"b\\"]"}}': ("gauge", 21.5),
    f'shop_disk_ratio{{{OURS},on="true"}}': ("gauge", 0.25),
    f'shop_duration_seconds_bucket{{{OURS},le="0.1"}}': ("histogram", 1),
    f'shop_duration_seconds_bucket{{{OURS},le="1"}}': ("histogram", 3),
    f'shop_duration_seconds_bucket{{{OURS},le="+Inf"}}': ("histogram", 4),
    f"shop_duration_seconds_sum{{{OURS}}}": ("histogram", 9.0625),
    f"shop_duration_seconds_count{{{OURS}}}": ("histogram", 4),
}


def shown(item: dict[str, Any]) -> str:
    """Name and labels of a listed series, sorted."""
    labels = {k: v for k, v in item["labels"].items() if k != "__name__"}
    pairs = [
        '{}="{}"'.format(key, value.replace('"', '\\"')) for key, value in sorted(labels.items())
    ]
    return f"{item['name']}{{{','.join(sorted(pairs, key=_le_last))}}}"


def _le_last(pair: str) -> tuple[bool, str]:
    return not pair.startswith(("instance", "job", "otel")), pair


def test_what_the_sdk_measures_is_read_back(service: tuple[str, list[str]]) -> None:
    url, keys = service
    for key, compression in zip(keys, (Compression.NoCompression, Compression.Gzip), strict=True):
        _send_and_read_back(url, key, compression)


def _send_and_read_back(url: str, key: str, compression: Compression) -> None:
    exporter = OTLPMetricExporter(
        endpoint=f"{url}/v1/metrics",
        headers={"Authorization": f"Bearer {key}"},
        compression=compression,
        timeout=20,
    )
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)],
        Resource(
            {
                "service.name": "cart",
                "service.namespace": "shops",
                "service.instance.id": "i-1",
            }
        ),
    )
    measure(provider)
    assert provider.force_flush(30_000)
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=20) as http:
        listed = wait_until(lambda: _listed(http), 30, "no series")
        assert {shown(item): item["metric_type"] for item in listed} == {
            name: kind for name, (kind, _) in EXPECTED.items()
        }
        for item in listed:
            path = f"/analytics/series/{item['id']}/samples"
            values = wait_until(
                lambda path=path: http.get(path).raise_for_status().json()["v"], 30, shown(item)
            )
            assert values[-1] == EXPECTED[shown(item)][1], shown(item)
    provider.shutdown()


def _listed(http: httpx.Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = http.get("/analytics/series").raise_for_status().json()["items"]
    return items
