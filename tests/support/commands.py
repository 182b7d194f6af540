"""Runs commands that work on files, and reads the tables they write."""

import csv
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from service.cli import app
from service.domain.errors import InvalidInput


def offbeat(*words: object, status: int = 0) -> Any:
    """The result of a command that ends with `status`; for a refused input what it says."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, InvalidInput):  # what `main` makes one line of
        assert status == 1
        return str(done.exception)
    assert done.exit_code == status, (done.output, done.exception)
    return done


def table(path_or_text: Path | str, header: list[str]) -> list[list[str]]:
    """Rows of a CSV file or text that has this header."""
    text = path_or_text if isinstance(path_or_text, str) else path_or_text.read_text()
    lines = list(csv.reader(text.splitlines()))
    assert lines[0] == header
    return lines[1:]
