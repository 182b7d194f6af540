"""`keeping-up`: a worker with thousands of trained series, each with a new point every ten seconds.

The whole service runs as it ships, the worker on one core alone. It is started anew while samples
come, and what it takes until every series is scored again is the first figure; then it is watched
at its ordinary work. How long a score takes counts from the acknowledgement of the request that
brought the sample until the score stands in the store.
"""

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np

from bench import metrics, trained
from bench.metrics import Metrics
from bench.service import Service, put_first
from bench.trained import STEP_MS, Shape, series_of
from service.domain.series import SCORE
from service.security.crypto import derive
from service.settings import Settings
from service.storage import keys
from service.storage.columns import POINT

TENANT = "bench"
#: A score should be there before the next sample comes.
LIMIT_SECONDS = STEP_MS / 1000
_GROUPS = 10
#: Series of each request whose scores are waited for, seconds between looks.
_PROBES, _LOOK = 4, 0.1
_ROOT = Path(__file__).parent.parent
_RULES = """
alert_rules:
  - name: Anomalies
    query: {metric}
    condition: anomaly
    threshold: 0.9999
  - name: Anomalies within a budget
    query: {metric}
    condition: anomaly
    alert_budget: 20/week
"""


@dataclass
class Stretch:
    """What was seen in a stretch of time; seconds and bytes unless a name says otherwise.

    `cpu` is of each role, a second. `late` is of the worker's event loop.
    """

    what: str
    seconds: float = 0.0
    samples: int = 0
    score_p50: float = 0.0
    score_p99: float = 0.0
    score_max: float = 0.0
    unscored: int = 0
    record_p99: float = 0.0
    read_p99: float = 0.0
    errors: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    worker_bytes: int = 0
    store_bytes: int = 0
    points_scored: float = 0.0
    samples_stored: float = 0.0
    scoring: float = 0.0
    rules_evaluated: float = 0.0
    judging: float = 0.0
    late: float = 0.0
    backlog: int = 0


@dataclass
class KeepingUp:
    """The worker's restart and what followed; `restored` and `scored` are seconds after it began.

    At `restored` it had begun to apply what came meanwhile, at `scored` every series had a score of
    a sample that was younger than two steps.
    """

    series: int
    model_bytes: int
    prepared: float = 0.0
    restored: float = 0.0
    scored: float = 0.0
    stretches: list[Stretch] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def measure(
    series: int = 10_000,
    seconds: float = 120.0,
    shapes: int = 24,
    rows: int = 4320,
    *,
    first: bool = False,
    core: int = 0,
) -> KeepingUp:
    """Prepare, restart the worker, wait until it is warm, and watch it for so long.

    `first` lets the service and the load run before all other programs; it needs root.
    """
    begun = time.monotonic()
    newest_ms = round(time.time() * 1000) // STEP_MS * STEP_MS
    learned = trained.learn(shapes, rows, newest_ms)
    pin = f"worker:{core}"
    with _rules_file() as rules, Service(pin=pin, alert_rules=rules) as service:
        settings = Settings(data_dir=service.data)
        key = service.tenant(TENANT)
        places = trained.save_models(
            service.data, derive(settings.secret(), "models"), TENANT, series, learned
        )
        asyncio.run(trained.register(settings, TENANT, series, learned, places))
        found = KeepingUp(series, sum(place.length for place in places))
        # the history ends with the last tick before the samples that are sent
        ticks = round(time.time() * 1000 - newest_ms) // STEP_MS + 1 + series // 4000
        trained.record(service.redis, TENANT, series, learned, ticks)
        found.prepared = time.monotonic() - begun
        load = _Load(service, key, series, learned, newest_ms, ticks)
        with load:
            load.wait_for_round()
            _restart(service, load, found, first=first)
            found.stretches.append(load.watch("ordinary work", seconds))
            if wrong := load.errors:
                found.problems.append(f"{wrong} requests failed: {load.said}")
        if "Traceback" in (log := service.log()):
            found.problems.append(log)
    service.remove()
    return found


def _restart(service: Service, load: "_Load", found: KeepingUp, *, first: bool) -> None:
    """End the worker, and follow the next until all is scored."""
    begun = 0.0

    def is_warm() -> bool:
        if not found.restored and load.position() != before:
            found.restored = time.monotonic() - begun
        return load.is_scored()

    begun = service.restart("worker")
    if first:
        put_first([os.getpid(), *(pid for role in service.pids.values() for pid in role)])
    before = load.position()
    found.stretches.append(load.watch("after a restart", 1800.0, is_warm))
    found.scored = time.monotonic() - begun


@contextmanager
def _rules_file() -> Iterator[Path]:
    """The rules that ship, and two over all series that are sent."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        more = _RULES.format(metric=trained.METRIC).replace("\nalert_rules:\n", "")
        shipped = (_ROOT / "alert_rules.yaml").read_text()
        head, mark, tail = shipped.partition("\nalert_rules:\n")
        file.write(head + mark + more + tail)
        file.flush()
        yield Path(file.name)


class _Load:
    """Sends a point of each series every step, reads now and then, and waits for some scores."""

    def __init__(
        self,
        service: Service,
        key: str,
        series: int,
        shapes: list[Shape],
        newest_ms: int,
        ticks: int,
    ) -> None:
        self.service, self._count, self._shapes = service, series, shapes
        self._newest_ms, self._tick, self._first = newest_ms, ticks, ticks
        self._headers = {"Authorization": f"Bearer {key}"}
        groups = np.array_split(np.arange(series), min(_GROUPS, series))
        self._groups = [group.tolist() for group in groups]
        self._labels = [dict(series_of(n).labels[1:]) for n in range(series)]
        self._probed = [
            [series_of(n).derived(SCORE).id for n in group[:: max(1, len(group) // _PROBES)]]
            for group in self._groups
        ]
        self._scores = [series_of(n).derived(SCORE).id for n in range(series)]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._round = threading.Event()
        self._pending: dict[tuple[int, int], float] = {}
        self._waits: list[float] = []
        self._recorded: list[float] = []
        self._read: list[float] = []
        self._sent = 0
        self.errors, self.said = 0, ""
        settings = Settings()
        self._bucket_ms = round(settings.chunk_seconds * 1000)
        self._shard = keys.shard_of(TENANT, settings.log_shards)
        work = (self._send_all, self._read_some, self._look)
        self._threads = [threading.Thread(target=one, daemon=True) for one in work]

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_round(self) -> None:
        """Return when every series was sent once."""
        self._round.wait()

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.service.url, headers=self._headers, timeout=30, trust_env=False
        )

    def _send_all(self) -> None:
        with self._client() as client:
            while not self._stop.is_set():
                t_ms = self._newest_ms + (self._tick + 1) * STEP_MS
                values = [shape.at(self._tick) for shape in self._shapes]
                for number, group in enumerate(self._groups):
                    due = (t_ms + number * STEP_MS // len(self._groups)) / 1000
                    if self._stop.wait(max(0.0, due - time.time())):
                        return
                    samples = [
                        {
                            "name": trained.METRIC,
                            "labels": self._labels[n],
                            "value": values[n % len(values)],
                            "timestamp": t_ms / 1000,
                        }
                        for n in group
                    ]
                    self._send(client, number, t_ms, samples)
                self._tick += 1
                self._round.set()

    def _send(
        self, client: httpx.Client, number: int, t_ms: int, samples: list[dict[str, object]]
    ) -> None:
        begun = time.monotonic()
        answer = client.post("/analytics/metrics", json=samples)
        ended = time.monotonic()
        with self._lock:
            self._recorded.append(ended - begun)
            if answer.is_success:
                self._sent += len(samples)
                self._pending.update(((probe, t_ms), ended) for probe in self._probed[number])
            else:
                self.errors += 1
                self.said = f"{answer.status_code} {answer.text[:200]}"

    def _read_some(self) -> None:
        """A page's worth of one series, twice a second."""
        with self._client() as client:
            number = 0
            while not self._stop.wait(0.5):
                number = (number + 7919) % self._count
                begun = time.monotonic()
                answer = client.get(
                    f"/analytics/series/{series_of(number).hex}/samples",
                    params={"start": time.time() - 3600},
                )
                with self._lock:
                    self._read.append(time.monotonic() - begun)
                    if not answer.is_success:
                        self.errors += 1
                        self.said = f"{answer.status_code} {answer.text[:200]}"

    def _look(self) -> None:
        """Note which of the scores that are waited for have come."""
        while not self._stop.wait(_LOOK):
            with self._lock:
                waiting = set(self._pending)
            if not waiting:
                continue
            there = self._newest_of({series for series, _ in waiting}, 64)
            now = time.monotonic()
            with self._lock:
                for series, t_ms in waiting:
                    if t_ms in there[series]:
                        self._waits.append(now - self._pending.pop((series, t_ms)))

    def _newest_of(self, series: set[int], count: int) -> dict[int, list[int]]:
        """Times of the newest samples of each series, as they stand in the newest chunk."""
        bucket = round(time.time() * 1000) // self._bucket_ms
        pipe = self.service.redis.pipeline(transaction=False)
        for one in series:
            pipe.getrange(keys.chunk(self._shard, TENANT, one, bucket), -16 * count, -1)
        return {
            one: np.frombuffer(raw, POINT)["t"].tolist() if raw else []
            for one, raw in zip(series, pipe.execute(), strict=True)
        }

    def is_scored(self) -> bool:
        """Whether a sample that was sent in the last two rounds is scored, of each series."""
        oldest = self._newest_ms + max(self._first, self._tick - 1) * STEP_MS
        newest = self._newest_of(set(self._scores), 1)
        return all(t and t[-1] > oldest for t in newest.values())

    def metrics(self) -> Metrics:
        """What the service tells of itself."""
        return metrics.read(self.service.url)

    def watch(
        self, what: str, seconds: float, until: Callable[[], bool] = lambda: False
    ) -> Stretch:
        """What happens for so long, or until `until()`."""
        before, used = self.metrics(), self.service.read()
        with self._lock:
            self._waits, self._recorded, self._read, self._sent = [], [], [], 0
        begun = time.monotonic()
        seen = Stretch(what)
        over = False
        while not over:
            time.sleep(1.0)
            seen.backlog = max(seen.backlog, self._waiting())
            seen.late = max(seen.late, self.metrics().largest("offbeat_worker_late_seconds"))
            over = until() or time.monotonic() - begun >= seconds
        after, reading = self.metrics(), self.service.read()
        seen.seconds = time.monotonic() - begun
        with self._lock:
            seen.samples, seen.errors = self._sent, self.errors
            quantiles = np.quantile(self._waits or [0.0], (0.5, 0.99, 1.0))
            seen.score_p50, seen.score_p99, seen.score_max = map(float, quantiles)
            seen.unscored = sum(
                time.monotonic() - at > LIMIT_SECONDS for at in self._pending.values()
            )
            seen.record_p99 = float(np.quantile(self._recorded or [0.0], 0.99))
            seen.read_p99 = float(np.quantile(self._read or [0.0], 0.99))
        seen.cpu = {
            role: (reading.cpu[role] - cpu) / seen.seconds for role, cpu in used.cpu.items()
        }
        seen.worker_bytes, seen.store_bytes = reading.worker_bytes, reading.store_bytes
        more = after.since(before)
        seen.points_scored = more("offbeat_points_scored_total") / seen.seconds
        seen.samples_stored = more("offbeat_samples_stored_total") / seen.seconds
        seen.rules_evaluated = more("offbeat_rules_evaluated_total") / seen.seconds
        seen.scoring = _mean(more, "offbeat_scoring_seconds")
        seen.judging = _mean(more, "offbeat_judging_seconds")
        return seen

    def _waiting(self) -> int:
        count = self.service.redis.xlen(keys.log(self._shard))
        assert isinstance(count, int)
        return count

    def position(self) -> object:
        """Up to where the worker has applied the log."""
        return self.service.redis.get(keys.position(self._shard))


def _mean(more: Callable[[str], float], name: str) -> float:
    return more(f"{name}_sum") / max(1.0, more(f"{name}_count"))
