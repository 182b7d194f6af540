"""When a child that ended is started again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.errors import ConfigurationError
from service.settings import Settings
from service.supervisor import Supervisor, _Child
from tests.support.roles import wait_until


def child(start: "Callable[[], subprocess.Popen[bytes]]") -> _Child:
    return _Child("worker", start, start(), started=0.0)


def ended() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


def test_one_that_cannot_live_is_tried_ever_more_rarely() -> None:
    one, now, pauses = child(ended), 0.0, []
    for _ in range(12):
        one.started = now
        now += 1  # it lives for a second
        pauses.append(one.failed(now))
        now += pauses[-1]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.1
    assert pauses[-2:] == [30, 30]


def test_one_that_is_killed_now_and_then_is_back_at_once() -> None:
    one, now = child(ended), 0.0
    for _ in range(100):
        one.started = now
        now += 6
        assert one.failed(now) == 0.1
    one.started = now
    assert one.failed(now + 60) == 0.1


def test_the_others_are_watched_while_one_cannot_start(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(Settings(data_dir=tmp_path), said.append)
    attempts: list[int] = []

    def refuses() -> "subprocess.Popen[bytes]":
        attempts.append(1)
        if len(attempts) == 2:
            raise ConfigurationError("no store here")
        return ended()

    supervisor._children += [child(refuses), child(ended)]
    supervisor._children[1].name = "api"

    def watched() -> bool:
        supervisor.watch()
        return "worker is running again" in said and "api is running again" in said

    wait_until(watched, 10, str(said))
    assert "worker cannot start (no store here); trying again in 0.5 s" in said
    assert said[0] == "worker ended (status 0); starting it again in 0.1 s"


@pytest.mark.parametrize(("pid", "kept"), [(7, False), (77, True)])
def test_what_a_dead_process_measured_about_itself_is_forgotten(
    tmp_path: Path, pid: int, kept: bool
) -> None:
    supervisor = Supervisor(Settings(data_dir=tmp_path), print)
    folder = tmp_path / "run"
    folder.mkdir()
    files = [folder / f"{kind}_{pid}.db" for kind in ("gauge_livemostrecent", "counter")]
    for file in files:
        file.touch()
    supervisor._forget_measures(7)
    assert [file.exists() for file in files] == [kept, True]
