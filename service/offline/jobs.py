"""What a command reads and writes: a file, or the CSV files of a folder and the same tree."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from service.domain.errors import InvalidInput

Written = TypeVar("Written")


@dataclass(frozen=True, slots=True)
class Job:
    """A file to read and one to write."""

    source: Path
    target: Path


def jobs(source: Path, target: Path) -> list[Job]:
    """What to read and where to write it: a file, or every CSV file of a folder and below.

    Raises InvalidInput where there is nothing to read, or if writing would change what is read.
    """
    if source.is_file():
        made = [Job(source, target / source.name if target.is_dir() else target)]
    elif source.is_dir():
        if target.is_file():
            raise InvalidInput(f"{target} is a file; {source} is a folder, and so is its output")
        if target.resolve().is_relative_to(source.resolve()):
            raise InvalidInput(f"{target} lies in {source}: output would be read as input")
        found = sorted(p for p in source.rglob("*") if p.suffix.lower() == ".csv" and p.is_file())
        if not found:
            raise InvalidInput(f"{source}: there is no CSV file in this folder")
        made = [Job(path, target / path.relative_to(source)) for path in found]
    else:
        raise InvalidInput(f"{source}: there is no such file or folder")
    read = {job.source.resolve() for job in made}
    for job in made:
        if job.target.resolve() in read:
            raise InvalidInput(f"{job.target} would be written over, and is what is read")
    return made


def single(source: Path) -> Path:
    """`source`, if its output can go to stdout. Raises InvalidInput for a folder, or nothing."""
    if source.is_dir():
        raise InvalidInput(f"{source} is a folder; name one to write to with --output")
    if not source.is_file():
        raise InvalidInput(f"{source}: there is no such file or folder")
    return source


def write_whole(target: Path, write: Callable[[TextIO], Written]) -> Written:
    """What `write` says of the file that it fills, which is there as a whole or not at all.

    Raises OSError.
    """
    partial = target.with_name(target.name + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8", newline="") as out:
            said = write(out)
        partial.replace(target)
        return said
    finally:
        partial.unlink(missing_ok=True)


def to_stdout(text: str) -> None:
    """Write it; whoever reads may stop early."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough; nothing is left to flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
