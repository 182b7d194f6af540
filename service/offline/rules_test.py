"""`offbeat rules test`: unit tests of rules, reported to people or, as JSON lines, to programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from service.domain.errors import InvalidInput
from service.offline.jobs import to_stdout
from service.rules.unit_tests.runner import FileReport, run_files


def run(
    paths: Sequence[Path], tolerance: float | None, *, as_json: bool, out: Console, err: Console
) -> bool:
    """Run the files; whether every case of every file passed. Raises InvalidInput."""
    if tolerance is not None and not 0 <= tolerance < 1:
        raise InvalidInput(f"a tolerance is a share such as 1e-9, not {tolerance:g}")
    whole = True
    cases = failed = 0
    for report in run_files(paths, tolerance):
        whole = whole and report.passed
        for note in report.notes:
            err.print(f"{report.file}: {note}", markup=False)
        if as_json:
            to_stdout("".join(f"{json.dumps(asdict(one))}\n" for one in report.outcomes))
            continue
        cases += sum(1 for one in report.outcomes if one.name)
        failed += sum(1 for one in report.outcomes if one.name and not one.passed)
        out.print(_told(report), markup=False)
    if not as_json and len(paths) > 1:
        out.print(f"{_count(cases, 'test')} in {_count(len(paths), 'file')}, {failed:,} failed")
    return whole


def _told(report: FileReport) -> str:
    failed = [one for one in report.outcomes if not one.passed]
    number = len(report.outcomes)
    if not failed:
        return f"{report.file}: {_count(number, 'test')}, all passed"
    broken = all(not one.name for one in failed)
    lines = [
        f"{report.file}: cannot be run"
        if broken
        else f"{report.file}: {len(failed):,} of {_count(number, 'test')} failed"
    ]
    for one in failed:
        if one.name:
            lines.append(f"  FAILED {one.name}")
        lines += [f"    {line}" for line in one.difference.splitlines()]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else what + 's'}"
