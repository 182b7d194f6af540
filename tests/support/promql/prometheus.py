"""A real Prometheus that knows the samples of a test."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cramjam
import httpx

from service.domain.series import LabelPairs
from service.storage.columns import Columns
from service.storage.embedded import die_with_parent
from service.supervisor import free_port
from tests.support.literal import Literal
from tests.support.roles import end, wait_until
from tests.support.slow_decoders.remote_write import Label, Sample, TimeSeries, WriteRequest

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Give its connections back."""
        self._http.close()

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def write(self, source: Literal) -> None:
        """Store all samples of a source."""
        request = WriteRequest(
            timeseries=[_message(labels, columns) for labels, columns in source.series.items()]
        )
        body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
        answer = self._http.post("/api/v1/write", content=body, headers=_HEADERS)
        assert answer.status_code == 204, answer.text

    def query(self, expr: str, at: float) -> Any:
        """The answer at one time, errors too, as its JSON says it."""
        return self._asked("/api/v1/query", query=expr, time=f"{at:.3f}")

    def query_range(self, expr: str, start: float, end: float, step: float) -> Any:
        """The answer at many times."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return self._asked("/api/v1/query_range", query=expr, **times)

    def _asked(self, path: str, **fields: str) -> Any:
        return self._http.post(path, data=fields).json()


@contextmanager
def running(folder: Path) -> Iterator[Prometheus]:
    """One that scrapes nothing and takes remote writes."""
    config = folder / "prometheus.yml"
    config.write_text("global: {evaluation_interval: 1m}\n")
    port = free_port("127.0.0.1")
    log = folder / "prometheus.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-remote-write-receiver",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=die_with_parent,
        )
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return prometheus.ready()

        wait_until(ready, 30, f"it is not ready: {log}")
        yield prometheus
    finally:
        prometheus.close()
        end(process, signal.SIGKILL)


def _message(labels: LabelPairs, columns: Columns) -> bytes:
    pairs = [
        Label(name=name.encode(), value=value.encode()).SerializeToString()
        for name, value in labels
    ]
    bits = columns.v.view("uint64").tolist()
    samples = [
        Sample(bits=b, timestamp=t).SerializeToString()
        for t, b in zip(columns.t.tolist(), bits, strict=True)
    ]
    message: bytes = TimeSeries(labels=pairs, samples=samples).SerializeToString()
    return message
