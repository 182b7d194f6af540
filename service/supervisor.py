"""`offbeat serve`: the private store and every role as children of one process.

A child that dies is started again, with growing pauses, and that is said. Children die with this
process, even if it is killed.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx

from service.domain.errors import ConfigurationError, Unavailable
from service.settings import Settings, variable
from service.storage.embedded import EmbeddedStore, die_with_parent
from service.wiring import prepare

Say = Callable[[str], None]

ROLES = ("api", "worker", "scheduler")
#: Pauses before a child is started again; it counts as well after a minute.
_PAUSES = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
_WELL_AFTER = 60.0


def free_port(host: str) -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class _Child:
    name: str
    start: Callable[[], "subprocess.Popen[bytes]"]
    process: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """Starts the service, watches over it, stops it. Use as a context manager."""

    def __init__(
        self, settings: Settings, say: Say, extra_env: Mapping[str, str] | None = None
    ) -> None:
        port = settings.port or free_port(settings.host)
        self.settings = settings.model_copy(update={"port": port})
        self.admin_key: str | None = None
        self._say = say
        self._extra_env = dict(extra_env or {})
        self._children: list[_Child] = []
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Where the API listens, as reached from this machine."""
        host = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::") else self.settings.host  # noqa: S104
        return f"http://{host}:{self.settings.port}"

    def __enter__(self) -> "Supervisor":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _listens(self.settings.host, self.settings.port):
            raise ConfigurationError(
                f"port {self.settings.port} is taken; choose another with {variable('port')}"
            )
        if self.settings.embedded_redis:
            store = EmbeddedStore(self.settings.redis_socket.parent)
            store.start()
            assert store.process is not None  # noqa: S101 - start() made it
            self._stack.callback(store.stop)

            def restart() -> "subprocess.Popen[bytes]":
                store.start()
                assert store.process is not None  # noqa: S101
                return store.process

            self._children.append(_Child("store", restart, store.process))
        self.admin_key = asyncio.run(prepare(self.settings))
        environment = self._environment()
        for role in ROLES:
            start = _starter(role, environment)
            self._children.append(_Child(role, start, start()))
        self._wait_until_ready()

    def _environment(self) -> dict[str, str]:
        run = self.settings.data_dir.resolve() / "run"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        return {
            **os.environ,
            variable("data_dir"): str(self.settings.data_dir.resolve()),
            variable("host"): self.settings.host,
            variable("port"): str(self.settings.port),
            variable("alert_rules"): str(self.settings.alert_rules.resolve()),
            "PROMETHEUS_MULTIPROC_DIR": str(run),
            "PYTHONUNBUFFERED": "1",
            **self._extra_env,
        }

    def _wait_until_ready(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        api = next(c for c in self._children if c.name == "api")
        while time.monotonic() < deadline:
            if api.process.poll() is not None:
                raise ConfigurationError("the API stopped at start; its message stands above")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise Unavailable(f"the API did not become ready within {timeout:.0f} s")

    def watch(self) -> None:
        """Start again what has died; call it about four times a second."""
        now = time.monotonic()
        for child in self._children:
            code = child.process.poll()
            if code is None:
                continue
            if not child.due:
                if now - child.started > _WELL_AFTER:
                    child.failures = 0
                pause = _PAUSES[min(child.failures, len(_PAUSES) - 1)]
                child.failures += 1
                child.due = now + pause
                how = signal.Signals(-code).name if code < 0 else f"status {code}"
                self._say(f"{child.name} ended ({how}); starting it again in {pause:g} s")
            elif now >= child.due:
                child.process = child.start()
                child.started, child.due = now, 0.0
                self._say(f"{child.name} is running again")

    def run(self, stopping: Callable[[], bool]) -> None:
        """Watch until `stopping()`."""
        while not stopping():
            self.watch()
            time.sleep(0.25)

    def stop(self, timeout: float = 25.0) -> None:
        """Ask the roles to stop, then make them; the store goes last."""
        roles = [c.process for c in self._children if c.name != "store"]
        for process in roles:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + timeout
        for process in roles:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._children.clear()
        self._stack.close()


def _starter(role: str, environment: Mapping[str, str]) -> Callable[[], "subprocess.Popen[bytes]"]:
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", role],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            start_new_session=True,  # Ctrl-C reaches us, and we stop the children in order
        )

    return start


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port)) == 0  # noqa: S104
