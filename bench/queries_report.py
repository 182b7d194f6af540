"""What `queries` measured, as a table."""

from rich.console import Console
from rich.table import Table

from bench.queries import Queries


def show(found: Queries, machine: str, out: Console) -> None:
    """Medians beside each other, and where answers were not the same."""
    table = Table(
        title=f"Queries over HTTP, of {found.samples / 1e6:.1f} M samples", title_justify="left"
    )
    for name in (
        "query",
        "expression",
        "series",
        "steps",
        "ms",
        "Prometheus\nms",
        "ratio",
        "CPU ms",
        "Prometheus\nCPU ms",
        "ratio",
    ):
        left = name in ("query", "expression")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "query")
    for row in found.rows:
        table.add_row(
            row.what,
            row.expr,
            f"{row.series:,}",
            f"{row.points:,}",
            f"{row.ours.ms:.1f}",
            "" if row.theirs is None else f"{row.theirs.ms:.1f}",
            "" if row.ratio is None else f"{row.ratio:.1f}",
            f"{row.ours.cpu_ms:.0f}",
            "" if row.theirs is None else f"{row.theirs.cpu_ms:.0f}",
            "" if row.cpu_ratio is None else f"{row.cpu_ratio:.1f}",
        )
    out.print(table)
    out.print(machine)
    if found.against is None:
        out.print("Prometheus is not installed here: measured without it.", style="yellow")
    else:
        out.print(
            "Medians, of CPU means; ratio: how many times what Prometheus "
            f"{found.against} takes for the same answer in the same run.",
            style="dim",
        )
    for problem in found.problems:
        out.print(problem, style="red", markup=False)
