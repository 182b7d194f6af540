"""InfluxDB's own client writes to a real service; what it sent is read back."""

import asyncio
import signal
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from influxdb_client.rest import ApiException
from redis.asyncio import Redis

from service.domain.tenants import Role
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready, wait_until

POINTS = 200


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_what_the_client_sent_is_read_back(
    store: EmbeddedStore, redis: Redis, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'offbeat.db'}"
    environment = environment_of(tmp_path, store.url, database)
    settings = Settings(data_dir=tmp_path, redis_url=store.url, database_url=database)
    await prepare(settings)
    async with wired(settings) as parts:
        await parts.tenants.create("acme", "Acme", "test")
        _, key = await parts.keys.create("acme", Role.OPERATOR, "test", "test")
        _, reader = await parts.keys.create("acme", Role.READER, "test", "test")

    log = tmp_path / "log.txt"
    url = f"http://127.0.0.1:{environment['OFFBEAT_PORT']}"
    roles = [start_role(role, environment, log) for role in ("api", "worker")]
    try:
        await asyncio.to_thread(wait_ready, url, roles[0], log)
        start = int(time.time()) - 2 * POINTS
        await asyncio.to_thread(_write, url, key, start)
        await asyncio.to_thread(_refused, url, key, reader)
        await asyncio.to_thread(_read_back, url, key, start, log)
    finally:
        for process in roles:
            end(process, signal.SIGKILL)


def _write(url: str, key: str, start: int) -> None:
    """Points with all types, as objects and lines, plain and gzip, at once and in batches."""
    with InfluxDBClient(url, token=key, org="any") as client:
        writer = client.write_api(write_options=SYNCHRONOUS)
        for n in range(POINTS):
            point = (
                Point("rack temperature")
                .tag("room", "a, b=c")
                .field("celsius", 20 + n / 8)
                .field("fans", n)
                .field("door open", n % 2 == 0)
                .field("note", 'says "hi",\nand more')
                .time(datetime.fromtimestamp(start + n, UTC))
            )
            writer.write("any", record=point)
        whole = [f"plays,region=eu value={n} {start + n}" for n in range(POINTS)]
        writer.write("any", record=whole, write_precision=WritePrecision.S)
    with (
        InfluxDBClient(url, token=key, org="any", enable_gzip=True) as client,
        client.write_api(write_options=WriteOptions(batch_size=70)) as writer,
    ):
        for n in range(POINTS):
            point = Point("zipped").tag("straße", "Köln").field("value", n * 0.5)
            writer.write("any", record=point.time((start + n) * 1000, WritePrecision.MS))


def _refused(url: str, key: str, reader: str) -> None:
    """What the client's user reads when something is wrong."""
    for token, line, status, said in (
        (reader, "plays value=1", 403, "needs the permission record"),
        (key, "plays value=x", 400, "line 1: field 'value': 'x' is no number"),
    ):
        with InfluxDBClient(url, token=token, org="any") as client:
            writer = client.write_api(write_options=SYNCHRONOUS)
            with pytest.raises(ApiException) as refused:
                writer.write("any", record=line)
        assert refused.value.status == status
        assert said in refused.value.message


def _read_back(url: str, key: str, start: int, log: Path) -> None:
    """Every number that was sent, as the API shows it, and no series besides."""
    rack = {"room": "a, b=c"}
    expected = [
        ("rack_temperature_celsius", rack, [20 + n / 8 for n in range(POINTS)]),
        ("rack_temperature_fans", rack, [float(n) for n in range(POINTS)]),
        ("rack_temperature_door_open", rack, [float(n % 2 == 0) for n in range(POINTS)]),
        ("plays", {"region": "eu"}, [float(n) for n in range(POINTS)]),
        ("zipped", {"stra_e": "Köln"}, [n * 0.5 for n in range(POINTS)]),
    ]
    times = [(start + n) * 1000 for n in range(POINTS)]
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=20) as http:
        items = http.get("/analytics/series").raise_for_status().json()["items"]
        assert sorted(item["name"] for item in items) == sorted(name for name, _, _ in expected)
        for name, labels, values in expected:
            (item,) = [item for item in items if item["name"] == name]
            assert item["labels"] == labels
            read = wait_until(partial(_whole, http, item["id"], start), 30, log.read_text())
            assert (read["t"], read["v"]) == (times, values)


def _whole(http: httpx.Client, series: str, start: int) -> dict[str, Any] | None:
    """The samples of a series, once the worker has stored them all."""
    answer = http.get(f"/analytics/series/{series}/samples", params={"start": start - 60})
    found: dict[str, Any] = answer.raise_for_status().json()
    return found if len(found["t"]) >= POINTS else None
