"""The tutorial, typed as it stands, against a real service and its own receiver."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.supervisor import free_port
from tests.support.roles import wait_until

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
DEADLINE = 60.0


def until(holds: Callable[[], object], what: str) -> None:
    wait_until(holds, DEADLINE, f"{what}: not within {DEADLINE:.0f} s")


class Terminal:
    """A shell that keeps its variables from one block to the next."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, block: str) -> str:
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(f"{block}\nprintf '\\n%s\\n' done-with-it\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line == "done-with-it\n":
                return said
            said += line
        raise AssertionError(f"{block}\nfailed: {said}")

    def close(self) -> None:
        self._shell.kill()
        self._shell.communicate()


@pytest.fixture
def ports() -> dict[str, str]:
    """The page's ports, and free ones to use instead."""
    return {"8000": str(free_port("127.0.0.1")), "9009": str(free_port("127.0.0.1"))}


@pytest.fixture
def page(ports: dict[str, str]) -> str:
    text = TEXT
    for shown, free in ports.items():
        text = text.replace(f":{shown}", f":{free}").replace(f", {shown})", f", {free})")
    return text


@pytest.fixture
def environment(short_tmp: Path, ports: dict[str, str]) -> dict[str, str]:
    programs = short_tmp / "bin"
    programs.mkdir(exist_ok=True)
    for name, words in (("offbeat", "-m service.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(short_tmp),
        "no_proxy": "127.0.0.1",
        "OFFBEAT_PORT": ports["8000"],
        "ALERT_EVALUATION_INTERVAL": "1",
        "LOG_LEVEL": "warning",
    }


@pytest.fixture
def receiver(page: str, tmp_path: Path, environment: dict[str, str]) -> Iterator[Path]:
    """The page's receiver, and what it has printed."""
    code = re.search(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert code
    (tmp_path / "receiver.py").write_text(code[1])
    printed = tmp_path / "printed"
    with printed.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "receiver.py"], cwd=tmp_path, env=environment, stdout=file
        )
        yield printed
        process.kill()
        process.wait()


@pytest.fixture
def terminal(
    page: str, short_tmp: Path, environment: dict[str, str], receiver: Path
) -> Iterator[Terminal]:
    """A terminal beside a service that was started as the page says."""
    start = re.search(r"^\$ (\S+=\S+ offbeat serve .*)$", page, re.M)
    assert start
    log = short_tmp / "tutorial.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["sh", "-c", f"exec env {start[1]}"],
            cwd=short_tmp,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        shell = Terminal(short_tmp, environment)
        try:
            until(
                lambda: "is running" in log.read_text() or process.poll() is not None, "the service"
            )
            assert process.poll() is None, log.read_text()
            yield shell
        finally:
            shell.close()
            process.terminate()
            process.wait(40)


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(page: str, terminal: Terminal, receiver: Path) -> None:
    sections = re.split(r"^## \d+\. ", page, flags=re.M)[1:]
    steps = {s.split("\n")[0]: re.findall(r"^```bash\n(.*?)^```", s, re.M | re.S) for s in sections}

    def heard() -> list[str]:
        told = [json.loads(line) for line in receiver.read_text().splitlines()]
        return [str(alert["status"]) for alert in told]

    assert "ready" in terminal.type(steps["Start"][0])
    terminal.type(steps["A tenant and its keys"][0])
    assert '"accepted":1' in terminal.type(steps["The first metric"][0])
    assert "error_rate" in terminal.type(steps["The first metric"][1])
    terminal.type(steps["The first rule"][0])
    assert heard() == []
    terminal.type(steps["The first alert"][0])
    until(lambda: "firing" in heard(), "the alert")
    assert "High error rate" in terminal.type(steps["The first alert"][1])
    assert "acknowledged" in terminal.type(steps["Answer it"][0])
    terminal.type(steps["Answer it"][1])
    until(lambda: "resolved" in heard(), "the resolve")
    assert heard() == ["firing", "resolved"]
