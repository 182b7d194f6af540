"""`ingest`: samples a second, latency, CPU and memory, through HTTP to the chunks."""

import pstats
from dataclasses import asdict, dataclass, field

from bench.load import Outcome, Plan, Sender
from bench.service import Service


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
    extra: dict[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


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
    import io

    out = io.StringIO()
    stats = pstats.Stats(str(service.profiled), stream=out)
    stats.strip_dirs().sort_stats("cumulative").print_stats(40)
    stats.sort_stats("tottime").print_stats(40)
    return out.getvalue()
