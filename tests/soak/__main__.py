"""`python -m tests.soak`: the long runs, with figures. Status 1 if a promise was broken."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.soak import kills, outage

app = typer.Typer(help="Long runs that look for lost samples.", no_args_is_help=True)


@app.command("kills")
def kill_soak(
    samples: int = 1_000_000,
    count: Annotated[int, typer.Option("--kills")] = 100,
    seed: int = 1,
    log: Annotated[Path | None, typer.Option(help="Where the service's log goes.")] = None,
) -> None:
    """Record stamped samples while api, worker and store are killed; compare."""
    plan = kills.Plan(samples=samples, kills=count, pause=(0.1, 2.5), seed=seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(kills.run(Path(folder), plan))
    if log is not None:
        log.write_text(report.log)
    for line in report.lines():
        typer.echo(line)
    sys.exit(1 if report.difference.wrong else 0)


@app.command("outages")
def outages(
    seconds: float = 60,
    database: Annotated[bool, typer.Option("--database", help="PostgreSQL, not Redis.")] = False,
    log: Annotated[Path | None, typer.Option(help="Where the service's log goes.")] = None,
) -> None:
    """Take a store away under load, once hanging and once gone; look at every answer."""
    plan = outage.Plan(
        outages=[("stopped", seconds), ("killed", seconds)], between=12, database=database
    )
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        report = asyncio.run(outage.run(Path(folder), plan))
    if log is not None:
        log.write_text(report.log)
    for line in report.lines():
        typer.echo(line)
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    app()
