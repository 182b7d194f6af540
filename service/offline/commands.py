"""The commands that work on files: what they take, and what `--help` says of it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from service.domain.errors import InvalidInput

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def detect(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A CSV file with timestamp,value, or a folder.")
    ],
    target: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File or folder to write; a single file goes to stdout without."
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(help="Alerts a series may raise when all is well: 1/week, 2/day, 5/month."),
    ] = "1/week",
    counter: Annotated[
        bool, typer.Option("--counter", help="Values count up: judge how fast they grow.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score every row of CSV files: how unusual it is, what was expected, and when to alert.

    A row is judged by the rows before it alone. The output has the columns timestamp, value,
    anomaly_score, alert_score, alert, expected, expected_lower and expected_upper.
    """
    from service.domain.budgets import parse_budget
    from service.offline.detect import run
    from service.offline.files import Options

    options = Options(parse_budget(budget), counter)
    whole = run(source, target, options, as_json=as_json, out=out, err=err)
    raise typer.Exit(0 if whole else 1)


def forecast(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A CSV file with unique_id,ds,y (or timestamp,value: one series), or a folder.",
        ),
    ],
    horizon: Annotated[
        int, typer.Option("--horizon", min=1, max=10_000, help="Steps of a series to look ahead.")
    ] = 24,
    level: Annotated[
        float, typer.Option(help="Per cent of values that lie between lower and upper.")
    ] = 90.0,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File or folder to write; a single file goes to stdout without."
        ),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also ask forecasters that take long.")
    ] = False,
    trend: Annotated[
        bool,
        typer.Option("--trend", help="Weeks ahead, by day: the trend and where it changed."),
    ] = False,
    step: Annotated[
        str, typer.Option(help="Times count steps (1, 2, 3) that last so long, like 1h or 1d.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Forecast every series of CSV files, with an interval that holds so many of the values.

    Times are ISO 8601 or Unix seconds. The output has the columns unique_id, ds, forecast, lower
    and upper, with times written as in the input.
    """
    from service.domain.durations import parse_duration
    from service.offline.ahead import Options
    from service.offline.forecast import run

    if not 0 < level < 100:
        raise typer.BadParameter("a level lies between 0 and 100 per cent", param_hint="--level")
    step_ms = 0
    if step:
        try:
            step_ms = round(parse_duration(step) * 1000)
        except InvalidInput as error:
            raise typer.BadParameter(str(error), param_hint="--step") from error
        if step_ms <= 0:
            raise typer.BadParameter("a step takes time", param_hint="--step")
    options = Options(horizon, level / 100, thorough, step_ms, trend)
    whole = run(source, target, options, as_json=as_json, out=out, err=err)
    raise typer.Exit(0 if whole else 1)


def query(
    expr: Annotated[str, typer.Argument(metavar="EXPR", help="A PromQL expression, in quotes.")],
    time: Annotated[
        str,
        typer.Option(help="Ask at this time: Unix seconds, ISO 8601, now, or -2h for 2 h ago."),
    ] = "",
    start: Annotated[str, typer.Option(help="Ask from here on, at every step.")] = "",
    end: Annotated[str, typer.Option(help="Ask up to here.")] = "",
    step: Annotated[str, typer.Option(help="How far the steps are apart, such as 1m.")] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A CSV file, or a folder of them, instead of a service; repeatable."),
    ] = None,
    url: Annotated[
        str, typer.Option(envvar="OFFBEAT_URL", help="Where the service is.")
    ] = "http://127.0.0.1:8000",
    key: Annotated[
        str,
        typer.Option(envvar="OFFBEAT_KEY", help="An API key that may read.", show_default=False),
    ] = "",
    tenant: Annotated[
        str, typer.Option(envvar="OFFBEAT_TENANT", help="The tenant, for an admin key.")
    ] = "",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the answer into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a PromQL expression of a running service, or of CSV files.

    Prints a table on a terminal, and JSON as Prometheus' API has it elsewhere.

    It is asked once, now or at the newest sample of the files. With --start,
    --end or --step it is asked at every step between; what is left out is the
    last hour, or all that the files have, in about 240 steps.

    Files have a column timestamp (or time, ds, date). With a column value (or
    y) a file is the metric of its name: cpu.csv is cpu. Its other columns are
    labels, but what offbeat detect wrote: that is cpu:anomaly_score and so on.
    Without one, each column of numbers is a metric, the others are labels.

    offbeat query 'avg_over_time(cpu[1h])' --data cpu.csv --step 5m --plot a.png
    """
    from service.offline.query import Service, When, run

    when = When(time, start, end, step)
    source = data or Service(url, key, tenant)
    run(expr, when, source, as_json=as_json, plot=plot, out=out, err=err)
