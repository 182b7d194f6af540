"""Roles of the service as real processes, for tests that kill them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from service.storage.embedded import die_with_parent
from service.supervisor import free_port

PYTHON = [sys.executable, "-W", "error::RuntimeWarning", "-m", "service.cli"]


def start_role(role: str, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """`offbeat ROLE`; what it prints goes to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [*PYTHON, role],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=die_with_parent,
        )


def end(process: "subprocess.Popen[bytes]", how: signal.Signals = signal.SIGTERM) -> int:
    """Stop a process and wait for it; its exit status."""
    if process.poll() is None:
        process.send_signal(how)
    return process.wait(30)


def environment_of(
    data_dir: Path, redis_url: str, database_url: str, **more: str
) -> dict[str, str]:
    """Variables of a service on these stores, with a free port."""
    return {
        "OFFBEAT_DATA_DIR": str(data_dir),
        "OFFBEAT_PORT": str(free_port("127.0.0.1")),
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "ALERT_RULES": str(data_dir / "alert_rules.yaml"),
        **more,
    }


def wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when `/readyz` answers 200."""
    with httpx.Client(timeout=2, trust_env=False) as http:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                return http.get(f"{url}/readyz").status_code == 200
            return False

        wait_until(ready, 40, f"it is not ready: {log}")


def wait_until(condition: Any, seconds: float, message: str) -> Any:
    """What `condition()` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, message
        time.sleep(0.02)
    return found
