"""A running Offbeat to measure: `offbeat serve` in a temporary folder, on a free port."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx
from redis import Redis

from bench.role import PIN, PROFILE, SLOW
from service.settings import Settings, variable
from service.storage import keys
from service.supervisor import free_port

ROLES = ("api", "worker", "scheduler", "store")
_ROOT = Path(__file__).parent.parent
_TICK = os.sysconf("SC_CLK_TCK")

#: High enough to be no limit.
QUOTA = {
    "samples_per_second": 1e8,
    "requests_per_second": 1e6,
    "series": 1_000_000,
    "new_series_per_minute": 1_000_000,
}


@dataclass(frozen=True)
class Reading:
    """CPU seconds by role; bytes of the store's data, and of the worker's resident memory."""

    cpu: dict[str, float]
    store_bytes: int
    worker_bytes: int


class Service:
    """`offbeat serve` as a context manager; `slow` takes plain decoders, `profile` names a role.

    `pin` is a role and the core that it is to run on alone: `worker:0`.
    """

    def __init__(
        self, *, slow: bool = False, profile: str = "", pin: str = "", **settings: object
    ) -> None:
        self.slow = slow
        self.profile = profile
        self.pin = pin
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="offbeat-bench-")
        self.data = Path(self._folder.name) / "data"
        self._settings = settings

    @property
    def profiled(self) -> Path:
        """Where the profile is, once the service has stopped."""
        return Path(self._folder.name) / "profile"

    def __enter__(self) -> "Service":
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and hasattr(self, "_log"):
            print(self.log(), file=sys.stderr)
        self.close()

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in _VARIABLES}
        environment |= {
            variable("log_level"): "warning",
            variable("log_format"): "text",
            # Learning is another measurement; here it would take the cores by chance.
            variable("training_interval"): "1h",
            variable("alert_rules"): str(Path(self._folder.name) / "none.yaml"),
            SLOW: "1" if self.slow else "",
            PROFILE: f"{self.profile}:{self.profiled}" if self.profile else "",
            PIN: self.pin,
        }
        if self.profile:
            environment["API_PROCESSES"] = "1"  # there is one profile
        environment |= {variable(name): str(value) for name, value in self._settings.items()}
        self._log = (Path(self._folder.name) / "log").open("w+b")
        arguments = ["serve", "--data-dir", str(self.data), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.role", *arguments],
            env=environment,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        self._wait(60, self._is_ready, "the service did not start")
        self._wait(60, self._is_idle, "the service did not come to rest")
        self.redis = Redis(unix_socket_path=str(self.data / "store" / "store.sock"))
        self.admin_key = (self.data / "admin.key").read_text().strip()
        self.pids = self._children()

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the service ended:\n{self.log()}")
        try:
            ready = httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False)
        except httpx.HTTPError:
            return False
        return ready.status_code == 200 and set(self._children()) == set(ROLES)

    def _is_idle(self) -> bool:
        """Whether each process has started: it is ready when one of the API's is."""
        before = self._cpu_of_roles()
        time.sleep(0.5)
        return self._cpu_of_roles() - before < 0.05

    def _cpu_of_roles(self) -> float:
        return sum(_cpu(pid) for pids in self._children().values() for pid in pids)

    def _wait(self, seconds: float, condition: Callable[[], bool], message: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{message}:\n{self.log()}")
            time.sleep(0.005)

    def log(self) -> str:
        """The end of what the service said."""
        self._log.flush()
        return Path(self._folder.name, "log").read_text(errors="replace")[-3000:]

    def _children(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for pid in _children_of(self.process.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            words = [word.decode() for word in command if word]
            if words:
                role = words[-1] if words[-1] in ROLES else "store"
                found.setdefault(role, []).append(pid)
        return found

    def tenant(self, name: str, **quota: float) -> str:
        """Make a tenant with these limits, or none to speak of; its key may record and read."""
        with httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.admin_key}"},
            timeout=30,
            trust_env=False,
        ) as admin:
            admin.post("/tenants", json={"id": name, "name": name}).raise_for_status()
            set_ = admin.put(f"/tenants/{name}/quota", json={**QUOTA, **quota})
            if set_.status_code != 200:
                raise RuntimeError(f"the quota was refused: {set_.text}")
            made = admin.post(f"/tenants/{name}/keys", json={"role": "operator", "name": "bench"})
            made.raise_for_status()
            return str(made.json()["key"])

    def drain(self, seconds: float = 300.0) -> float:
        """Wait until every entry of the log is in the chunks; how long that took."""
        begun = time.perf_counter()
        self._wait(seconds, lambda: not self.backlog(), "the log was not applied")
        return time.perf_counter() - begun

    def backlog(self) -> int:
        """Shards whose log holds entries that the chunks do not have."""
        behind = 0
        for shard in range(Settings.model_fields["log_shards"].default):
            newest = self.redis.xrevrange(keys.log(shard), count=1)
            assert isinstance(newest, list)
            behind += bool(newest) and newest[0][0] != self.redis.get(keys.position(shard))
        return behind

    def restart(self, role: str) -> float:
        """Ask a role to end, and wait for the next; when it was there (`time.monotonic`)."""
        (before,) = self.pids[role]
        os.kill(before, signal.SIGTERM)
        self._wait(30, lambda: self._children().get(role, [before]) != [before], f"no {role}")
        begun = time.monotonic()
        self.pids = self._children()
        return begun

    def read(self) -> Reading:
        """What the roles have used so far."""
        memory = self.redis.info("memory")
        assert isinstance(memory, dict)
        return Reading(
            {role: sum(map(_cpu, pids)) for role, pids in self.pids.items()},
            int(memory["used_memory"]),
            _resident(self.pids["worker"][0]),
        )

    def close(self) -> None:
        """Stop it and remove its data, the profile excepted until then."""
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def remove(self) -> None:
        """Remove all that it wrote."""
        if hasattr(self, "_log"):
            self._log.close()
        self._folder.cleanup()


def busy() -> float:
    """CPU seconds that the machine has worked so far, for whomever."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / _TICK  # not idle, nor waiting for a disk


def put_first(pids: Iterable[int]) -> None:
    """Let these processes run before all others of the machine; `PermissionError` without root."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))


_VARIABLES = {variable(name) for name in Settings.model_fields}


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def _cpu(pid: int) -> float:
    """CPU seconds of a process, with those of its children, ended and running."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(map(int, fields[11:15])) / _TICK
    return own + sum(map(_cpu, _children_of(pid)))


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
