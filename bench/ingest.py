"""`ingest`: samples a second, latency, CPU and memory, through HTTP to the chunks."""

import io
import os
import pstats
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from bench.load import Outcome, Plan, Sender
from bench.service import Service

#: Samples/s to reach and to aim at, all included, by protocol and samples a request.
_TARGETS = {("remote_write", 2000): (0.7e6, 1.5e6), ("json", 1000): (0.4e6, 0.9e6)}
_TARGET_OF_ONE = (4e3, 20e3)
#: Lines of a profile.
_LINES = 40


@dataclass(frozen=True)
class Cell:
    """One measurement to make."""

    protocol: str
    per_request: int
    seconds: float = 5.0
    series: int = 10_000
    connections: int = 0  # 0: what suits the size
    slow: bool = False
    profile: str = ""

    @property
    def at_once(self) -> int:
        """Connections to use."""
        return self.connections or (32 if self.per_request < 100 else 4)


@dataclass
class Row:
    """What was measured. `rate` counts the time until all was in the chunks."""

    cell: Cell
    load: Outcome
    acknowledged: float  # samples/s until the last answer
    rate: float  # samples/s until the log was empty
    requests: float  # requests/s
    drain: float  # seconds
    cpu: dict[str, float]  # seconds per million samples, by role and of the load itself
    store_bytes: float  # per sample
    worker_bytes: float  # per sample
    wrong: str  # what was not read back as it was sent
    profile: str = ""

    @property
    def by_cpu(self) -> float:
        """Samples/s that all cores would do at this cost: the bound that no noise lowers."""
        return len(os.sched_getaffinity(0)) * 1e6 / max(sum(self.cpu.values()), 1e-9)


@dataclass
class Comparison:
    """The program and, with the slow decoder, its baseline."""

    fast: Row
    slow: Row | None

    @property
    def ratio(self) -> float | None:
        """How many times the samples/s of the baseline."""
        return self.fast.rate / self.slow.rate if self.slow and self.slow.rate else None

    @property
    def problems(self) -> list[str]:
        """What was not answered or not kept as it should."""
        found = []
        for row in (self.fast, self.slow):
            if row is None:
                continue
            cell, load = row.cell, row.load
            name = f"{cell.protocol}, {cell.per_request} a request{', slow' * cell.slow}"
            if row.wrong:
                found.append(f"{name}: {row.wrong}")
            if load.errors or load.refused or load.unavailable:
                found.append(
                    f"{name}: {load.refused} times 429, {load.unavailable} times 503, "
                    f"{load.errors} other errors; the first said {load.said}"
                )
        return found

    def plain(self) -> dict[str, object]:
        """As JSON."""
        target = target_of(self.fast.cell)
        return {
            "fast": asdict(self.fast) | {"by_cpu": self.fast.by_cpu},
            "slow": asdict(self.slow) if self.slow else None,
            "ratio": self.ratio,
            "target": target,
            "ok": self.fast.rate >= target[0] if target else None,
            "problems": self.problems,
        }


def target_of(cell: Cell) -> tuple[float, float] | None:
    """What to reach and what to aim at, samples/s."""
    if cell.per_request == 1:
        return _TARGET_OF_ONE
    return _TARGETS.get((cell.protocol, cell.per_request))


def compare(
    cells: Sequence[Cell], baseline_seconds: float, say: Callable[[str], None]
) -> Iterator[Comparison]:
    """Measure each cell, and the same load through the slow decoder unless 0 s are given to it."""
    for number, cell in enumerate(cells, 1):
        name = f"{cell.protocol}, {cell.per_request} a request ({number} of {len(cells)})"
        say(name)
        fast = measure(cell)
        slow = None
        if baseline_seconds:
            say(f"{name}, slow decoder")
            slow = measure(replace(cell, slow=True, seconds=baseline_seconds, profile=""))
        yield Comparison(fast, slow)


def measure(cell: Cell) -> Row:
    """Run one load against a service of its own."""
    with Service(slow=cell.slow, profile=cell.profile) as service:
        try:
            row = _measure(cell, service)
        except Exception as error:
            error.add_note(service.log())
            raise
    if cell.profile:
        row.profile = _profile(service)
    service.remove()
    return row


def _measure(cell: Cell, service: Service) -> Row:
    key = service.tenant("bench")
    plan = Plan(
        protocol=cell.protocol,
        per_request=cell.per_request,
        port=service.port,
        key=key,
        series=cell.series,
        seconds=cell.seconds,
        connections=cell.at_once,
    )
    with Sender(plan) as sender:
        sender.warm()
        service.drain()
        before = service.read()
        sender.start()
        load = sender.result()
        drain = service.drain()
        after = service.read()
        wrong = sender.verify()
    million = max(load.samples, 1) / 1e6
    cpu = {role: (after.cpu[role] - used) / million for role, used in before.cpu.items()}
    cpu["load"] = load.cpu / million
    return Row(
        cell=cell,
        load=load,
        acknowledged=load.samples / load.seconds,
        rate=load.samples / (load.seconds + drain),
        requests=load.requests / load.seconds,
        drain=drain,
        cpu=cpu,
        store_bytes=(after.store_bytes - before.store_bytes) / max(load.samples, 1),
        worker_bytes=(after.worker_bytes - before.worker_bytes) / max(load.samples, 1),
        wrong=wrong,
    )


def _profile(service: Service) -> str:
    out = io.StringIO()
    stats = pstats.Stats(str(service.profiled), stream=out)
    stats.strip_dirs().sort_stats("cumulative").print_stats(_LINES)
    stats.sort_stats("tottime").print_stats(_LINES)
    return out.getvalue()
