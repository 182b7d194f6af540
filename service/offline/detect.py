"""`offbeat detect`: progress on a terminal, a summary for people, JSON for programs."""

import io
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service.domain.errors import InvalidInput
from service.offline.files import Detected, Job, Options, detect_all, detect_to, jobs


def run(
    source: Path,
    target: Path | None,
    options: Options,
    *,
    as_json: bool,
    out: Console,
    err: Console,
) -> bool:
    """Score `source` into `target`; whether every file could be read and written.

    Without a target a single file goes to stdout. What was done is said on stderr, to a person.
    """
    begun = time.perf_counter()
    if target is None:
        if as_json:
            raise InvalidInput("--json says what was written; name where with --output")
        done = [_to_stdout(source, options, err)]
    else:
        work = jobs(source, target)
        done = _followed(detect_all(work, options), work, err)
    seconds = time.perf_counter() - begun
    failed = [one for one in done if one.error]
    for one in sorted(failed, key=lambda one: one.path):
        err.print(f"offbeat: {one.error}", markup=False)
    rows, alerts = sum(one.rows for one in done), sum(one.alerts for one in done)
    if as_json:
        said = [
            {"file": str(one.path), "rows": one.rows, "alerts": one.alerts, "error": one.error}
            for one in sorted(done, key=lambda one: one.path)
        ]
        out.print_json(json.dumps({"rows": rows, "seconds": round(seconds, 3), "files": said}))
    elif err.is_terminal:
        good = len(done) - len(failed)
        text = f"{rows:,} rows of {good} {'file' if good == 1 else 'files'} in {seconds:.1f} s: "
        err.print(text + f"{alerts} {'alert' if alerts == 1 else 'alerts'}", markup=False)
    return not failed


def _to_stdout(source: Path, options: Options, err: Console) -> Detected:
    if source.is_dir():
        raise InvalidInput(f"{source} is a folder; name one to write to with --output")
    if not source.is_file():
        raise InvalidInput(f"{source}: there is no such file or folder")
    rows = io.StringIO(newline="")
    with _progress(err, 1):
        done = detect_to(source, rows, options)
    try:
        sys.stdout.write(rows.getvalue())
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough; nothing is left to flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return done


def _followed(found: Iterable[Detected], work: list[Job], err: Console) -> list[Detected]:
    done = []
    with _progress(err, len(work)) as progress:
        for one in found:
            done.append(one)
            for task in progress.task_ids:
                progress.advance(task)
    return done


def _progress(err: Console, count: int) -> Progress:
    """How many of `count` files are done; of one, only that it is being worked on."""
    columns: tuple[ProgressColumn, ...] = (SpinnerColumn(), TextColumn("detecting"))
    if count > 1:
        columns += (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(
        *columns,
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.add_task("detecting", total=count)
    return progress
