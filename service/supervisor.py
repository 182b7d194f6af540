"""`offbeat serve`: the private store and every role as children of one process.

A child that dies is started again, and that is said: at once after a long life, after growing
pauses if it keeps dying. Children die with this process, even if it is killed.
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
from pathlib import Path

import httpx

from service.domain.errors import ConfigurationError, OffbeatError, Unavailable
from service.settings import Settings, variable
from service.storage.embedded import EmbeddedStore, die_with_parent
from service.wiring import prepare

Say = Callable[[str], None]

ROLES = ("api", "worker", "scheduler")
#: Seconds before a child is started again, by how often it has failed. Every `_FORGIVEN_AFTER`
#: seconds that it runs take one failure back: one that is killed now and then is back at once, one
#: that cannot live is tried twice a minute.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_FORGIVEN_AFTER = 5.0
#: Seconds between two looks at the children.
_LOOK = 0.1


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
    failures: float = 0.0
    due: float | None = None

    def failed(self, now: float) -> float:
        """It ended or could not start: seconds until it is to be started again."""
        self.failures = max(0.0, self.failures - (now - self.started) / _FORGIVEN_AFTER)
        pause = _PAUSES[min(int(self.failures), len(_PAUSES) - 1)]
        self.failures += 1
        self.due = now + pause
        return pause


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
    def _run_folder(self) -> Path:
        """Where the processes' metrics meet."""
        return self.settings.data_dir.resolve() / "run"

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

            # Its data may take minutes to load, and the others must be watched meanwhile.
            self._children.append(_Child("store", store.launch, store.process))
        self.admin_key = asyncio.run(prepare(self.settings))
        environment = self._environment()
        listening = self._listen()
        for role in ROLES:
            handed = listening.fileno() if role == "api" else None
            start = _starter(role, environment, handed)
            for _ in range(self.settings.api_processes if role == "api" else 1):
                self._children.append(_Child(role, start, start()))
        self._wait_until_ready()

    def _listen(self) -> socket.socket:
        """The socket that the processes of the API share.

        It is ours, so that it outlives them: who comes while one starts again waits for another.
        """
        host, port = self.settings.host, self.settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=2048)
        except OSError as error:
            raise ConfigurationError(f"{host}:{port} cannot be listened on: {error}") from error
        self._stack.callback(listening.close)
        return listening

    def _environment(self) -> dict[str, str]:
        shutil.rmtree(self._run_folder, ignore_errors=True)
        self._run_folder.mkdir(parents=True)
        return {
            **os.environ,
            variable("data_dir"): str(self.settings.data_dir.resolve()),
            variable("host"): self.settings.host,
            variable("port"): str(self.settings.port),
            variable("alert_rules"): str(self.settings.alert_rules.resolve()),
            "PROMETHEUS_MULTIPROC_DIR": str(self._run_folder),
            "PYTHONUNBUFFERED": "1",
            **self._extra_env,
        }

    def _wait_until_ready(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        apis = [c for c in self._children if c.name == "api"]
        with httpx.Client(timeout=2, trust_env=False) as http:
            while time.monotonic() < deadline:
                if any(api.process.poll() is not None for api in apis):
                    raise ConfigurationError("the API stopped at start; its message stands above")
                try:
                    if http.get(f"{self.url}/readyz").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
        raise Unavailable(f"the API did not become ready within {timeout:.0f} s")

    def watch(self) -> None:
        """Start again what has died; call it several times a second. Waits for nothing."""
        now = time.monotonic()
        for child in self._children:
            if child.due is None:
                code = child.process.poll()
                if code is None:
                    continue
                self._forget_measures(child.process.pid)
                pause = child.failed(now)
                how = signal.Signals(-code).name if code < 0 else f"status {code}"
                self._say(f"{child.name} ended ({how}); starting it again in {pause:g} s")
            elif now >= child.due:
                child.started, child.due = now, None
                try:
                    child.process = child.start()
                except (OSError, OffbeatError) as error:
                    pause = child.failed(now)
                    self._say(f"{child.name} cannot start ({error}); trying again in {pause:g} s")
                else:
                    self._say(f"{child.name} is running again")

    def _forget_measures(self, pid: int) -> None:
        """Drop a dead process' gauges; its counters stay, for they count what was done."""
        for file in self._run_folder.glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Watch until `stopping()`."""
        while not stopping():
            self.watch()
            time.sleep(_LOOK)

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


def _starter(
    role: str, environment: Mapping[str, str], listening: int | None
) -> Callable[[], "subprocess.Popen[bytes]"]:
    handed = () if listening is None else (listening,)
    environment = {**environment, **{variable("listen_fd"): str(fd) for fd in handed}}

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", role],
            env=environment,
            pass_fds=handed,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            start_new_session=True,  # Ctrl-C reaches us, and we stop the children in order
        )

    return start


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port)) == 0  # noqa: S104
