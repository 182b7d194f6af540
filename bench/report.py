"""What was measured, as tables."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.fairness import P99_RATIO, Fairness
from bench.ingest import Comparison, target_of
from bench.judging import JUDGING_TARGET, NOTICE_TARGET
from bench.judging import Result as Judging
from bench.keeping_up import KeepingUp

#: Columns of the widest table; a pipe has no width of its own.
_WIDTH = 190
#: Growth of memory over fewer samples than these says nothing.
_SAMPLES_MIN = 100_000

out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
err = Console(stderr=True, highlight=False)


def machine() -> str:
    """A line on what the figures hold for."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"{cores} cores, which the load generator shares; load average before: {load:.1f}" + (
        " (other programs run: rates are too low, CPU seconds hold)" if load > 1 else ""
    )


def ingest(rows: Sequence[Comparison], before: str) -> None:
    """The table of `ingest`."""
    table = Table(
        title="Recording: HTTP, decode, log (synced to disk), chunks", title_justify="left"
    )
    for name in (
        "protocol",
        "a request",
        "samples/s\nall included",
        "acknow-\nledged/s",
        "requests\n/s",
        "p50\nms",
        "p99\nms",
        "CPU s/M\napi",
        "\nworker",
        "\nstore",
        "\nload",
        "/s by\nCPU",
        "store\nB/sample",
        "slow decoder\nsamples/s",
        "ratio",
        "target",
        "",
    ):
        left = name in ("protocol", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=left)
    for row in rows:
        fast, load = row.fast, row.fast.load
        target = target_of(fast.cell)
        table.add_row(
            fast.cell.protocol,
            f"{fast.cell.per_request:,}",
            _short(fast.rate),
            _short(fast.acknowledged),
            _short(fast.requests),
            f"{load.p50:.1f}",
            f"{load.p99:.1f}",
            *(f"{fast.cpu[role]:.3g}" for role in ("api", "worker", "store", "load")),
            _short(fast.by_cpu),
            f"{fast.store_bytes:.1f}" if load.samples >= _SAMPLES_MIN else "",
            _short(row.slow.rate) if row.slow else "",
            f"{row.ratio:.1f}" if row.ratio else "",
            f"{_short(target[0])} ({_short(target[1])})" if target else "",
            _met(fast.rate, target) if target else "",
        )
    out.print(table)
    out.print(before)
    out.print(
        "/s by CPU: what all cores would do at this cost, scheduler and load included. "
        "Target: to reach (to aim at).",
        style="dim",
    )
    for row in rows:
        for problem in row.problems:
            out.print(problem, style="red", markup=False)


def fairness(found: Fairness) -> None:
    """The table of `fairness`."""
    table = Table(title="Tenant B beside tenant A at ten times its quota", title_justify="left")
    for name in (
        "",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "429",
        "503",
        "errors",
        "not sent",
    ):
        table.add_column(name, justify="right" if name else "left")
    for name, load in (
        *((f"B alone, {n}", load) for n, load in enumerate(found.alone, 1)),
        *((f"B beside A, {n}", load) for n, load in enumerate(found.beside, 1)),
        *((f"A, {n}", load) for n, load in enumerate(found.other, 1)),
    ):
        table.add_row(
            name,
            f"{load.requests / load.seconds:.0f}",
            f"{load.p50:.1f}",
            f"{load.p99:.1f}",
            f"{load.p999:.1f}",
            str(load.refused),
            str(load.unavailable),
            str(load.errors),
            str(load.unsent),
        )
    out.print(table)
    out.print(
        f"p99 beside / alone: {found.ratio:.2f} (at most {P99_RATIO}); "
        f"errors of B: {found.errors} (none); "
        f"A had {found.kept:,} samples taken, its quota allows {found.allowed:,.0f} "
        f"{'✓' if found.ok else '✗'}; other programs used {found.disturbed:.1f} cores meanwhile"
    )
    for problem in found.problems:
        out.print(problem, style="red", markup=False)


def _met(rate: float, target: tuple[float, float]) -> str:
    reach, aim = target
    return "✓✓" if rate >= aim else "✓" if rate >= reach else "✗"


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e4 else f"{number:,.0f}"


def judging(found: Judging) -> None:
    """What many rules take."""
    out.print(
        f"{found.rules:,} rules over {found.series:,} series, a tenth of them with a rate: "
        f"{found.judging:.2f} s for all of them once (target {JUDGING_TARGET:g}); the worker used "
        f"{found.worker_cpu:.2f} of a core. From a sample's answer to its notification p50 "
        f"{found.notice_p50:.2f}, p99 {found.notice_p99:.2f}, longest {found.notice_max:.2f} s "
        f"(target {NOTICE_TARGET:g}), {found.lost} of {found.notices} lost."
    )


def keeping_up(found: KeepingUp) -> None:
    """What `keeping-up` saw, a column a stretch."""
    out.print(
        f"{found.series:,} series, models of {found.model_bytes / 1e9:.2f} GB on disk; prepared in "
        f"{found.prepared:.0f} s. After a restart the worker followed the log again within "
        f"{found.restored:.1f} s, and every series was scored after {found.scored:.1f} s."
    )
    table = Table(title="A worker on one core", title_justify="left")
    table.add_column("")
    for stretch in found.stretches:
        table.add_column(stretch.what, justify="right")
    rows = {
        "seconds": [f"{s.seconds:.0f}" for s in found.stretches],
        "samples recorded": [f"{s.samples:,}" for s in found.stretches],
        "sample to its score, p50, p99, longest, s": [
            f"{s.score_p50:.2f}, {s.score_p99:.2f}, {s.score_max:.2f}" for s in found.stretches
        ],
        "scores over ten seconds late at the end": [str(s.unscored) for s in found.stretches],
        "points scored, samples stored a second": [
            f"{s.points_scored:,.0f}, {s.samples_stored:,.0f}" for s in found.stretches
        ],
        "a look at new points, s": [f"{s.scoring:.2f}" for s in found.stretches],
        "rules judged a second; all of them once, s": [
            f"{s.rules_evaluated:.2f}; {s.judging:.2f}" for s in found.stretches
        ],
        "longest wait for the worker's loop, s": [f"{s.late:.2f}" for s in found.stretches],
        "log entries that waited at most": [str(s.backlog) for s in found.stretches],
        "p99 of recording, reading, ms": [
            f"{s.record_p99 * 1e3:.0f}, {s.read_p99 * 1e3:.0f}" for s in found.stretches
        ],
        "CPU, cores: " + ", ".join(found.stretches[0].cpu): [
            ", ".join(f"{used:.2f}" for used in s.cpu.values()) for s in found.stretches
        ],
        "memory, GB: worker, store": [
            f"{s.worker_bytes / 1e9:.2f}, {s.store_bytes / 1e9:.2f}" for s in found.stretches
        ],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    out.print(table)
    for problem in found.problems:
        err.print(problem, style="red", markup=False)
