"""Anomaly scores for CSV files: what `offbeat detect` does.

A file has the columns `timestamp` and `value`; others are left out. Each file is one series, is
walked over once, and no row is judged by what comes after it.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np
from joblib import Parallel, cpu_count, delayed

from models.base import Flags, Integers
from models.ensemble import ROWS_MIN, Detector, Scores
from models.suppression import threshold
from service.detection import counters
from service.domain.errors import InvalidInput
from service.offline.jobs import Job, write_whole
from service.offline.table import numbers, read_table, times
from service.storage.columns import Columns, Times, Values

COLUMNS = ("timestamp", "value")
SAID = ("anomaly_score", "alert_score", "alert", "expected", "expected_lower", "expected_upper")
_LINE = ",".join(["%s"] * (len(COLUMNS) + len(SAID))) + "\n"
#: So many rows are written together.
_ROWS_AT_ONCE = 10_000
_WEEK_MS = 7 * 86_400_000
#: More late rows than this share, and the file is in no order of arrival.
_LATE = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What a series may raise when all is well, and whether values count up."""

    alerts_a_week: float = 1.0
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Detected:
    """What became of one file: rows and alerts, or what is wrong with it."""

    path: Path
    rows: int = 0
    alerts: int = 0
    error: str = ""


def detect_all(work: Sequence[Job], options: Options) -> Iterator[Detected]:
    """Score every file, as they get ready. One that cannot be read or written stops no other."""
    largest_first = sorted(work, key=lambda job: -job.source.stat().st_size)
    processes = min(cpu_count(), len(work))  # of the cores that this process may use
    yield from Parallel(n_jobs=processes, return_as="generator_unordered", batch_size=1)(
        delayed(_detect)(job, options) for job in largest_first
    )


def _detect(job: Job, options: Options) -> Detected:
    """Score one file; the target is written as a whole or not at all."""
    try:
        return write_whole(job.target, lambda out: detect_to(job.source, out, options))
    except InvalidInput as error:
        return Detected(job.source, error=str(error))
    except OSError as error:
        return Detected(job.source, error=f"{error.filename or job.target}: {error.strerror}")


def detect_to(path: Path, out: TextIO, options: Options) -> Detected:
    """Score one file into an open one. Raises InvalidInput before anything is written."""
    try:
        table = read_table(path, COLUMNS)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    scores, alert = judged(times(table, "timestamp"), numbers(table, "value"), options)
    read = [table.columns[name] for name in COLUMNS]
    said = (scores.score, scores.alert, alert, scores.expected, scores.lower, scores.upper)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, *SAID))
    for start in range(0, len(alert), _ROWS_AT_ONCE):  # text takes far more memory than numbers
        part = slice(start, start + _ROWS_AT_ONCE)
        as_stood = [column[part] for column in read]
        rows = zip(*as_stood, *(_text(column[part]) for column in said), strict=True)
        if any(mark in text for text in map("".join, as_stood) for mark in ',"\r\n'):
            writer.writerows(rows)
        else:  # nothing has to be quoted: many times as fast
            out.writelines(map(_LINE.__mod__, rows))
    return Detected(path, len(alert), int(alert.sum()))


def _text(values: Values | Flags) -> list[str]:
    """As few digits as give the same float64 back; flags as 0 and 1, NaN as nothing."""
    if values.dtype == np.bool_:
        return ["01"[flag] for flag in values.tolist()]
    if np.isinf(values).any():  # JSON has no word for it
        return ["" if value != value else repr(value) for value in values.tolist()]
    written = msgspec.json.encode(values.tolist()).decode()[1:-1].split(",")
    return ["" if one == "null" else one for one in written]


def judged(t_ms: Times, values: Values, options: Options) -> tuple[Scores, Flags]:
    """What is said of rows (n,) in the order of the file, and which of them are alerts.

    A row that comes late is judged when it comes. A file whose rows are in no order, or the newest
    first, is judged in order of time.
    """
    late = t_ms < np.maximum.accumulate(t_ms) if len(t_ms) else np.zeros(0, np.bool_)
    order = np.arange(len(t_ms))
    if late.sum() > _LATE * len(t_ms):
        order = np.argsort(t_ms, kind="stable")
    t = np.maximum.accumulate(t_ms[order]) if len(t_ms) else t_ms
    scores, step_ms = (_counted if options.counter else _walked)(t, values[order])
    back = np.argsort(order, kind="stable")
    scores = replace(_at(scores, back), t_ms=t_ms)
    least = threshold(options.alerts_a_week, _WEEK_MS / step_ms)
    return scores, (scores.alert >= least) & (scores.alert > 0)


def _walked(t: Times, values: Values) -> tuple[Scores, int]:
    """Scores of rows (n,) in order of time, and the step of their grid."""
    n, finite = len(values), np.isfinite(values)
    count = int(finite.sum())
    if not count:
        nothing, unknown = np.zeros(n), np.full(n, np.nan)
        return Scores(t, nothing, nothing, unknown, unknown, unknown), _WEEK_MS
    if count < ROWS_MIN:  # what comes later changes nothing about these rows
        steps = np.diff(t)
        step = int(np.median(steps[steps > 0])) if (steps > 0).any() else 60_000
        more = np.arange(1, ROWS_MIN - count + 1)
        t = np.concatenate((t, t[-1] + step * more))
        values = np.concatenate((values, np.full(len(more), values[finite][-1])))
    detector = Detector().fit(t, values)
    return _at(detector.scores_, np.arange(n)), detector.grid_.step_ms


def _counted(t: Times, values: Values) -> tuple[Scores, int]:
    """The same of totals: their rate is judged, and what was expected is said as a total."""
    usable = np.flatnonzero(np.isfinite(values))
    newer = np.diff(t[usable], prepend=t[usable][:1] - 1) > 0  # of equal times the first counts
    usable = usable[newer]
    if len(usable) < 2:
        return _walked(t, values)
    samples = Columns(t[usable], values[usable])
    scores, step_ms = _walked(*counters.rates(samples))
    scores = counters.totals(samples, scores)
    place = np.searchsorted(usable[1:], np.arange(len(t)), side="right") - 1
    own = np.zeros(len(t), np.bool_)
    own[usable[1:]] = True
    told = _at(scores, np.maximum(place, 0))
    first = samples.v[0]

    def since(said: Values) -> Values:
        return np.where(place >= 0, said, first)

    return Scores(
        t,
        np.where(own, told.score, 0.0),
        np.where(own, told.alert, 0.0),
        since(told.expected),
        since(told.lower),
        since(told.upper),
    ), step_ms


def _at(scores: Scores, rows: Integers) -> Scores:
    """Scores of some rows (k,), in their order."""
    return Scores(*(getattr(scores, field.name)[rows] for field in fields(scores)))
