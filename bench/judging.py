"""Many rules over many series: what judging all of them takes, and how soon one is told.

A service is started with a rule for each of its series, nine in ten of the simple form and one in
ten with a rate. First all are judged at their interval; then single samples break one rule each,
and the time from the answer to the sample's request to the notification at a receiver is taken.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import numpy as np

from bench import metrics
from bench.service import Service
from service.demo.receiver import Received, Receiver

TENANT = "bench"
#: Seconds that judging all of ten thousand rules may take, and that news of a sample may.
JUDGING_TARGET, NOTICE_TARGET = 1.0, 1.0
_RATES = 10
_AT_ONCE = 2000
_THRESHOLD = 100.0


@dataclass(frozen=True)
class Result:
    """`judging` is seconds for all rules once; notices are seconds from answer to notification."""

    rules: int
    series: int
    judging: float
    worker_cpu: float
    notice_p50: float
    notice_p99: float
    notice_max: float
    notices: int
    lost: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def problems(self) -> list[str]:
        """What was promised and not kept."""
        found = []
        if self.judging > JUDGING_TARGET:
            found.append(f"{self.rules:,} rules took {self.judging:.2f} s")
        if self.lost:
            found.append(f"{self.lost} notifications never came")
        if self.notice_p99 > NOTICE_TARGET:
            found.append(f"a notification came {self.notice_p99:.2f} s after its sample (p99)")
        return found


def measure(rules: int, notices: int, evaluations: int = 3) -> Result:
    """Start a service, judge, and break some rules."""
    service = Service(outgoing_allow_private=True, max_alerts_per_hour=1_000_000)
    heard = _Heard()
    try:
        with service, Receiver(heard) as receiver:
            key = service.tenant(TENANT, rules=min(rules, 10_000), active_alerts=1_000_000)
            with _client(service, key) as http:
                hook = {"type": "webhook", "url": receiver.url}
                http.put("/alerts/channels/hook", json=hook).raise_for_status()
                _record(http, range(rules), 1.0)
                _make_rules(service, key, rules)
                with _kept_alive(service, key, rules):
                    judging, cpu = _judged(service, rules, evaluations)
                    waits = [_noticed(http, heard, n, rules) for n in range(notices)]
    finally:
        service.remove()
    came = [wait for wait in waits if wait is not None]
    p50, p99, longest = np.quantile(came or [0.0], (0.5, 0.99, 1.0)).tolist()
    return Result(rules, rules, judging, cpu, p50, p99, longest, notices, notices - len(came))


class _Heard:
    """When each rule's notification came."""

    def __init__(self) -> None:
        self._came: dict[str, float] = {}
        self._news = threading.Condition()

    def __call__(self, delivery: Received) -> None:
        at = time.monotonic()
        with self._news:
            for alert in delivery.body.get("alerts", ()):
                if alert.get("status") == "firing":
                    self._came.setdefault(alert["labels"]["alertname"], at)
            self._news.notify_all()

    def of(self, rule: str, seconds: float) -> float | None:
        """When it came, None if it does not come in time."""
        with self._news:
            self._news.wait_for(lambda: rule in self._came, seconds)
            return self._came.get(rule)


def _client(service: Service, key: str) -> httpx.Client:
    return httpx.Client(
        base_url=service.url, headers={"X-API-Key": key}, timeout=60, trust_env=False
    )


def _metric(n: int) -> str:
    return "served_total" if n % _RATES == 0 else "load"


def _record(http: httpx.Client, numbers: range, value: float) -> None:
    """A sample of each of the series, now."""
    for first in range(0, len(numbers), _AT_ONCE):
        samples = [
            {"name": _metric(n), "value": value, "labels": {"n": str(n)}}
            for n in numbers[first : first + _AT_ONCE]
        ]
        http.post("/analytics/metrics", json=samples).raise_for_status()


def _make_rules(service: Service, key: str, rules: int) -> None:
    with _client(service, key) as http, ThreadPoolExecutor(8) as pool:

        def make(n: int) -> None:
            form: dict[str, Any] = {"name": f"rule {n}", "severity": "high", "channels": ["hook"]}
            if n % _RATES == 0:
                form["expr"] = f'sum by (n) (rate(served_total{{n="{n}"}}[5m])) > {_THRESHOLD}'
            else:
                query = {"query": f'load{{n="{n}"}}', "condition": "gt", "threshold": _THRESHOLD}
                form |= query
            http.post("/alerts/rules", json=form).raise_for_status()

        list(pool.map(make, range(rules)))


@contextmanager
def _kept_alive(service: Service, key: str, rules: int) -> Iterator[None]:
    """Every series has a new sample each minute, or its last one would be too old."""
    over = threading.Event()

    def keep() -> None:
        with _client(service, key) as http:
            while not over.wait(60):
                _record(http, range(rules), 1.0)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _judged(service: Service, rules: int, evaluations: int) -> tuple[float, float]:
    """Seconds that judging every rule took, and the share of a core that the worker used."""
    deadline = time.monotonic() + 300
    before, used, begun = metrics.read(service.url), service.read(), time.monotonic()
    while (more := metrics.read(service.url).since(before))(
        "offbeat_rules_evaluated_total"
    ) < rules * evaluations:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not every rule was judged in time: {service.log()}")
        time.sleep(0.5)
    cpu = service.read().cpu["worker"] - used.cpu["worker"]
    taken = more("offbeat_judging_seconds_sum") / more("offbeat_judging_seconds_count")
    return taken, cpu / (time.monotonic() - begun)


def _noticed(http: httpx.Client, heard: _Heard, number: int, rules: int) -> float | None:
    """Seconds from the answer to a sample that breaks a rule to its notification."""
    n = number * 7919 % rules
    n += n % _RATES == 0  # of the simple form: a rate needs more than one sample
    _record(http, range(n, n + 1), _THRESHOLD + 1)
    answered = time.monotonic()
    came = heard.of(f"rule {n}", 30)
    time.sleep(0.3)  # a moment of rest between two
    return None if came is None else max(0.0, came - answered)
