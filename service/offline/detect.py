"""`offbeat detect`: progress on a terminal, a summary for people, JSON for programs."""

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.domain.errors import InvalidInput
from service.offline.files import Detected, detect_all, detect_to, inputs


def run(
    source: Path,
    target: Path | None,
    alerts_a_week: float,
    *,
    as_json: bool,
    out: Console,
    err: Console,
) -> bool:
    """Score `source` into `target`; whether every file could be read.

    Without a target a single file goes to stdout, and a summary to stderr.
    """
    begun = time.perf_counter()
    if target is None:
        if source.is_dir():
            raise InvalidInput(f"{source} is a folder; name one to write to with --output")
        inputs(source)
        done = [detect_to(source, sys.stdout, alerts_a_week)]
    else:
        done = _all(source, target, alerts_a_week, err)
    seconds = time.perf_counter() - begun
    failed = [one for one in done if one.error]
    for one in failed:
        err.print(f"offbeat: {one.error}", markup=False)
    rows, alerts = sum(one.rows for one in done), sum(one.alerts for one in done)
    if as_json and target is not None:
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


def _all(source: Path, target: Path, alerts_a_week: float, err: Console) -> list[Detected]:
    if source.is_file():
        folder, name = (target, source.name) if target.is_dir() else (target.parent, target.name)
        return list(detect_all(source, folder, alerts_a_week, name=name))
    if target.is_file():
        raise InvalidInput(f"{target} is a file; {source} is a folder, and so is its output")
    count = len(inputs(source))
    columns = (TextColumn("detecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = []
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task("detecting", total=count)
        for one in detect_all(source, target, alerts_a_week):
            done.append(one)
            progress.advance(task)
    return done
