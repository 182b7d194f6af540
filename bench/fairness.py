"""`fairness`: what a tenant notices of a neighbour who sends ten times what it may.

Requests come due at fixed times (open loop), and latency counts from then. Both tenants live in
one shard. B's runs alone and beside A alternate, so that what else the machine does meets both.
"""

import statistics
from dataclasses import asdict, dataclass, field

from bench.load import Outcome, Plan, Sender
from bench.service import Service
from service.settings import Settings
from service.storage.keys import shard_of

#: What B's p99 may become beside A, times what it is alone.
P99_RATIO = 1.2
_PER_REQUEST = 100
#: Requests a second that B sends, and that A may send; A sends `_TIMES` as many.
_B_RATE = 200.0
_A_QUOTA = 100.0
_TIMES = 10
#: A's allowance for a burst is used up after so many seconds.
_LEAD = 5.0


@dataclass
class Fairness:
    """B's runs without and with A, and A's own."""

    alone: list[Outcome] = field(default_factory=list)
    beside: list[Outcome] = field(default_factory=list)
    other: list[Outcome] = field(default_factory=list)
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
    def kept(self) -> float:
        """What A got, of what its quota is; more than 1 by the burst it is allowed."""
        samples = sum(run.samples for run in self.other)
        return samples / sum(run.seconds for run in self.other) / (_A_QUOTA * _PER_REQUEST)

    @property
    def ok(self) -> bool:
        """Whether B is left alone, and everything is stored as it was acknowledged."""
        return not self.errors and not self.problems and self.ratio <= P99_RATIO

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "ratio": self.ratio, "errors": self.errors, "ok": self.ok}


def measure(seconds: float = 5.0, pairs: int = 3, series: int = 1000) -> Fairness:
    """Alternate B alone and B beside A, `pairs` times."""
    found = Fairness()
    with Service() as service:
        first, second = _of_one_shard()
        quota = {"requests_per_second": _A_QUOTA, "samples_per_second": _A_QUOTA * _PER_REQUEST}
        plan = Plan(
            protocol="remote_write",
            per_request=_PER_REQUEST,
            port=service.port,
            key=service.tenant(
                second, requests_per_second=2 * _B_RATE, samples_per_second=2 * _B_RATE * 100
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
            key=service.tenant(first, **quota),
            series=series,
            seconds=_LEAD + seconds,
            connections=8,
            rate=_A_QUOTA * _TIMES,
            runs=pairs,
        )
        with Sender(plan) as b, Sender(theirs) as a:
            b.warm()
            a.warm()
            b.start(2.0)  # connections and caches
            b.result()
            for _ in range(pairs):
                service.drain()
                b.start()
                found.alone.append(b.result())
                a.start()
                b.start(delay=_LEAD)
                found.beside.append(b.result())
                found.other.append(a.result())
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
