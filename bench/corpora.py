"""Labelled series to measure detectors on, and how they travel through `offbeat detect`.

`windows.json` has the labelled windows of the shipped series: those of the Numenta Anomaly
Benchmark (MIT licence, `service/demo/data/LICENSE.txt`), cut to the rows that are shipped.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.base import Array, Flags, Integers
from models.evaluation import judged_from
from models.synthetic import FAMILIES

_ROOT = Path(__file__).parent
_SHIPPED = _ROOT.parent / "service" / "demo" / "data"
_WINDOWS = "combined_windows.json"
_WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a corpus: its file, times, values and labels (n,), and usual step."""

    file: str
    t_ms: Integers
    values: Array
    labels: Flags
    step_ms: float

    @property
    def rows_a_week(self) -> float:
        """Rows that come in a week."""
        return _WEEK_MS / self.step_ms

    @property
    def judged(self) -> slice:
        """The rows that count."""
        return slice(judged_from(len(self.values)), None)


def made_up(family: str, count: int, *, clean: bool = False) -> list[Series]:
    """So many series of one of `models.synthetic.FAMILIES`."""
    made = (FAMILIES[family](seed, clean=clean) for seed in range(count))
    return [
        Series(f"{family}-{n}.csv", one.t_ms, one.values, one.labels, one.step_ms)
        for n, one in enumerate(made)
    ]


def shipped() -> list[Series]:
    """The real series that the demo plays."""
    windows = json.loads((_ROOT / "windows.json").read_text())
    return [_read(_SHIPPED, file, spans) for file, spans in sorted(windows.items())]


def nab(folder: Path, labels: Path) -> list[Series]:
    """The Numenta Anomaly Benchmark: its data folder, and the file of its windows.

    Raises OSError or ValueError where that is something else.
    """
    windows: Mapping[str, Any] = json.loads(labels.read_text())
    return [_read(folder, file, spans) for file, spans in sorted(windows.items())]


def labels_of(folder: Path) -> Path:
    """The windows in the data folder, or where NAB's repository has them. Raises ValueError."""
    places = (folder / _WINDOWS, folder.parent / "labels" / _WINDOWS)
    for place in places:
        if place.is_file():
            return place
    raise ValueError(f"{folder}: there is no {' and no '.join(map(str, places))}")


def write(folder: Path, corpora: Mapping[str, Iterable[Series]]) -> None:
    """The series as CSV files, a folder for each corpus."""
    for name, corpus in corpora.items():
        (folder / name).mkdir(parents=True)
        for one in corpus:
            table = pd.DataFrame({"timestamp": one.t_ms / 1000, "value": one.values})
            table.to_csv(folder / name / one.file, index=False, float_format="%.17g")


def _read(folder: Path, file: str, spans: list[list[str]]) -> Series:
    table = pd.read_csv(folder / file)
    at = pd.to_datetime(table["timestamp"], utc=True, format="ISO8601")
    t_ms = np.asarray(at.astype("datetime64[ms, UTC]").astype(np.int64), np.int64)
    labels = np.zeros(len(t_ms), np.bool_)
    for first, last in spans:
        inside = (at >= pd.Timestamp(first, tz="UTC")) & (at <= pd.Timestamp(last, tz="UTC"))
        labels |= inside.to_numpy()
    steps = np.diff(t_ms)
    step = float(np.median(steps[steps > 0]))
    return Series(file, t_ms, table["value"].to_numpy(np.float64), labels, step)
