"""`offbeat serve` as a real process, with its children."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.supervisor import free_port
from tests.support.roles import PYTHON, wait_until


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator["Served"]:
    """The service in `folder`, killed at the end."""
    served = Served(folder, environment)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait()


class Served:
    """It runs, and has said so. Its data lies in `data_dir`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        environment = {"API_PROCESSES": "1"} | environment
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        self.data_dir = folder / "data"
        clean = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "DATABASE_URL")}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*PYTHON, "serve", "--data-dir", str(self.data_dir), "--port", str(self.port)],
                env=clean | environment,
                cwd=folder,
                stdout=out,
                stderr=out,
            )
        wait_until(lambda: "Ctrl-C stops it" in self.said or self.process.poll(), 60, self.said)
        assert self.process.poll() is None, self.said

    @property
    def said(self) -> str:
        """What it and its children printed."""
        return self.log.read_text()

    @property
    def admin_key(self) -> str:
        """The key that it made at its first start."""
        return (self.data_dir / "admin.key").read_text().strip()

    def children(self) -> dict[str, int]:
        """Process ids of the children by what they are."""
        found = {}
        for pid, command in children_of(self.process.pid).items():
            if len(command) > 2:  # a zombie has no command
                is_store = "valkey" in command[0] or "redis" in command[0]
                found["store" if is_store else command[-2]] = pid
        return found

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


def children_of(parent: int) -> dict[int, list[str]]:
    """Process ids of a process' children, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                found[int(entry.name)] = command.split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
