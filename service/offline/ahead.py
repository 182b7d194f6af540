"""Forecasts for the series of CSV files: what `offbeat forecast` does.

A file has the columns `unique_id`, `ds` and `y`, many series in any order of rows; or `ds` and `y`,
or `timestamp` and `value`, and is one series by the file's name. Others are left out.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from models.forecast.longterm import Outlook, outlook
from models.forecast.series import ROWS_MIN, Forecast, SeriesForecaster
from service.domain.errors import InvalidInput
from service.offline.jobs import Job
from service.offline.stamps import StampForm
from service.offline.table import Table, header_of, numbers, read_table, times
from service.storage.columns import Times, Values

#: Columns of names, times and values, where there are such names.
FORMS = (("unique_id", "ds", "y"), ("ds", "y"), ("timestamp", "value"))
SAID = ("unique_id", "ds", "forecast", "lower", "upper")
#: Numbers that all are smaller than a year of seconds are no times but counts.
_YEAR_MS = 31_536_000_000
#: Digits of the largest count.
_DIGITS = 9
#: So much text is worth starting processes for.
_BYTES_MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """Steps ahead, the share of values that bounds should hold, and whether to take long.

    With `step_ms` times in files are numbers of steps that last so long. With `trend` steps are
    days (of a series of weeks: weeks), and the trend is what goes on.
    """

    horizon: int = 24
    level: float = 0.9
    thorough: bool = False
    step_ms: int = 0
    trend: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A series of a file: values at ascending times, (n,) each, and how times are written."""

    name: str
    t_ms: Times
    values: Values
    form: StampForm


@dataclass(frozen=True, slots=True)
class Ahead:
    """The forecast of a series, or what is wrong with it.

    `error` is the mean absolute error of forecasts in the backtest, `coverage` the share of values
    that lay inside the bounds there. A `trend` has neither forecaster nor coverage.
    """

    name: str
    wrong: str = ""
    forecast: Forecast | None = None
    trend: Outlook | None = None
    form: StampForm = field(default_factory=StampForm)
    error: float = 0.0
    coverage: float = 0.0


@dataclass(slots=True)
class File:
    """What became of one file: rows read, its series, or what is wrong with all of it."""

    job: Job
    rows: int = 0
    series: list[Ahead] = field(default_factory=list)
    wrong: str = ""
    waiting: int = 0

    @property
    def forecasts(self) -> list[Ahead]:
        """Series that were forecast."""
        return [one for one in self.series if not one.wrong]


def forecast_all(
    work: Sequence[Job], options: Options, found: Callable[[int, int], None]
) -> Iterator[File]:
    """Forecast every series of every file, file by file. A bad one stops no other.

    `found` is told how many more series were forecast, and how many more there are.
    """
    files: list[File] = []

    def tasks() -> Iterator[tuple[Callable[..., object], tuple[object, ...], dict[str, object]]]:
        for job in work:
            file, series = _read(job, options)
            files.append(file)
            found(0, len(series))
            for one in series:
                yield delayed(_ahead)(one, options)

    size = sum(job.source.stat().st_size for job in work)
    processes = (os.cpu_count() or 1) if size > _BYTES_MANY or options.thorough else 1
    answers: Iterable[Ahead] = Parallel(n_jobs=processes, return_as="generator")(tasks())
    done = 0
    for answer in answers:
        while not files[done].waiting:  # all of it was wrong
            yield files[done]
            done += 1
        if answer.wrong:
            reason = f"{files[done].job.source}: series {answer.name!r} {answer.wrong}"
            answer = replace(answer, wrong=reason)
        files[done].series.append(answer)
        files[done].waiting -= 1
        found(1, 0)
        if not files[done].waiting:
            yield files[done]
            files[done] = File(files[done].job)  # let go of what was said
            done += 1
    yield from files[done:]


def write(out: TextIO, series: Iterable[Ahead]) -> None:
    """Forecasts as CSV, with as few digits as give the same numbers back."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(SAID)
    for one in series:
        told = one.forecast or one.trend
        if told is not None:
            said = (told.value, told.lower, told.upper)
            columns = [map(repr, column.tolist()) for column in said]
            stamps = [one.form.write(t) for t in told.t_ms.tolist()]
            writer.writerows(zip([one.name] * len(stamps), stamps, *columns, strict=True))


def _read(job: Job, options: Options) -> tuple[File, list[Asked]]:
    """The series of a file, and the file with those that are wrong."""
    file, good = File(job), []
    try:
        table, names, (ds, y) = _table(job.source)
        file.rows = len(table.lines)
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(name, []).append(row)
        if not rows:
            raise InvalidInput(f"{job.source}: there are no rows below the header")
        try:
            whole = _columns(table, ds, y, options)
        except InvalidInput:  # not of all series, perhaps
            whole = None
        for name, own in rows.items():
            part = table.of(own)
            try:
                t, v = whole or _columns(part, ds, y, options)
                at = own if whole else slice(None)
                good.append(_series(part, name, ds, t[at], v[at], options))
            except InvalidInput as error:
                file.series.append(Ahead(name, wrong=f"{error} (series {name!r})"))
    except InvalidInput as error:
        return File(job, wrong=str(error)), []
    except OSError as error:
        return File(job, wrong=f"{job.source}: {error.strerror}"), []
    file.waiting = len(good)
    return file, good


def _table(path: Path) -> tuple[Table, list[str], tuple[str, str]]:
    """A file's rows, the series of each, and the columns of times and values."""
    header = header_of(path)
    form = next((form for form in FORMS if set(form) <= set(header)), None)
    if form is None and header:
        raise InvalidInput(
            f"{path}: line 1: has neither unique_id, ds and y nor timestamp and value; "
            f"it has {', '.join(header)}"
        )
    table = read_table(path, form or FORMS[0])
    *identity, ds, y = form or FORMS[0]
    names = table.columns[identity[0]] if identity else [path.stem] * len(table.lines)
    return table, names, (ds, y)


def _columns(table: Table, ds: str, y: str, options: Options) -> tuple[Times, Values]:
    """Milliseconds and values (n,) of rows. Raises InvalidInput."""
    if not options.step_ms:
        return times(table, ds), numbers(table, y)
    counts = np.zeros(len(table.lines), np.int64)
    for row, text in enumerate(table.columns[ds]):
        count = text.strip().removesuffix(".0")
        if not count.removeprefix("-").isdecimal() or len(count) > _DIGITS:
            raise table.wrong(row, f"{ds} {text!r} is no whole number of steps")
        counts[row] = int(count)
    return counts * options.step_ms, numbers(table, y)


def _series(table: Table, name: str, ds: str, t: Times, v: Values, options: Options) -> Asked:
    """A series of all rows of a table, in order of time; of equal times the first row counts."""
    count = int(np.isfinite(v).sum())
    if count < ROWS_MIN and not options.trend:
        few = "1 value is too few" if count == 1 else f"{count} values are too few"
        raise table.wrong(len(t) - 1, f"{few}, a forecast needs {ROWS_MIN}")
    newest = int(t.argmax())
    text = table.columns[ds][newest]
    form = (
        StampForm(number=True, unit_ms=options.step_ms) if options.step_ms else StampForm.of(text)
    )
    if form.number and not options.step_ms and np.abs(t).max() < _YEAR_MS:
        raise table.wrong(
            newest,
            f"{ds} {text!r} as Unix seconds is in 1970; if it counts steps, say how long one is, "
            "like --step 1h",
        )
    t, first = np.unique(t, return_index=True)
    return Asked(name, t, v[first], form)


def _ahead(asked: Asked, options: Options) -> Ahead:
    """The forecast of a series."""
    with threadpool_limits(1):
        try:
            if options.trend:
                trend = outlook(asked.t_ms, asked.values, options.horizon, options.level)
                return Ahead(asked.name, trend=trend, form=asked.form, error=trend.error)
            model = SeriesForecaster(options.horizon, options.level, options.thorough)
            forecast = model.fit(asked.t_ms, asked.values).predict()
        except (ValueError, ArithmeticError) as error:
            return Ahead(asked.name, wrong=f"cannot be forecast: {error}")
    return Ahead(asked.name, "", forecast, None, asked.form, model.error_, model.coverage_)
