"""`python -m bench`: every measurement, or the one that is named."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def ingest(
    protocol: Annotated[list[str] | None, typer.Option(help="Only these protocols.")] = None,
    per_request: Annotated[list[int] | None, typer.Option(help="Only these sizes.")] = None,
    seconds: float = 5.0,
    series: int = 10_000,
    connections: int = 0,
    slow: bool = False,
    profile: str = "",
) -> None:
    """Record."""
    from bench.ingest import Cell, measure

    for name in protocol or ["remote_write"]:
        for size in per_request or [2000]:
            row = measure(Cell(name, size, seconds, series, connections, slow, profile))
            print(f"{name} {size}: {row.rate:,.0f} samples/s all included, ", end="")
            print(f"{row.acknowledged:,.0f} acknowledged, drain {row.drain:.2f} s")
            print(f"  p50 {row.load.p50:.1f} ms, p99 {row.load.p99:.1f} ms, {row.load}")
            print("  CPU s/M", {role: round(used, 3) for role, used in row.cpu.items()})
            print(f"  store {row.store_bytes:.1f} B/sample, worker {row.worker_bytes:.1f}")
            print(f"  read back: {row.wrong or 'as it was sent'}")
            print(row.profile)


@app.callback()
def _root() -> None:
    """Measure the program."""


if __name__ == "__main__":
    app()
