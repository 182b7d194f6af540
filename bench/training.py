"""A tenant trained from nothing while another one's points are judged: how long both take.

A service is started and given a month of history of many series of one tenant. Before the scheduler
may train them, series of another tenant that have models get a point each second; it goes on until
every series has its model. How long a point waits is measured from the answer to its request to the
score in the log, from which pages and rules read it.
"""

import asyncio
import contextlib
import math
import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from redis import Redis
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench import report
from bench.dask_cluster import DaskCluster
from bench.service import Service
from service.domain.series import SCORE, Series
from service.settings import Settings
from service.storage import keys
from service.storage.append import LogWriter
from service.storage.columns import Batch
from service.storage.log import _entries, _entry
from service.storage.redis import connect
from service.storage.registry import SeriesRegistry

Say = Callable[[str], None]

_SHARDS = Settings.model_fields["log_shards"].default
_STEP_MS = 300_000
_LIVE_ROWS = 600
_SAMPLES_AT_ONCE = 20_000


@dataclass(frozen=True)
class Plan:
    """`series` of `rows` samples are trained while `live` others get a point a second.

    Before that they are judged alone for `quiet_seconds`, for comparison. `dask` trains on a
    cluster of two workers, of which one is killed when a third is done. After `limit_seconds` it
    ends with what there is.
    """

    series: int = 2000
    rows: int = 8640
    live: int = 10
    processes: int = 2
    nice: int = 19
    dask: bool = False
    quiet_seconds: float = 10.0
    limit_seconds: float = 7200.0


@dataclass(frozen=True)
class Waits:
    """How long points waited for their score, in seconds; `lost` had none ten seconds later."""

    points: int
    lost: int
    p50: float
    p99: float
    longest: float


@dataclass(frozen=True)
class Result:
    """`trained` of `series` in `seconds`; waits before and meanwhile; what progress said."""

    series: int
    rows: int
    trained: int
    failed: int
    seconds: float
    training_cpu: float
    before: Waits
    meanwhile: Waits
    shown: list[dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def problems(self) -> list[str]:
        """What was promised and not kept."""
        found = []
        if self.trained < self.series:
            found.append(f"{self.series - self.trained:,} series have no model")
        if not self.meanwhile.p99 < 1.0:
            found.append(f"a point waited {self.meanwhile.p99:.2f} s (p99), promised is 1 s")
        return found


def measure(plan: Plan, say: Say) -> Result:
    """Run the plan. `RuntimeError` if the service does not answer."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offbeat-dask-")))
        settings: dict[str, Any] = {
            "training_interval": "1s",
            "parallel_workers": plan.processes,
            "training_nice": plan.nice,
        }
        cluster: DaskCluster | None = None
        if plan.dask:
            cluster = stack.enter_context(DaskCluster(folder))
            cluster.start_scheduler()
            for _ in range(2):
                cluster.start_worker()
            settings["dask_scheduler_address"] = cluster.address
        service = Service(**settings)
        stack.callback(service.remove)
        stack.enter_context(service)
        return _measure(plan, service, cluster, say)


def _measure(plan: Plan, service: Service, cluster: DaskCluster | None, say: Say) -> Result:
    keys_of = {name: service.tenant(name) for name in ("live", "load")}
    live = [Series.of("live", {"n": str(n)}) for n in range(plan.live)]
    load = [Series.of("load", {"n": str(n)}) for n in range(plan.series)]
    say("training the series that are judged meanwhile")
    now_ms = round(time.time() * 1000)
    asyncio.run(_record(service, "live", live, now_ms - 1000, 1000, _LIVE_ROWS))
    _until(lambda: _models(service, "live") >= plan.live, plan.limit_seconds, "nothing is trained")
    with _stopped(service.pids["scheduler"]), Judged(service, keys_of["live"], live) as judged:
        say("recording history")
        asyncio.run(_record(service, "load", load, now_ms - _STEP_MS, _STEP_MS, plan.rows))
        service.drain(3600)
        say("judging without training")
        judged.take()
        time.sleep(plan.quiet_seconds)
        before = judged.take()
    say("training")
    cpu = sum(service.read().cpu.values())
    begun = time.monotonic()
    shown: list[dict[str, Any]] = []
    with (
        Judged(service, keys_of["live"], live) as judged,
        _client(service, keys_of["load"]) as http,
        _bar(plan.series) as advance,
    ):

        def trained() -> bool:
            status = http.get("/analytics/training").raise_for_status().json()
            if status["state"] != "idle" and (not shown or shown[-1]["done"] != status["done"]):
                shown.append(status)
            done = _models(service, "load")
            advance(done, status)
            if cluster is not None and done >= plan.series / 3 and len(cluster.workers) == 2:
                say("killing a Dask worker")
                cluster.workers.pop().kill()
            late = time.monotonic() - begun > plan.limit_seconds
            return late or done >= plan.series or service.process.poll() is not None

        _until(trained, plan.limit_seconds + 60, "the service does not answer", every=0.5)
        seconds = time.monotonic() - begun
        meanwhile = judged.take()
    return Result(
        series=plan.series,
        rows=plan.rows,
        trained=_models(service, "load"),
        failed=_models(service, "load", "failed"),
        seconds=seconds,
        training_cpu=sum(service.read().cpu.values()) - cpu,
        before=before,
        meanwhile=meanwhile,
        shown=shown,
    )


class Judged:
    """Records a point of each series every second, and notes when its score is in the log."""

    def __init__(self, service: Service, key: str, series: Sequence[Series]) -> None:
        self._service, self._key, self._series = service, key, series
        self._scores = {s.derived(SCORE).id: s.id for s in series}
        self._sent: dict[tuple[int, int], float] = {}
        self._seen: dict[tuple[int, int], float] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._watch)]
        self._problem: BaseException | None = None

    def __enter__(self) -> "Judged":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> Waits:
        """How long points waited since the last call; those of the last moment are waited for."""
        sent = dict(self._sent)
        deadline = time.monotonic() + 10
        while not sent.keys() <= self._seen.keys() and time.monotonic() < deadline:
            time.sleep(0.05)
        for point in sent:
            self._sent.pop(point, None)
        waits = [max(0.0, self._seen[p] - at) for p, at in sent.items() if p in self._seen]
        lost = len(sent) - len(waits)
        worst = np.array(waits + [math.inf] * lost or [math.inf])
        return Waits(
            points=len(sent),
            lost=lost,
            p50=float(np.quantile(worst, 0.5, method="higher")),
            p99=float(np.quantile(worst, 0.99, method="higher")),
            longest=float(worst.max()),
        )

    def _send(self) -> None:
        generator = np.random.default_rng(1)
        with _client(self._service, self._key) as http:
            due = math.ceil(time.time())
            while not self._stop.wait(max(0.0, due - time.time())):
                points = [
                    {
                        "name": s.name,
                        "labels": s.tags,
                        "timestamp": due,
                        "value": 100 + float(generator.normal()),
                    }
                    for s in self._series
                ]
                http.post("/analytics/metrics", json=points).raise_for_status()
                answered = time.monotonic()
                self._sent |= {(s.id, due * 1000): answered for s in self._series}
                due = max(due + 1, math.ceil(time.time()))

    def _watch(self) -> None:
        log = keys.log(keys.shard_of("live", _SHARDS))
        with Redis(unix_socket_path=str(self._service.data / "store" / "store.sock")) as redis:
            newest: Any = redis.xrevrange(log, count=1)
            last = newest[0][0] if newest else b"0-0"
            while not self._stop.is_set():
                for entry_id, fields in _entries(redis.xread({log: last}, block=500)):
                    now = time.monotonic()
                    last = entry_id
                    batch = _entry(entry_id, fields).batch
                    for number, t in zip(batch.id.tolist(), batch.t.tolist(), strict=True):
                        if number in self._scores:
                            self._seen.setdefault((self._scores[number], t), now)


async def _record(
    service: Service, tenant: str, series: Sequence[Series], end_ms: int, step_ms: int, rows: int
) -> None:
    """Write history up to a time into the log, a series after the other."""
    redis = connect(f"unix://{service.data / 'store' / 'store.sock'}")
    try:
        await SeriesRegistry(redis, _SHARDS).register(tenant, series)
        log = LogWriter(redis, _SHARDS, 1_000_000)
        t = end_ms - step_ms * np.arange(rows - 1, -1, -1, dtype=np.int64)
        angle = 2 * np.pi * (t % 86_400_000) / 86_400_000
        together = max(1, _SAMPLES_AT_ONCE // rows)
        for first in range(0, len(series), together):
            part = series[first : first + together]
            values = [
                100 + 20 * np.sin(angle + n) + np.random.default_rng(n).normal(0, 2, rows)
                for n in range(first, first + len(part))
            ]
            ids = np.repeat(np.array([s.id for s in part], np.int64), rows)
            await log.append(tenant, Batch(ids, np.tile(t, len(part)), np.concatenate(values)))
            if first % 100 < together:
                await asyncio.to_thread(service.drain)  # it is not to wait in memory
    finally:
        await redis.aclose()


def _models(service: Service, tenant: str, state: str = "ready") -> int:
    """Models of a tenant in that state; counted in SQL, for the page would cost CPU."""
    with contextlib.closing(sqlite3.connect(service.data / "offbeat.db", timeout=30)) as database:
        query = "SELECT count(*) FROM models WHERE tenant = ? AND state = ?"
        return int(database.execute(query, (tenant, state)).fetchone()[0])


@contextmanager
def _stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes that wait until the end of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _client(service: Service, key: str) -> httpx.Client:
    return httpx.Client(
        base_url=service.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
        trust_env=False,
    )


def _until(condition: Callable[[], bool], seconds: float, message: str, every: float = 0.2) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(message)
        time.sleep(every)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, dict[str, Any]], None]]:
    """A bar on a terminal, nothing in a pipe."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[about]}"))
    with Progress(*columns, console=report.err, disable=not report.err.is_terminal) as bar:
        task = bar.add_task("", total=total, about="")

        def advance(done: int, status: dict[str, Any]) -> None:
            left = status["seconds_left"]
            about = "" if left is None else f"about {left / 60:.0f} min left"
            bar.update(task, completed=done, about=status["why"] or about)

        yield advance


def show(found: Result) -> None:
    """Print a table."""
    out = report.out
    out.print(
        f"{found.trained:,} of {found.series:,} series of {found.rows:,} rows trained in "
        f"{found.seconds:,.0f} s ({found.training_cpu:,.0f} CPU s of the whole service), "
        f"{found.failed} failed"
    )
    for name, waits in (("before", found.before), ("meanwhile", found.meanwhile)):
        out.print(
            f"judging {name}: {waits.points:,} points, p50 {waits.p50:.3f} s, "
            f"p99 {waits.p99:.3f} s, longest {waits.longest:.3f} s, lost {waits.lost}"
        )
    for problem in found.problems:
        out.print(f"PROBLEM: {problem}")
