"""Anomaly scores for CSV files: what `offbeat detect` does.

A file has the columns `timestamp` and `value`; others are left alone. Each file is one series, is
walked over once, and no row is judged by what comes after it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from models.ensemble import ROWS_MIN, Detector, Scores
from models.suppression import threshold
from service.domain.errors import InvalidInput
from service.storage.columns import Times, Values

_WEEK_MS = 7 * 86_400_000
#: A number from here on is no time in seconds: the year 5138.
_SECONDS_MAX = 1e11
#: As many digits as a float64 has.
_DIGITS = "%.17g"


@dataclass(frozen=True, slots=True)
class Detected:
    """What became of one file: rows and alerts, or what is wrong with it."""

    path: Path
    rows: int = 0
    alerts: int = 0
    error: str = ""


def inputs(source: Path) -> list[Path]:
    """The CSV files of a folder, in order of name, or the file itself."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InvalidInput(f"{source}: there is no such file or folder")
    found = sorted(path for path in source.rglob("*.csv") if path.is_file())
    if not found:
        raise InvalidInput(f"{source}: there is no CSV file in this folder")
    return found


def detect_all(
    source: Path, target: Path, alerts_a_week: float, name: str | None = None
) -> Iterator[Detected]:
    """Score every file of `source` into the same place under `target`, as they get ready.

    `name` is that of the output where `source` is a file. A file that cannot be read is reported
    and stops no other.
    """
    files = sorted(inputs(source), key=lambda path: -path.stat().st_size)
    folder = source if source.is_dir() else source.parent
    work = (
        delayed(_detect)(path, target / (name or path.relative_to(folder)), alerts_a_week)
        for path in files
    )
    processes = min(os.cpu_count() or 1, len(files))
    yield from Parallel(n_jobs=processes, return_as="generator_unordered", batch_size=1)(work)


def detect_to(path: Path, out: TextIO, alerts_a_week: float) -> Detected:
    """Score one file into an open one. Raises InvalidInput."""
    frame, scores = _scored(path, alerts_a_week)
    frame.to_csv(out, index=False, float_format=_DIGITS, lineterminator="\n")
    return Detected(path, len(frame), int((scores > 0).sum()))


def _detect(path: Path, target: Path, alerts_a_week: float) -> Detected:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        with partial.open("w", newline="") as out:
            done = detect_to(path, out, alerts_a_week)
        partial.replace(target)
    except InvalidInput as error:
        partial.unlink(missing_ok=True)
        return Detected(path, error=str(error))
    except OSError as error:
        return Detected(path, error=f"{error.filename or path}: {error.strerror}")
    return done


def _scored(path: Path, alerts_a_week: float) -> "tuple[pd.DataFrame, Values]":
    """The file's timestamps and values as they stand there, with what is said about each row."""
    table = _table(path)
    t_ms, values = _times(path, table["timestamp"]), _values(path, table["value"])
    scores = scored(t_ms, values)
    steps = np.diff(t_ms)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else float(_WEEK_MS)
    alert = scores.alert >= max(threshold(alerts_a_week, _WEEK_MS / step), 1e-9)
    said = {
        "anomaly_score": scores.score,
        "alert_score": scores.alert,
        "alert": alert.astype(np.int64),
        "expected": scores.expected,
        "expected_lower": scores.lower,
        "expected_upper": scores.upper,
    }
    shown = pd.DataFrame({"timestamp": table["timestamp"], "value": table["value"], **said})
    return shown, alert.astype(np.float64)


def scored(t_ms: Times, values: Values) -> Scores:
    """Scores of rows in the order in which they arrived, (n,); 0 where too few are known."""
    in_order = np.maximum.accumulate(t_ms)  # a row that comes late is judged when it comes
    if np.isfinite(values).sum() >= ROWS_MIN:
        return Detector().fit(in_order, values).scores_
    nothing = np.zeros(len(values))
    return Scores(t_ms, nothing, nothing, *(np.nan_to_num(values) for _ in range(3)))


def _table(path: Path) -> "pd.DataFrame":
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: is no CSV file: {error}") from error
    missing = [name for name in ("timestamp", "value") if name not in table]
    if missing:
        raise InvalidInput(
            f"{path}: line 1: has no column {' and no column '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns)) or 'none'}"
        )
    return table


def _times(path: Path, text: "pd.Series[str]") -> Times:
    """Milliseconds: Unix seconds as they stand, or ISO 8601, in UTC where there is no zone."""
    number = pd.to_numeric(text, errors="coerce")
    if len(text) and number.notna().all() and np.isfinite(number).all():
        seconds = number.to_numpy(np.float64)
        if np.abs(seconds).max() >= _SECONDS_MAX:
            bad = int(np.argmax(np.abs(seconds) >= _SECONDS_MAX))
            raise InvalidInput(
                f"{path}: line {bad + 2}: timestamp {text.iloc[bad]!r} is no Unix time in seconds"
            )
        return np.round(seconds * 1000).astype(np.int64)
    times = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
    if times.isna().any():
        bad = int(times.isna().to_numpy().argmax())
        raise InvalidInput(
            f"{path}: line {bad + 2}: timestamp {text.iloc[bad]!r} is neither Unix seconds "
            "nor ISO 8601"
        )
    return np.asarray(times.astype("datetime64[ms, UTC]").astype(np.int64), np.int64)


def _values(path: Path, text: "pd.Series[str]") -> Values:
    """Numbers; an empty field or NaN is a missing value."""
    number = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    gone = text.str.strip().str.lower().isin(["", "nan", "null", "na"]).to_numpy()
    wrong = np.isnan(number) & ~gone
    if wrong.any():
        bad = int(wrong.argmax())
        raise InvalidInput(f"{path}: line {bad + 2}: value {text.iloc[bad]!r} is no number")
    return number
