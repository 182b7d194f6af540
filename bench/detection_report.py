"""What was measured of detection, as tables."""

import math

from rich.console import Console
from rich.table import Table

from bench.detection import (
    BUDGET,
    BUDGETS,
    LEVELS,
    NAB,
    OURS,
    SHIPPED,
    Calibration,
    Detection,
    Quality,
)
from bench.pace import Figure

#: To reach, and to aim at: NAB's standard profile, our average precision by the best baseline's,
#: and the factor between alerts on clean series and their budget.
NAB_SCORE = (60.0, 75.0)
PRECISION_RATIO = (1.3, 2.0)
BUDGET_FACTOR = (2.0, 1.2)


def mark(value: float, reach: float, aim: float, *, less: bool = False) -> str:
    """✓✓ as good as the aim or better, ✓ good enough, ✗ missed; less may be better."""
    if less:
        value, reach, aim = -value, -reach, -aim
    return "✓✓" if value >= aim else "✓" if value >= reach else "✗"


def show(found: Detection, out: Console) -> None:
    """The tables."""
    _quality(found, out)
    if found.refereed:
        _refereed(found, out)
    _calibration(found.calibration, out)
    costs(found.speed, out)
    for line in found.missing:
        out.print(line, style="yellow", markup=False)


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=number < left)
    return table


def _quality(found: Detection, out: Console) -> None:
    table = _table(
        f"Found in labelled series (alerts at {BUDGET:g} a week and series)",
        "corpus",
        "method",
        "average\nprecision",
        "mean of\neach series",
        "chance",
        "by best\nbaseline",
        "",
        "alerts\nF1",
        "precision",
        "recall",
        "delay\nrows",
        "false\na week",
        left=2,
    )
    for one in found.quality:
        ratio = found.ratio([one.corpus]) if one.method == OURS else None
        table.add_row(
            "" if ratio is None else f"{one.corpus} ({one.anomalies})",
            one.method,
            f"{one.ap:.3f}",
            f"{one.ap_each:.3f}",
            f"{one.chance:.3f}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if ratio is None else mark(ratio, *PRECISION_RATIO),
            *_alerts(one),
            end_section=one.method != OURS and one is _last(found.quality, one.corpus),
        )
    out.print(table)
    made_up = [name for name in found.corpora if name not in (NAB, SHIPPED)]
    ratio = found.ratio(made_up)
    out.print(
        f"Mean average precision on the families by the best baseline's there: {ratio:.2f} "
        f"{mark(ratio, *PRECISION_RATIO)} (to reach: {PRECISION_RATIO[0]}, "
        f"to aim at: {PRECISION_RATIO[1]:g})"
    )


def _alerts(one: Quality) -> list[str]:
    delay = "" if math.isnan(one.delay) else f"{one.delay:.0f}"
    shares = (f"{share:.2f}" for share in (one.f1, one.precision, one.recall))
    return [*shares, delay, f"{one.false_a_week:.2f}"]


def _last(quality: list[Quality], corpus: str) -> Quality:
    return [one for one in quality if one.corpus == corpus][-1]


def _refereed(found: Detection, out: Console) -> None:
    table = _table(
        "NAB, each at its best threshold",
        "method",
        "standard",
        "",
        "low false\npositives",
        "low false\nnegatives",
        "windows\nfound",
        "false\nrows",
    )
    for one in found.refereed:
        table.add_row(
            one.method,
            f"{one.standard:.1f}",
            mark(one.standard, *NAB_SCORE) if one.method == OURS else "",
            f"{one.reward_low_fp:.1f}",
            f"{one.reward_low_fn:.1f}",
            f"{one.windows}",
            f"{one.false_rows:,}",
        )
    out.print(table)


def _calibration(rows: list[Calibration], out: Console) -> None:
    table = _table(
        "Clean series: share of points at a score, alerts a week at a budget",
        "family",
        "weeks",
        *(f"≥ {level}\n(want {1 - level:.3g})" for level in LEVELS),
        *(f"alerts at\n{budget:g} a week" for budget in BUDGETS),
        "off by\nat most",
        "",
    )
    for one in rows:
        table.add_row(
            one.family,
            f"{one.weeks:.0f}",
            *(f"{share:.2g}" for share in one.shares),
            *(
                f"{rate:.2f} ({alerts})"
                for rate, alerts in zip(one.alerts_a_week, one.alerts, strict=True)
            ),
            f"× {one.off:.1f}",
            mark(one.off, *BUDGET_FACTOR, less=True),
        )
    out.print(table)


def costs(figures: list[Figure], out: Console) -> None:
    """What each thing costs, beside its target and what scikit-learn takes."""
    table = _table("Cost", "what", "cost", "", "to reach\n(to aim at)", "", "scikit-learn", "ratio")
    for one in figures:
        reach, aim = one.reach, one.aim
        target = "" if reach is None else f"{reach:g}" + (f" ({aim:g})" if aim is not None else "")
        table.add_row(
            one.what,
            f"{one.value:,.3g}" if one.value < 1000 else f"{one.value:,.0f}",
            one.unit,
            target,
            "" if reach is None else mark(one.value, reach, 0.0 if aim is None else aim, less=True),
            "" if one.other is None else f"{one.other:,.0f}",
            "" if one.ratio is None else f"{one.ratio:,.0f}",
        )
    out.print(table)
