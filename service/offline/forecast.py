"""`offbeat forecast`: progress on a terminal, a summary for people, JSON for programs."""

import io
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from models.forecast.longterm import TrendChange
from service.domain.errors import InvalidInput
from service.offline.ahead import Ahead, File, Options, forecast_all, write
from service.offline.jobs import Job, jobs, single, to_stdout, write_whole
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
    """Forecast `source` into `target`; whether every series of every file could be.

    Without a target a single file goes to stdout. What was done is said on stderr, to a person.
    """
    begun = time.perf_counter()
    if target is None and as_json:
        raise InvalidInput("--json says what was written; name where with --output")
    work = jobs(source, target) if target is not None else [Job(single(source), source)]
    done: list[dict[str, Any]] = []
    with progress(err, "forecasting", 0) as shown:
        task = shown.task_ids[0]
        total = 0

        def found(ready: int, more: int) -> None:
            nonlocal total
            total += more
            shown.update(task, advance=ready, total=total)

        for file in forecast_all(work, options, found):
            wrong = _write(file, target is None)
            done.append(_said(file, wrong))
            for line in wrong:
                err.print(f"offbeat: {line}", markup=False)
    seconds = time.perf_counter() - begun
    if as_json:
        rows = sum(file["rows"] for file in done)
        out.print_json(json.dumps({"rows": rows, "seconds": round(seconds, 3), "files": done}))
    elif err.is_terminal:
        err.print(_summary(done, seconds), markup=False)
    return not any(file["problems"] for file in done)


def _write(file: File, on_stdout: bool) -> list[str]:
    """Write what was forecast, if anything was; everything that is wrong."""
    wrong = [file.wrong] if file.wrong else [one.wrong for one in file.series if one.wrong]
    if not file.forecasts:
        return wrong
    try:
        if on_stdout:
            text = io.StringIO(newline="")
            write(text, file.forecasts)
            to_stdout(text.getvalue())
        else:
            write_whole(file.job.target, lambda out: write(out, file.forecasts))
    except OSError as error:
        wrong.append(f"{error.filename or file.job.target}: {error.strerror}")
    return wrong


def _said(file: File, wrong: list[str]) -> dict[str, Any]:
    return {
        "file": str(file.job.source),
        "rows": file.rows,
        "series": [_of(one) for one in file.forecasts],
        "problems": wrong,
    }


def _of(one: Ahead) -> dict[str, Any]:
    said: dict[str, Any] = {"unique_id": one.name, "error": one.error}
    if one.forecast is not None:
        said["model"] = one.forecast.model
        said["coverage"] = round(one.coverage, 4)
        said["fell_back"] = one.forecast.fell_back
    if one.trend is not None:
        said["slope_per_week"] = one.trend.slope
        said["growth_per_week"] = one.trend.growth
        said["since"] = one.form.write(one.trend.since_ms)
        said["changes"] = [_changed(one, change) for change in one.trend.changes]
    return said


def _changed(one: Ahead, change: TrendChange) -> dict[str, Any]:
    kind, at = change.kind.value, one.form.write(change.t_ms)
    return {"at": at, "kind": kind, "before": change.before, "after": change.after}


def _summary(done: list[dict[str, Any]], seconds: float) -> str:
    series = [one for file in done for one in file["series"]]
    files = sum(1 for file in done if file["series"])
    text = f"{_count(len(series), 'series', 'series')} of {_count(files, 'file', 'files')} "
    text += f"in {seconds:.1f} s"
    fell_back = sum(one.get("fell_back", False) for one in series)
    return text + (f"; {fell_back} fell back on the last values" if fell_back else "")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
