"""What was measured of forecasts, as tables."""

from rich.console import Console
from rich.table import Table

from bench.detection_report import mark
from bench.forecast import BASE, LEVEL, OURS, Forecasts

#: To reach, and to aim at: OWA, CPU seconds a series; the share that 90 % intervals may hold.
OWA, CPU, COVERAGE = (0.41, 0.37), (0.1, 0.02), (0.88, 0.92)


def show(found: Forecasts, out: Console) -> None:
    """The tables."""
    _accuracy(found, out)
    _intervals(found, out)


def _accuracy(found: Forecasts, out: Console) -> None:
    table = Table(title=f"M4 hourly, {found.series} series, 48 hours ahead", title_justify="left")
    table.add_column("method")
    for name in ("sMAPE", "MASE", "OWA", "", "worse than\nNaive2", "CPU ms\na series", ""):
        table.add_column(name, justify="right")
    for one in found.accuracy:
        ours = one.method.startswith(OURS)
        table.add_row(
            one.method,
            f"{one.smape:.3f}",
            f"{one.mase:.3f}",
            f"{one.owa:.4f}",
            mark(one.owa, *OWA, less=True) if ours else "",
            f"{one.worse}" if one.method != BASE else "",
            f"{one.cpu * 1e3:.1f}",
            mark(one.cpu, *CPU, less=True) if one.method == OURS else "",
            end_section=ours or one.method == BASE,
        )
    out.print(table)
    out.print(
        f"Of the mixture to reach (to aim at): OWA {OWA[0]:g} ({OWA[1]:g}), CPU "
        f"{CPU[0] * 1e3:g} ms ({CPU[1] * 1e3:g}), backtest and intervals included.",
        style="dim",
    )


def _intervals(found: Forecasts, out: Console) -> None:
    table = Table(title="Prediction intervals", title_justify="left")
    for name in ("method", "level", "inside", "", "series with\nless than half", "interval score"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for one in found.intervals:
        met = COVERAGE[0] <= one.coverage <= COVERAGE[1]
        table.add_row(
            one.method,
            f"{one.level:.0%}",
            f"{one.coverage:.1%}",
            ("✓" if met else "✗") if one.level == LEVEL else "",
            f"{one.below_half}",
            f"{one.score:.2f}",
        )
    out.print(table)
    out.print(
        f"At {LEVEL:.0%} wanted: {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}. Interval score: width, "
        "and what lies outside as 2/(1 − level) times as far, in MASE's unit: less is better.",
        style="dim",
    )
