"""CSV files as series that can be asked: what `offbeat query --data` reads.

The time is the column `timestamp` (or `time`, `ds`, `date`), Unix seconds or ISO 8601. A file with
a column `value` (or `y`) is one metric, named as the file; its other columns are labels, but for
what `offbeat detect` wrote, which is the metrics `name:anomaly_score` and so on. A file without it
holds a metric in each column of numbers, named as the column; its other columns are labels.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.domain.errors import InvalidInput
from service.domain.series import DERIVED, NAME, LabelPairs
from service.offline.table import Table, header_of, numbers, read_table, times
from service.query.promql.literal import Literal
from service.query.promql.vectors import written
from service.storage.columns import Columns, in_order

_TIMES = ("timestamp", "time", "ds", "date")
_VALUES = ("value", "y")
#: Columns of `offbeat detect` and `offbeat forecast`, and what the service calls such series.
_WRITTEN = {suffix.lstrip(":"): suffix for suffix in DERIVED} | {
    "alert": ":alert",
    "lower": ":forecast_lower",
    "upper": ":forecast_upper",
}
_UNNAMED = re.compile(r"[^a-zA-Z0-9_:]")


def read_series(paths: Sequence[Path]) -> Literal:
    """The series of CSV files, and of all CSV files of folders. Raises InvalidInput."""
    found: dict[LabelPairs, tuple[Path, Columns]] = {}
    for path in _files(paths):
        for labels, columns in _series(path):
            if labels in found:
                first = found[labels][0]
                raise InvalidInput(f"{path}: has {written(labels)}, and so has {first}")
            found[labels] = (path, columns)
    return Literal((labels, columns) for labels, (_, columns) in found.items())


def metric_name(text: str) -> str:
    """A name as metrics have it: what cannot stand in one becomes `_`."""
    name = _UNNAMED.sub("_", text)
    return f"_{name}" if not name or name[0].isdigit() else name


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() == ".csv" and p.is_file())
            found = sorted(inside)
            if not found:
                raise InvalidInput(f"{path}: there is no CSV file in this folder")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InvalidInput(f"{path}: there is no such file or folder")
    return list(dict.fromkeys(files))


def _series(path: Path) -> list[tuple[LabelPairs, Columns]]:
    try:
        header = header_of(path)
        when = next((name for name in _TIMES if name in header), None)
        if when is None:
            raise InvalidInput(
                f"{path}: line 1: has no column of times; call it timestamp. It has "
                f"{', '.join(header) or 'nothing'}"
            )
        if "" in header:
            raise InvalidInput(f"{path}: line 1: column {header.index('') + 1} has no name")
        table = read_table(path, header)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    measured = _measured(table, [name for name in header if name != when], path.stem)
    own = [name for name in header if name != when and name not in measured]
    t = times(table, when)
    found: list[tuple[LabelPairs, Columns]] = []
    for labels, rows in _rows(table, own).items():
        for column, metric in measured.items():
            part = table.of(rows) if own else table
            values = numbers(part, column)
            there = ~np.isnan(values)
            columns = in_order(Columns((t[rows] if own else t)[there], values[there]))
            pairs = {**dict(labels), NAME: metric}
            found.append((tuple(sorted((k, v) for k, v in pairs.items() if v)), columns))
    return found


def _measured(table: Table, columns: Sequence[str], stem: str) -> dict[str, str]:
    """The columns of values, and the metric that each is."""
    value = next((name for name in _VALUES if name in columns), None)
    if value is None and "forecast" in columns:  # what `offbeat forecast` wrote
        value = "forecast"
    if value is not None:
        name = metric_name(stem)
        measured = {value: name if value != "forecast" else f"{name}:forecast"}
        for column in columns:
            if column in _WRITTEN and column not in measured:
                measured[column] = name + _WRITTEN[column]
        return measured
    found = {name: metric_name(name) for name in columns if _is_numeric(table, name)}
    if not found:
        raise InvalidInput(
            f"{table.path}: line 1: has no column of numbers; it has {', '.join(table.columns)}"
        )
    return found


def _is_numeric(table: Table, name: str) -> bool:
    try:
        return not np.isnan(numbers(table, name)).all()
    except InvalidInput:
        return False


def _rows(table: Table, columns: Sequence[str]) -> dict[LabelPairs, list[int]]:
    """Which rows belong to each set of labels."""
    if not columns:
        return {(): list(range(len(table.lines)))}
    rows: dict[tuple[str, ...], list[int]] = {}
    for i, texts in enumerate(zip(*(table.columns[name] for name in columns), strict=True)):
        rows.setdefault(texts, []).append(i)
    names = [metric_name(name).replace(":", "_") for name in columns]
    return {tuple(zip(names, texts, strict=True)): places for texts, places in rows.items()}
