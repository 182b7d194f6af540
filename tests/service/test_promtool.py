"""Debian's promtool asks the running service what it would ask a Prometheus."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.tenants import Role
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready, wait_until

REQUIRED = os.environ.get("OFFBEAT_REQUIRE_PROMETHEUS") == "1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("promtool"),
    pytest.mark.skipif(
        shutil.which("promtool") is None and not REQUIRED,
        reason="there is no promtool on PATH (Debian: apt-get install prometheus)",
    ),
]


@dataclass(frozen=True)
class Running:
    """A service with samples of ten minutes, one every fifteen seconds, until `at`."""

    host: str
    key: str
    stranger: str
    at: int
    folder: Path

    def ask(self, kind: str, *arguments: str, key: str | None = None) -> Any:
        """What `promtool query KIND` prints, as JSON; the key is the password in the URL."""
        done = self.run(kind, *arguments, server=f"http://acme:{key or self.key}@{self.host}")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def run(self, kind: str, *arguments: str, server: str) -> "subprocess.CompletedProcess[str]":
        """`promtool query KIND`: flags, the server, then the rest."""
        flags = [argument for argument in arguments if argument.startswith("--")]
        rest = [argument for argument in arguments if not argument.startswith("--")]
        return subprocess.run(
            ["promtool", "query", "-o", "json", kind, *flags, server, *rest],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture(scope="module")
def running(short_tmp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An API and a worker, with samples that were sent and stored."""
    assert shutil.which("promtool"), "OFFBEAT_REQUIRE_PROMETHEUS is set: put it on PATH"
    folder = tmp_path_factory.mktemp("promtool")
    store = EmbeddedStore(short_tmp / "promtool")  # its own: others empty theirs meanwhile
    store.start()
    database = f"sqlite:///{folder / 'offbeat.db'}"

    async def make() -> tuple[str, str]:
        options = Settings(data_dir=folder, redis_url=store.url, database_url=database)
        await prepare(options)
        async with wired(options) as parts:
            for tenant in ("acme", "other"):
                await parts.tenants.create(tenant, tenant.title(), "test")
            _, key = await parts.keys.create("acme", Role.OPERATOR, "test", "test")
            _, stranger = await parts.keys.create("other", Role.READER, "test", "test")
        return key, stranger

    key, stranger = asyncio.run(make())
    environment = environment_of(folder, store.url, database)
    log = folder / "log.txt"
    host = f"127.0.0.1:{environment['OFFBEAT_PORT']}"
    processes = [start_role(role, environment, log) for role in ("api", "worker")]
    try:
        wait_ready(f"http://{host}", processes[0], log)
        at = int(time.time()) // 15 * 15 - 15
        with httpx.Client(base_url=f"http://{host}", headers={"X-API-Key": key}) as http:
            _send(http, at)
        yield Running(host, key, stranger, at, folder)
    finally:
        for process in processes:
            end(process, signal.SIGKILL)
        store.stop()
        sys.stderr.write(log.read_text()[-5000:])  # shown if a test fails


def _send(http: httpx.Client, at: int) -> None:
    samples = [
        {
            "name": "plays_total",
            "metric_type": "counter",
            "value": 40.0 * i * rate,
            "timestamp": at - 600 + 15 * i,
            "labels": {"region": region},
        }
        for i in range(41)
        for region, rate in (("eu", 1), ("us", 2))
    ]
    answer = http.post("/analytics/metrics", json=samples)
    assert answer.status_code < 300, answer.text

    def stored() -> bool:
        query: Any = {"query": "sum(count_over_time(plays_total[1h]))", "time": at}
        found = http.get("/api/v1/query", params=query).json()["data"]["result"]
        return bool(found) and found[0]["value"][1] == "82"

    wait_until(stored, 30, "the samples are not stored")


def test_an_instant_query(running: Running) -> None:
    found = running.ask("instant", f"--time={running.at}", "rate(plays_total[5m])")
    assert found == [
        {"metric": {"region": region}, "value": [running.at, value]}
        for region, value in (("eu", "2.6666666666666665"), ("us", "5.333333333333333"))
    ]
    big = running.ask("instant", f"--time={running.at}", "2 ^ 60")
    assert big == [running.at, "1152921504606847000"]


def test_a_range_query(running: Running) -> None:
    times = (f"--start={running.at - 60}", f"--end={running.at}", "--step=30s")
    found = running.ask("range", *times, "sum(plays_total)")
    expected = [[running.at - 60 + 30 * i, str(4320 + 240 * i)] for i in range(3)]
    assert found == [{"metric": {}, "values": expected}]


def test_series_and_labels(running: Running) -> None:
    found = running.ask("series", '--match=plays_total{region=~"e.*"}')
    assert found == [{"__name__": "plays_total", "region": "eu"}]
    assert running.ask("labels", "region") == ["eu", "us"]
    assert running.ask("labels", "__name__", "--match=plays_total") == ["plays_total"]


def test_errors_are_understood(running: Running) -> None:
    server = f"http://acme:{running.key}@{running.host}"
    done = running.run("instant", "sum(", server=server)
    assert done.returncode != 0
    assert "bad_data" in done.stderr
    assert 'invalid parameter "query"' in done.stderr
    done = running.run("instant", "1", server=f"http://{running.host}")
    assert done.returncode != 0
    assert "401" in done.stderr


def test_another_tenant_sees_nothing(running: Running) -> None:
    found = running.ask("instant", f"--time={running.at}", '{__name__=~".+"}', key=running.stranger)
    assert found == []
    assert not running.ask("labels", "__name__", key=running.stranger)
