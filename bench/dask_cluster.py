"""A real Dask scheduler and workers, as processes."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from service.storage.embedded import die_with_parent
from service.supervisor import free_port


class DaskCluster:
    """Processes of the program `dask`; what they print goes to `folder`/dask.log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "DaskCluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                _end(process)

    def start_scheduler(self) -> None:
        """On the same address each time."""
        if self.scheduler is not None:
            _end(self.scheduler)
        host, port = self.address.removeprefix("tcp://").split(":")
        self.scheduler = self._start(
            *("scheduler", "--host", host, "--port", port, "--no-dashboard", "--no-jupyter")
        )

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """With one thread, without the process that would start it again."""
        worker = self._start(
            *("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"),
            *("--memory-limit", "0", "--local-directory", str(self._folder)),
        )
        self.workers.append(worker)
        return worker

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        with (self._folder / "dask.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words],
                env={**os.environ, "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "10"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent,
            )

    def log(self) -> str:
        """What they printed."""
        return (self._folder / "dask.log").read_text()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait(30)
