"""A real Prometheus scrapes an exporter and sends on; what is read back is what it stored."""

import http.server
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.series import Series
from service.domain.tenants import Role
from service.settings import Settings
from service.storage.embedded import EmbeddedStore, die_with_parent
from service.supervisor import free_port
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready, wait_until

REQUIRED = os.environ.get("OFFBEAT_REQUIRE_PROMETHEUS") == "1"
STALE = 0x7FF0000000000002

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("prometheus") is None and not REQUIRED,
        reason="there is no prometheus on PATH (Debian: apt-get install prometheus)",
    ),
]

CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: exporter
    static_configs: [{{targets: ["127.0.0.1:{exporter}"], labels: {{region: "nørd"}}}}]
remote_write:
  - url: "{url}/api/v1/write"
    authorization: {{credentials: "{key}"}}
    queue_config: {{batch_send_deadline: 500ms, max_backoff: 1s}}
"""

#: Name and labels as pairs → [(milliseconds, value)]; None where JSON has no such number.
Samples = dict[tuple[tuple[str, str], ...], list[tuple[int, float | None]]]


class Exporter(http.server.ThreadingHTTPServer):
    """Shows other numbers at each scrape; `level` is there for the first five only."""

    daemon_threads = True
    scrapes = 0

    def text(self) -> str:
        self.scrapes += 1
        n = self.scrapes
        lines = [
            "# TYPE plays_total counter",
            f'plays_total{{country="de"}} {n}',
            f'plays_total{{country="se",title="a \\"b\\" \\\\ c"}} {n * 7}',
            "# TYPE zero gauge",
            "zero 0",
            "endless +Inf",
            "unknown NaN",
        ]
        if n <= 5:
            lines.append(f"level {math.sin(n) / 1000!r}")
        return "\n".join(lines) + "\n"


class Page(http.server.BaseHTTPRequestHandler):
    """The exporter's only page."""

    server: Exporter

    def do_GET(self) -> None:
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is no place for it."""


@contextmanager
def exporting() -> Iterator[Exporter]:
    with Exporter(("127.0.0.1", 0), Page) as exporter:
        thread = threading.Thread(target=exporter.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield exporter
        finally:
            exporter.shutdown()
            thread.join()


@contextmanager
def prometheus(folder: Path, exporter: Exporter, url: str, key: str) -> Iterator[str]:
    """A Prometheus that sends to `url`; gives its own address."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(exporter=exporter.server_port, url=url, key=key))
    port = free_port("127.0.0.1")
    with (folder / "prometheus.txt").open("wb") as out:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=die_with_parent,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process, signal.SIGKILL)


def stored_by_prometheus(url: str, at: float) -> Samples:
    """Every sample up to `at`; it leaves out the marks of a series' end itself."""
    query = {"query": '{__name__!=""}[10m]', "time": f"{at:.3f}"}
    found = httpx.get(f"{url}/api/v1/query", params=query, timeout=10).json()
    return {
        tuple(sorted(item["metric"].items())): [
            (round(t * 1000), _finite(float(v))) for t, v in item["values"]
        ]
        for item in found["data"]["result"]
    }


def stored_by_us(http: httpx.Client, at: float) -> Samples:
    """The same through our API."""
    found: Samples = {}
    for item in _get(http, "/analytics/series", limit=500)["items"]:
        path = f"/analytics/series/{item['id']}/samples"
        samples = _get(http, path, start=at - 600, end=f"{at:.3f}")
        pairs = {"__name__": item["name"], **item["labels"]}
        found[tuple(sorted(pairs.items()))] = list(zip(samples["t"], samples["v"], strict=True))
    return found


def _get(http: httpx.Client, path: str, **query: Any) -> Any:
    answer = http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


async def test_what_prometheus_stored_is_what_is_read_back(
    store: EmbeddedStore, redis: Redis, tmp_path: Path
) -> None:
    assert shutil.which("prometheus"), "OFFBEAT_REQUIRE_PROMETHEUS is set: put it on PATH"
    database = f"sqlite:///{tmp_path / 'offbeat.db'}"
    environment = environment_of(tmp_path, store.url, database)
    options = Settings(data_dir=tmp_path, redis_url=store.url, database_url=database)
    await prepare(options)
    async with wired(options) as parts:
        await parts.tenants.create("acme", "Acme", "test")
        _, writer = await parts.keys.create("acme", Role.WRITER, "prometheus", "test")
        _, reader = await parts.keys.create("acme", Role.READER, "test", "test")

    log = tmp_path / "log.txt"
    url = f"http://127.0.0.1:{environment['OFFBEAT_PORT']}"
    processes = [start_role(role, environment, log) for role in ("api", "worker")]
    try:
        wait_ready(url, processes[0], log)
        with (
            exporting() as exporter,
            prometheus(tmp_path, exporter, url, writer) as theirs,
            httpx.Client(base_url=url, headers={"X-API-Key": reader}, timeout=10) as http,
        ):
            wait_until(lambda: exporter.scrapes >= 9, 60, "Prometheus does not scrape")
            # A scrape that began is stored before the next one begins.
            at = time.time() - 1.5
            expected = stored_by_prometheus(theirs, at)
            (level,) = [pairs for pairs in expected if ("__name__", "level") in pairs]
            instance = f"127.0.0.1:{exporter.server_port}"

            def complete() -> bool:
                ours = stored_by_us(http, at)
                return sum(map(len, ours.values())) > sum(map(len, expected.values()))

            wait_until(complete, 30, "not all samples arrive")
            ours = stored_by_us(http, at)
    finally:
        for process in processes:
            end(process, signal.SIGKILL)
        for said in sorted(tmp_path.glob("*.txt")):  # shown if the test fails
            sys.stderr.write(f"{said.name}:\n{said.read_text()[-5000:]}\n")

    # The mark of the end of `level` is one sample more than what a query of Prometheus shows.
    t_end, mark = ours[level].pop()
    assert mark is None
    assert ours == expected
    assert len(expected[level]) == 5
    names = {dict(pairs)["__name__"] for pairs in expected}
    assert {"up", "plays_total", "zero", "endless", "unknown", "level"} <= names
    async with wired(options) as parts:
        labels = {"instance": instance, "job": "exporter", "region": "nørd"}
        gone = Series.of("level", labels)
        columns = (await parts.chunks.read("acme", [gone.id], t_end, t_end))[gone.id]
        assert columns.v.view(np.uint64).tolist() == [STALE]
        known = await parts.registry.all("acme")
        types = {series.name: str(series.metric_type) for series in known.values()}
    assert (types["plays_total"], types["zero"]) == ("counter", "gauge")
