"""`offbeat query`: an expression asked of CSV files or of a running service."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from service.api.promql_json import shown
from service.domain.clock import SystemClock
from service.domain.durations import parse_duration
from service.domain.errors import InvalidInput, Unavailable
from service.offline.jobs import to_stdout
from service.offline.query_table import plotted, tabled
from service.offline.series_files import read_series
from service.query.promql.evaluate import evaluate
from service.query.promql.literal import Literal
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps
from service.rules import functions

#: What models add to the language enters itself.
_ENTERED = (functions,)
#: Steps that a range has if nobody says how long one is, and so many it may have.
_STEPS = 240
_STEPS_MAX = 11_000
_HOUR_MS = 3_600_000
#: Seconds since 1970 that a time may be, of either sign: three thousand years.
_TIME_MAX = 1e11
#: Lengths of a step that people like to read, in milliseconds.
_ROUND_MS = [
    *(1000 * s for s in (1, 2, 5, 10, 15, 30)),
    *(60_000 * m for m in (1, 2, 5, 10, 15, 30)),
    *(3_600_000 * h for h in (1, 2, 3, 6, 12, 24)),
]


@dataclass(frozen=True, slots=True)
class Service:
    """Where a running service is, and who asks it."""

    url: str
    key: str
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class When:
    """The times that a query is asked for, as they were typed; empty where nothing was."""

    time: str = ""
    start: str = ""
    end: str = ""
    step: str = ""

    @property
    def is_range(self) -> bool:
        """Whether it is asked at many times."""
        return bool(self.start or self.end or self.step)

    def steps(self, first_ms: int, last_ms: int, now_ms: int) -> Steps:
        """The times; those that were not typed from what data there is. Raises InvalidInput."""
        if self.time and self.is_range:
            raise InvalidInput("--time asks at one time; --start, --end and --step at many")
        if not self.is_range:
            at = _time(self.time, "--time", now_ms) if self.time else last_ms
            return Steps(at, at)
        end = _time(self.end, "--end", now_ms) if self.end else last_ms
        start = _time(self.start, "--start", now_ms) if self.start else min(first_ms, end)
        if end < start:
            raise InvalidInput("--end is before --start")
        step = _step(self.step) if self.step else _round_step(end - start)
        if (end - start) // step + 1 > _STEPS_MAX:
            raise InvalidInput(
                f"these are more than {_STEPS_MAX:,} steps; take a longer --step or a shorter range"
            )
        return Steps(start, end, step)


def run(
    expr: str,
    when: When,
    source: Sequence[Path] | Service,
    *,
    as_json: bool,
    plot: Path | None,
    out: Console,
    err: Console,
) -> None:
    """Ask, and print a table, or JSON where nobody looks. Raises OffbeatError."""
    if plot is not None and not when.is_range:
        raise InvalidInput("--plot draws a range; say --start, --end or --step as well")
    if isinstance(source, Service):
        raw = _asked(expr, when, source)
    else:
        raw = _answered(expr, when, read_series(source))
    answer = json.loads(raw)
    for text in [*answer.get("warnings", ()), *answer.get("infos", ())]:
        err.print(f"offbeat: {text}", markup=False)
    if plot is not None:
        plotted(answer["data"], expr, plot)
        err.print(f"offbeat: {plot} written", markup=False)
        if not as_json:
            return
    if as_json or not sys.stdout.isatty():
        to_stdout(raw.decode() + "\n")
    else:
        tabled(answer["data"], out)


def _answered(expr: str, when: When, source: Literal) -> bytes:
    first, last = source.extent() or (0, 0)
    steps = when.steps(first, last, round(SystemClock().now() * 1000))
    return shown(evaluate(parse(expr), source, steps), instant=not when.is_range)


def _asked(expr: str, when: When, service: Service) -> bytes:
    if not service.key:
        raise InvalidInput("name an API key with --key or OFFBEAT_KEY, or files with --data")
    now = round(SystemClock().now() * 1000)
    steps = when.steps(now - _HOUR_MS, now, now)
    form = {"query": expr}
    if when.is_range:
        form |= {
            "start": _seconds(steps.start_ms),
            "end": _seconds(steps.end_ms),
            "step": _seconds(steps.step_ms),
        }
    elif when.time:
        form["time"] = _seconds(steps.start_ms)
    path = "query_range" if when.is_range else "query"
    headers = {"Authorization": f"Bearer {service.key}"}
    if service.tenant:
        headers["X-Tenant-ID"] = service.tenant
    try:
        response = httpx.post(
            f"{service.url.rstrip('/')}/api/v1/{path}", data=form, headers=headers, timeout=150
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{service.url} does not answer: {error}") from error
    if response.status_code != 200:
        raise InvalidInput(_refusal(response))
    return response.content


def _refusal(response: httpx.Response) -> str:
    """Why a service gave no answer, as it says itself."""
    try:
        said: Any = response.json()
    except ValueError:
        said = {}
    reason = (said.get("error") or said.get("detail")) if isinstance(said, dict) else None
    return str(reason or f"{response.url} answered {response.status_code}")


def _time(text: str, option: str, now_ms: int) -> int:
    """Milliseconds of a time: Unix seconds, ISO 8601, `now`, or `-2h` for so long ago."""
    word = text.strip()
    if word == "now":
        return now_ms
    try:
        if word.startswith("-") and not word[1:].replace(".", "").isdigit():
            return now_ms - round(parse_duration(word[1:]) * 1000)
        try:
            seconds = float(word)
        except ValueError:
            moment = datetime.fromisoformat(word)
        else:
            if not -_TIME_MAX <= seconds <= _TIME_MAX:
                raise InvalidInput("beyond all times")
            return round(seconds * 1000)
    except (InvalidInput, ValueError) as error:
        raise InvalidInput(
            f"{option} is Unix seconds, ISO 8601, now, or -2h for two hours ago, not {text!r}"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _step(text: str) -> int:
    try:
        step = round(parse_duration(text) * 1000)
    except InvalidInput as error:
        raise InvalidInput(f"--step: {error}") from error
    if step <= 0:
        raise InvalidInput("--step takes time")
    return step


def _round_step(range_ms: int) -> int:
    least = range_ms / _STEPS
    return next((step for step in _ROUND_MS if step >= least), -(-range_ms // _STEPS))


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"
