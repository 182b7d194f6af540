"""`offbeat detect`: progress on a terminal, a summary for people, JSON for programs."""

import io
import json
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from service.domain.errors import InvalidInput
from service.offline.files import Detected, Options, detect_all, detect_to
from service.offline.jobs import Job, jobs, single, to_stdout
from service.offline.progress import progress


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
    path, rows = single(source), io.StringIO(newline="")
    with progress(err, "detecting", 1):
        done = detect_to(path, rows, options)
    to_stdout(rows.getvalue())
    return done


def _followed(found: Iterable[Detected], work: list[Job], err: Console) -> list[Detected]:
    done = []
    with progress(err, "detecting", len(work)) as shown:
        for one in found:
            done.append(one)
            for task in shown.task_ids:
                shown.advance(task)
    return done
