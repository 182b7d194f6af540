"""The page about the client says what is so: its programs run."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.client import AsyncClient, Client
from service.client.core import Options
from tests.client.conftest import Receiver

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_run(receiver: Receiver, number: int) -> None:
    program = PROGRAMS[number].replace("http://127.0.0.1:8000", receiver.url)
    assert receiver.url in program
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "middleware" not in program.lower():
        assert receiver.samples


def test_there_are_programs() -> None:
    assert len(PROGRAMS) == 4


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_every_option_is_on_the_page(client: type) -> None:
    own = set(inspect.signature(client).parameters) - {"url", "key", "options"}
    listed = set(re.findall(r"`(\w+)`", PAGE.partition("## Options")[2]))
    assert own | set(Options.__annotations__) == listed - {"time"}
