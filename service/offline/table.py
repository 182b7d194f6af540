"""A CSV file as a table of text, and its columns as times and numbers.

Text stays as it stands, so that it can be written out again. Every error names file and line.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from service.domain.errors import InvalidInput
from service.storage.columns import Times, Values

#: A number from here on is no time in seconds: the year 5138.
_SECONDS_MAX = 1e11
#: So many rows are taken from the file together.
_ROWS_AT_ONCE = 4096
_MISSING = frozenset({"", "nan", "null", "na", "none"})


@dataclass(frozen=True, slots=True)
class Table:
    """Some columns of a file, (n,) each, and the line on which each row ends."""

    path: Path
    columns: dict[str, list[str]]
    lines: Sequence[int]

    def wrong(self, row: int, reason: str) -> InvalidInput:
        """What is wrong with a row, said with its place."""
        return InvalidInput(f"{self.path}: line {self.lines[row]}: {reason}")

    def of(self, rows: Sequence[int]) -> "Table":
        """Some of the rows."""
        columns = {name: [text[i] for i in rows] for name, text in self.columns.items()}
        return Table(self.path, columns, [self.lines[i] for i in rows])


def header_of(path: Path) -> list[str]:
    """Names of the columns of a file, nothing if there are none. Raises OSError."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return [name.strip() for name in next(csv.reader(file), [])]


def read_table(path: Path, names: Sequence[str]) -> Table:
    """The columns `names` of a file with a header. Raises InvalidInput, and OSError."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput(
            f"{path}: line {line}: byte 0x{raw[error.start]:02x} is no UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise InvalidInput(f"{path}: line 1: there is no header")
        places = [_place(path, header, name) for name in names]
        columns: list[list[str]] = [[] for _ in names]
        lines: list[int] = []
        # a field in quotes may go over lines; without any, each line is a row
        at_once = 1 if '"' in text else _ROWS_AT_ONCE
        while rows := list(islice(reader, at_once)):
            first = reader.line_num - len(rows) + 1
            if any(len(row) != len(header) for row in rows):
                rows, own = _full(path, rows, first, len(header))
                lines += own
            else:
                lines += range(first, first + len(rows))
            for column, place in zip(columns, places, strict=True):
                column += [row[place] for row in rows]
    except csv.Error as error:
        raise InvalidInput(f"{path}: line {reader.line_num}: {error}") from error
    return Table(path, dict(zip(names, columns, strict=True)), lines)


def _full(
    path: Path, rows: list[list[str]], first: int, width: int
) -> tuple[list[list[str]], list[int]]:
    """The rows that are not empty lines, and on which line they end; the first on `first`."""
    kept, lines = [], []
    for line, row in enumerate(rows, first):
        if not row:
            continue
        if len(row) != width:
            raise InvalidInput(
                f"{path}: line {line}: has {len(row)} "
                f"{'field' if len(row) == 1 else 'fields'}, the header has {width}"
            )
        kept.append(row)
        lines.append(line)
    return kept, lines


def _place(path: Path, header: list[str], name: str) -> int:
    count = header.count(name)
    if count == 1:
        return header.index(name)
    what = "has no column" if not count else f"has {count} columns"
    raise InvalidInput(f"{path}: line 1: {what} {name!r}; it has {', '.join(header)}")


def times(table: Table, name: str) -> Times:
    """Milliseconds (n,): Unix seconds, or ISO 8601, in UTC where there is no zone."""
    text = table.columns[name]
    try:
        seconds = np.array([float(one) for one in text])
    except ValueError:
        return _moments(table, text)
    wrong = ~(np.abs(seconds) < _SECONDS_MAX)
    if wrong.any():
        row = int(wrong.argmax())
        reason = f"timestamp {text[row]!r} is no Unix time in seconds"
        if _SECONDS_MAX <= seconds[row] < 1000 * _SECONDS_MAX:
            reason += "; are these milliseconds?"
        raise table.wrong(row, reason)
    return np.round(seconds * 1000).astype(np.int64)


def _moments(table: Table, text: list[str]) -> Times:
    import pandas as pd  # as long to load as all else together, and not for seconds

    told = pd.to_datetime(pd.Series(text, dtype=str), utc=True, format="ISO8601", errors="coerce")
    # pandas knows words such as "now", too
    dated = np.fromiter((one.lstrip()[:1].isdigit() for one in text), np.bool_, len(text))
    wrong = told.isna().to_numpy() | ~dated
    if wrong.any():
        row = int(wrong.argmax())
        reason = "is neither Unix seconds nor ISO 8601"
        if is_number(text[0]):  # a file of Unix seconds: its first row is not what is wrong
            row = next(i for i, one in enumerate(text) if not is_number(one))
            reason = "is no Unix time in seconds, as the first one is"
        elif is_number(text[row]):
            reason = "is not ISO 8601, as the first one is"
        raise table.wrong(row, f"timestamp {text[row]!r} {reason}")
    return np.asarray(told.astype("datetime64[ms, UTC]").astype(np.int64), np.int64)


def is_number(text: str) -> bool:
    """Whether a field is a time in Unix seconds, or could be."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers(table: Table, name: str) -> Values:
    """Values (n,); an empty field, NaN, NA, null and none are missing values."""
    text = table.columns[name]
    try:
        return np.array([float(one) for one in text])
    except ValueError:
        return np.array([_number(table, row, one) for row, one in enumerate(text)])


def _number(table: Table, row: int, text: str) -> float:
    if text.strip().lower() in _MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise table.wrong(row, f"value {text!r} is no number") from None
