"""An answer of a query for people: a table on a terminal, or a picture.

Answers have the form of Prometheus' API: `{resultType, result}`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from service.domain.errors import InvalidInput
from service.domain.series import NAME
from service.query.promql.vectors import Array

#: Rows that a table shows, and characters of the line that stands for a series.
_ROWS_MAX = 500
_LINE = 40
_BARS = "▁▂▃▄▅▆▇█"
#: Series whose names stand in a picture.
_NAMED = 20


def tabled(data: dict[str, Any], out: Console) -> None:
    """Print an answer as a table with a column for each label."""
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        out.print(f"{result[1]}  (at {_time(result[0])})", markup=False)
        return
    if not result:
        out.print("nothing: no series has a value then", markup=False)
        return
    names = _label_names(result)
    if kind == "vector":
        header = [*_titles(names), "value"]
        rows = [[*_labels(names, one), _short(one["value"][1])] for one in result]
        caption = f"at {_time(result[0]['value'][0])}"
    else:
        header = [*_titles(names), "", "min", "max", "last"]
        begin = min(one["values"][0][0] for one in result)
        end = max(one["values"][-1][0] for one in result)
        rows = [[*_labels(names, one), *_summary(one["values"], begin, end)] for one in result]
        caption = f"{_time(begin)} to {_time(end)}"
    _print(header, rows[:_ROWS_MAX], len(names), out)
    if len(rows) > _ROWS_MAX:
        caption += f"; {len(rows) - _ROWS_MAX:,} more are not shown, --json prints them all"
    out.print(f"{len(rows):,} series, {caption}", markup=False)


def plotted(data: dict[str, Any], title: str, path: Path) -> None:
    """Draw the series of an answer over time. Raises InvalidInput."""
    try:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput(
            "--plot needs matplotlib, which is not installed: pip install 'offbeat[plot]'"
        ) from error
    if data["resultType"] != "matrix":
        raise InvalidInput("--plot draws series over time; this is none")
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    for one in data["result"]:
        times, values = _drawn(one["values"])
        marker = "o" if len(values) == 1 else None
        axes.plot(times, values, label=_name(one["metric"]), linewidth=1.2, marker=marker)
    axes.set_title(title if len(title) <= 100 else title[:99] + "…", loc="left")
    axes.grid(alpha=0.3)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if 0 < len(data["result"]) <= _NAMED:
        axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}") from error


def _drawn(points: Sequence[tuple[float, str]]) -> tuple[NDArray[np.datetime64], Array]:
    """Times and values, with NaN where steps are missing, so that no line goes over them."""
    t = np.array([round(float(at) * 1000) for at, _ in points], "datetime64[ms]")
    values = np.array([float(value) for _, value in points])
    apart = np.diff(t)
    if len(apart):
        gaps = np.flatnonzero(apart > apart.min()) + 1
        t, values = np.insert(t, gaps, t[gaps - 1]), np.insert(values, gaps, np.nan)
    return t, values


def _label_names(result: Sequence[dict[str, Any]]) -> list[str]:
    """The labels that any series has, the metric's name first."""
    names = sorted({name for one in result for name in one["metric"]} - {NAME})
    return [NAME, *names] if any(NAME in one["metric"] for one in result) else names


def _titles(names: Sequence[str]) -> list[str]:
    return ["metric" if name == NAME else name for name in names]


def _labels(names: Sequence[str], one: dict[str, Any]) -> list[str]:
    return [one["metric"].get(name, "") for name in names]


def _name(metric: dict[str, str]) -> str:
    labels = ", ".join(f'{k}="{v}"' for k, v in sorted(metric.items()) if k != NAME)
    return metric.get(NAME, "") + (f"{{{labels}}}" if labels or NAME not in metric else "")


def _summary(values: Sequence[tuple[float, str]], begin: float, end: float) -> list[str]:
    finite = [v for _, text in values if abs(v := float(text)) < float("inf")]
    least, most = (min(finite), max(finite)) if finite else (0.0, 0.0)
    line = [" "] * _LINE
    sums: dict[int, list[float]] = {}
    for at, text in values:
        place = int((float(at) - begin) / ((end - begin) or 1) * (_LINE - 1) + 0.5)
        if abs(float(text)) < float("inf"):
            sums.setdefault(place, []).append(float(text))
    for place, some in sums.items():
        share = (sum(some) / len(some) - least) / ((most - least) or 1)
        line[place] = _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]
    shown = [f"{least:.6g}", f"{most:.6g}"] if finite else ["", ""]
    return ["".join(line), *shown, _short(values[-1][1])]


def _short(text: str) -> str:
    """A number in the digits that people read; what is exact in ten of them is exact."""
    return text if "Inf" in text or text == "NaN" else f"{float(text):.10g}"


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(float(seconds), UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S") + " UTC"


def _print(header: list[str], rows: list[list[str]], labels: int, out: Console) -> None:
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]
    for line in [header, *rows]:
        cells = [
            # numbers stand under each other by their ends
            text.rjust(width) if i >= labels and header[i] else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.print("  ".join(cells).rstrip(), markup=False)
