"""How far a long command is, on a terminal; nothing in a pipe."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress(err: Console, doing: str, count: int) -> Progress:
    """How many of `count` are done; of one, only that it is being worked on."""
    columns: tuple[ProgressColumn, ...] = (SpinnerColumn(), TextColumn(doing))
    if count != 1:
        columns += (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(
        *columns,
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    shown.add_task(doing, total=count)
    return shown
