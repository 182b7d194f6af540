"""`fairness`: what a tenant notices of a neighbour who sends ten times what it may.

Requests come due at fixed times (open loop), and latency counts from then. Both tenants live in
one shard. B's runs alone and beside A alternate, so that what else the machine does meets both;
where that is much, `first` lets the processes measured run before it.
"""

import statistics
import time
from dataclasses import asdict, dataclass, field

from bench.load import Outcome, Plan, Sender
from bench.service import Service, busy, put_first
from service.domain.quotas import BURST_SECONDS
from service.settings import Settings
from service.storage.keys import shard_of

#: What B's p99 may become beside A, times what it is alone.
P99_RATIO = 1.2
_PER_REQUEST = 100
#: Requests a second that B sends, and that A may send; A sends `_TIMES` as many.
_B_RATE = 200.0
_A_QUOTA = 50.0
_TIMES = 10
#: A's allowance for a burst is used up after so many seconds.
_LEAD = 3.0


@dataclass
class Fairness:
    """B's runs without and with A, and A's own."""

    alone: list[Outcome] = field(default_factory=list)
    beside: list[Outcome] = field(default_factory=list)
    other: list[Outcome] = field(default_factory=list)
    #: Samples that A's quota allows in the time from its first to its last request.
    allowed: float = 0.0
    #: Cores that other programs used meanwhile.
    disturbed: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """p99 beside A over p99 alone; the median of the pairs."""
        pairs = zip(self.beside, self.alone, strict=True)
        return statistics.median(b.p99 / a.p99 for b, a in pairs)

    @property
    def errors(self) -> int:
        """B's requests that were not kept."""
        return sum(
            run.errors + run.refused + run.unavailable + run.unsent
            for run in (*self.alone, *self.beside)
        )

    @property
    def kept(self) -> int:
        """Samples of A that were taken."""
        return sum(run.samples for run in self.other)

    @property
    def ok(self) -> bool:
        """Whether B is left alone, and everything is stored as it was acknowledged."""
        return not self.errors and not self.problems and self.ratio <= P99_RATIO

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "ratio": self.ratio, "errors": self.errors, "ok": self.ok}


def measure(
    seconds: float = 3.0, pairs: int = 6, series: int = 1000, *, first: bool = False
) -> Fairness:
    """Alternate B alone and B beside A, `pairs` times; `first` needs root."""
    found = Fairness()
    with Service() as service:
        greedy, modest = _of_one_shard()
        quota = {"requests_per_second": _A_QUOTA, "samples_per_second": _A_QUOTA * _PER_REQUEST}
        plan = Plan(
            protocol="remote_write",
            per_request=_PER_REQUEST,
            port=service.port,
            key=service.tenant(
                modest, requests_per_second=2 * _B_RATE, samples_per_second=2 * _B_RATE * 100
            ),
            series=series,
            seconds=seconds,
            connections=8,
            rate=_B_RATE,
            runs=2 * pairs,
        )
        theirs = Plan(
            protocol="remote_write",
            per_request=_PER_REQUEST,
            port=service.port,
            key=service.tenant(greedy, **quota),
            series=series,
            seconds=_LEAD + seconds,
            connections=8,
            rate=_A_QUOTA * _TIMES,
            runs=pairs,
        )
        with Sender(plan) as b, Sender(theirs) as a:
            measured = [a.pid, b.pid, *(pid for role in service.pids.values() for pid in role)]
            if first:
                put_first(measured)
            b.warm()
            a.warm()
            b.start(2.0)  # connections and caches
            b.result()
            begun, worked, own = 0.0, busy(), service.read().cpu
            for _ in range(pairs):
                service.drain()
                b.start()
                found.alone.append(b.result())
                begun = begun or time.perf_counter()
                a.start()
                b.start(delay=_LEAD)
                found.beside.append(b.result())
                found.other.append(a.result())
            elapsed = time.perf_counter() - begun
            every = (*found.alone, *found.beside, *found.other)
            ours = sum(service.read().cpu.values()) - sum(own.values())
            ours += sum(run.cpu for run in every)
            found.disturbed = max(0.0, busy() - worked - ours) / elapsed
            found.allowed = _A_QUOTA * _PER_REQUEST * (elapsed + BURST_SECONDS)
            if found.kept > found.allowed + theirs.connections * _PER_REQUEST:
                found.problems.append(f"A: {found.kept} were taken, {found.allowed:.0f} allowed")
            service.drain()
            for name, sender in (("B", b), ("A", a)):
                if problem := sender.verify():
                    found.problems.append(f"{name}: {problem}")
        for name, runs in (("B", [*found.alone, *found.beside]), ("A", found.other)):
            if said := next((run.said for run in runs if run.errors), ""):
                found.problems.append(f"{name} was told {said}")
    service.remove()
    return found


def _of_one_shard() -> tuple[str, str]:
    """Names of two tenants that share a shard."""
    shards = int(Settings.model_fields["log_shards"].default)
    names = (f"bench-{number}" for number in range(1000))
    first = next(names)
    return first, next(n for n in names if shard_of(n, shards) == shard_of(first, shards))
