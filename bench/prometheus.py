"""A real Prometheus to measure against: on a free port, its data in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import httpx

from service.supervisor import free_port

#: How long it must have merged no more blocks.
_CALM_SECONDS = 3.0


def installed() -> bool:
    """Whether there is one."""
    return shutil.which("prometheus") is not None


class Prometheus:
    """`prometheus` that scrapes nothing and takes remote_write, as a context manager."""

    def __init__(self) -> None:
        port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="prometheus-bench-")
        folder = Path(self._folder.name)
        (folder / "prometheus.yml").write_text("global: {}\n")
        self._log = (folder / "log").open("w+b")
        self._command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=60d",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            "--log.level=warn",
        ]

    def __enter__(self) -> "Prometheus":
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        try:
            self._wait(60, self._is_ready, "Prometheus did not start")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    @property
    def version(self) -> str:
        """As it says itself."""
        answer = httpx.get(f"{self.url}/api/v1/status/buildinfo", timeout=10, trust_env=False)
        return str(answer.json()["data"]["version"])

    def cpu(self) -> float:
        """CPU seconds that it has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Wait until it has written and merged its blocks of what it was sent."""
        since, before = time.monotonic(), ""

        def calm() -> bool:
            nonlocal since, before
            if (now := self._compactions()) != before:
                since, before = time.monotonic(), now
            return time.monotonic() - since > _CALM_SECONDS

        self._wait(180, calm, "Prometheus did not come to rest")

    def _compactions(self) -> str:
        metrics = httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).text
        lines = metrics.splitlines()
        return " ".join(line for line in lines if line.startswith("prometheus_tsdb_compactions_"))

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"Prometheus ended:\n{self._said()}")
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _wait(self, seconds: float, condition: Callable[[], bool], message: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{message}:\n{self._said()}")
            time.sleep(0.05)

    def _said(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")[-3000:]

    def _close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()
