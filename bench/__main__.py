"""`python -m bench`: every measurement, or the one that is named."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from bench import detection as detecting
from bench import detection_report, forecast_report, queries_report, report
from bench import fairness as fair
from bench import forecast as forecasting
from bench import ingest as recording
from bench import judging as judge
from bench import keeping_up as keeping
from bench import m4 as m4s
from bench import queries as asking
from bench import read as reading
from bench import scoring as score
from bench import training as learning
from bench.bodies import PROTOCOLS

app = typer.Typer(
    help="Measure the program on this machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SIZES = (1, 100, 2000, 10_000)
_QUICK_SECONDS = 2.0
_SERIES = 8

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Quick = Annotated[bool, typer.Option("--quick", help="What has a target, for two seconds each.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Data folder of NAB, the Numenta Anomaly Benchmark.", exists=True, file_okay=False
    ),
]
M4 = Annotated[
    Path | None,
    typer.Option(
        help="Folder of M4's Hourly-train.csv and Hourly-test.csv.", exists=True, file_okay=False
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="NAB's combined_windows.json, if elsewhere.", exists=True, dir_okay=False),
]
Referee = Annotated[
    Path | None,
    typer.Option(
        help="A program that scores by NAB's rules: DATA LABELS RESULTS --json.",
        exists=True,
        dir_okay=False,
    ),
]


def _say(line: str) -> None:
    if sys.stderr.isatty():
        report.err.print(f"… {line}", style="dim", markup=False)


@app.callback(invoke_without_command=True)
def everything(
    context: typer.Context,
    as_json: AsJson = False,
    quick: Quick = False,
    data: Data = None,
    labels: Labels = None,
    referee: Referee = None,
    m4: M4 = None,
) -> None:
    """Everything, unless a measurement is named."""
    if context.invoked_subcommand is not None:
        return
    good = _ingest(_cells(quick=quick), baseline=_QUICK_SECONDS, as_json=as_json)
    _read(as_json=as_json)
    good &= _queries(3 if quick else 7, as_json=as_json)
    _detection(data, labels, referee, 2 if quick else _SERIES, as_json=as_json)
    if m4 is not None:
        _forecast(m4, 10 if quick else 1, dear=False, as_json=as_json)
    if not quick:
        good &= _keeping_up(500, 30.0, as_json=as_json)
        good &= _judging(10_000, 50, as_json=as_json)
    good &= _fairness(3.0, 6 if not quick else 2, as_json=as_json)
    raise typer.Exit(0 if good else 1)


@app.command()
def ingest(
    protocol: Annotated[list[str] | None, typer.Option(help="Only this; repeatable.")] = None,
    per_request: Annotated[
        list[int] | None, typer.Option(help="Samples a request; repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each run.")] = 5.0,
    series: Annotated[int, typer.Option(help="Series that the samples belong to.")] = 10_000,
    connections: Annotated[int, typer.Option(help="0: 4, or 32 for small requests.")] = 0,
    baseline: Annotated[
        float, typer.Option(help="Seconds through the slow decoder; 0: none.")
    ] = _QUICK_SECONDS,
    slow: Annotated[bool, typer.Option("--slow", help="Only the slow decoder.")] = False,
    profile: Annotated[
        str, typer.Option(help="api or worker: run it under cProfile, no baseline.")
    ] = "",
    quick: Quick = False,
    as_json: AsJson = False,
) -> None:
    """Samples a second through HTTP, decode, log and chunks, with latency, CPU and memory."""
    for name in protocol or ():
        if name not in PROTOCOLS:
            raise typer.BadParameter(f"{name}: there are {', '.join(PROTOCOLS)}")
    cells = _cells(
        protocol,
        per_request,
        quick=quick,
        seconds=seconds,
        series=series,
        connections=connections,
        slow=slow,
        profile=profile,
    )
    good = _ingest(cells, baseline=0 if profile or slow else baseline, as_json=as_json)
    raise typer.Exit(0 if good else 1)


@app.command()
def fairness(
    seconds: Annotated[float, typer.Option(help="Length of each run.")] = 3.0,
    pairs: Annotated[int, typer.Option(help="Runs alone and beside the other.")] = 6,
    first: Annotated[
        bool, typer.Option("--first", help="Run before all other programs; needs root.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What a tenant notices of another that sends ten times its quota."""
    raise typer.Exit(0 if _fairness(seconds, pairs, first=first, as_json=as_json) else 1)


@app.command()
def read(as_json: AsJson = False) -> None:
    """A day of many series out of the store, and a year of one from roll-ups."""
    _read(as_json=as_json)


@app.command()
def queries(
    repeats: Annotated[int, typer.Option(min=1, help="Times that each query is asked.")] = 7,
    as_json: AsJson = False,
) -> None:
    """PromQL over HTTP, beside a real Prometheus on the same samples if one is installed."""
    raise typer.Exit(0 if _queries(repeats, as_json=as_json) else 1)


@app.command()
def detection(
    data: Data = None,
    labels: Labels = None,
    referee: Referee = None,
    series: Annotated[int, typer.Option(min=1, help="Series of each made-up family.")] = _SERIES,
    as_json: AsJson = False,
) -> None:
    """What is found in labelled series beside plain detectors, alerts against budget, cost."""
    _detection(data, labels, referee, series, as_json=as_json)


@app.command()
def forecast(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of M4's Hourly-train.csv and Hourly-test.csv.",
            exists=True,
            file_okay=False,
        ),
    ],
    dear: Annotated[
        bool, typer.Option("--thorough", help="Also the members that take long.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Every tenth series.")] = False,
    as_json: AsJson = False,
) -> None:
    """Errors, intervals and cost on the hourly series of the M4 competition."""
    _forecast(data, 10 if quick else 1, dear=dear, as_json=as_json)


@app.command()
def scoring(
    series: Annotated[int, typer.Option(min=1, help="Series that get a new point.")] = 10_000,
    as_json: AsJson = False,
) -> None:
    """A new point of each of many series: scikit-learn, detectors one by one, a bank of them."""
    figures = score.measure(series)
    if as_json:
        print(json.dumps({"scoring": [asdict(figure) for figure in figures]}))
    else:
        detection_report.costs(figures, report.out)


@app.command()
def training(
    series: Annotated[int, typer.Option(min=1, help="Series that are trained.")] = 2000,
    rows: Annotated[int, typer.Option(min=300, help="Five-minute rows of each.")] = 8640,
    processes: Annotated[int, typer.Option(min=1, help="Processes that train.")] = 2,
    nice: Annotated[int, typer.Option(min=0, max=19, help="Their priority.")] = 19,
    dask: Annotated[
        bool, typer.Option("--dask", help="On a Dask cluster; a worker of two is killed.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="End then with what there is.")] = 120,
    as_json: AsJson = False,
) -> None:
    """A tenant trained from nothing while another one's points are judged."""
    plan = learning.Plan(
        series=series,
        rows=rows,
        processes=processes,
        nice=nice,
        dask=dask,
        limit_seconds=minutes * 60,
    )
    try:
        found = learning.measure(plan, _say)
    except RuntimeError as error:
        report.err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps({"training": found.plain()}))
    else:
        learning.show(found)
    raise typer.Exit(1 if found.problems else 0)


@app.command("judging")
def judging(
    rules: Annotated[int, typer.Option(min=10, max=10_000, help="Rules, a series each.")] = 10_000,
    notices: Annotated[int, typer.Option(min=1, help="Rules that are broken.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Ten thousand rules over ten thousand series; from a sample to its notification."""
    raise typer.Exit(0 if _judging(rules, notices, as_json=as_json) else 1)


@app.command("keeping-up")
def keeping_up(
    series: Annotated[int, typer.Option(min=100, help="Series, each with a model.")] = 10_000,
    seconds: Annotated[float, typer.Option(help="Length of the ordinary work.")] = 120.0,
    first: Annotated[
        bool, typer.Option("--first", help="Run before all other programs; needs root.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A worker on one core: a point of each of many trained series every ten seconds."""
    raise typer.Exit(0 if _keeping_up(series, seconds, first=first, as_json=as_json) else 1)


def _cells(
    protocols: list[str] | None = None,
    sizes: list[int] | None = None,
    *,
    quick: bool = False,
    seconds: float = 5.0,
    series: int = 10_000,
    connections: int = 0,
    slow: bool = False,
    profile: str = "",
) -> list[recording.Cell]:
    cells = []
    for protocol in protocols or PROTOCOLS:
        for size in sizes or sorted({*_SIZES, *((1000,) if protocol == "json" else ())}):
            cell = recording.Cell(protocol, size, seconds, series, connections, slow, profile)
            if not quick:
                cells.append(cell)
            elif recording.target_of(cell) or sizes:
                cells.append(replace(cell, seconds=_QUICK_SECONDS))
    return cells


def _ingest(cells: list[recording.Cell], *, baseline: float, as_json: bool) -> bool:
    before = report.machine()
    rows: list[recording.Comparison] = []
    try:
        for row in recording.compare(cells, baseline, _say):
            rows.append(row)
            _say(f"  {row.fast.rate:,.0f} samples/s")
    except KeyboardInterrupt:
        _say("interrupted; this is what was measured")
    if as_json:
        print(json.dumps({"machine": before, "ingest": [row.plain() for row in rows]}))
    else:
        report.ingest(rows, before)
        for row in rows:
            if row.fast.profile:
                print(row.fast.profile)
    return not any(row.problems for row in rows)


def _read(*, as_json: bool) -> None:
    _say("read")
    rows = reading.run()
    if as_json:
        print(json.dumps({"read": [asdict(row) for row in rows]}))
    else:
        reading.show(rows)


def _queries(repeats: int, *, as_json: bool) -> bool:
    before = report.machine()
    _say("queries")
    found = asking.measure(repeats, _say)
    if as_json:
        print(json.dumps({"machine": before, "queries": found.plain()}))
    else:
        queries_report.show(found, before, report.out)
    return not found.problems


def _detection(
    data: Path | None, labels: Path | None, referee: Path | None, series: int, *, as_json: bool
) -> None:
    try:
        found = detecting.measure(data, labels, referee, series, _say)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    except RuntimeError as error:
        report.err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps({"detection": found.plain()}))
    else:
        detection_report.show(found, report.out)


def _forecast(data: Path, every: int, *, dear: bool, as_json: bool) -> None:
    try:
        corpus = m4s.load(data, every)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    found = forecasting.measure(corpus, dear=dear, say=_say)
    if as_json:
        print(json.dumps({"forecast": found.plain()}))
    else:
        forecast_report.show(found, report.out)


def _keeping_up(series: int, seconds: float, *, first: bool = False, as_json: bool) -> bool:
    _say("keeping up")
    found = keeping.measure(series, seconds, first=first)
    if as_json:
        print(json.dumps({"keeping_up": found.plain()}))
    else:
        report.keeping_up(found)
    return not found.problems


def _judging(rules: int, notices: int, *, as_json: bool) -> bool:
    _say("judging")
    found = judge.measure(rules, notices)
    if as_json:
        print(json.dumps({"judging": found.plain()}))
    else:
        report.judging(found)
    return not found.problems


def _fairness(seconds: float, pairs: int, *, first: bool = False, as_json: bool) -> bool:
    _say("fairness")
    found = fair.measure(seconds, pairs, first=first)
    if as_json:
        print(json.dumps({"fairness": found.plain()}))
    else:
        report.fairness(found)
    return not found.problems


if __name__ == "__main__":
    app()
