"""A process that sends: bodies made beforehand, plain sockets, hand-made HTTP.

The parent tells it what to do over a pipe, in this order: `warm` sends one sample of each series,
so that all are known; `run` sends until the time is over; `verify` reads a sample of the series
back and compares every point with what was acknowledged.
"""

import asyncio
import contextlib
import multiprocessing
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, cast

import httpx
import numpy as np
import uvloop

from bench.bodies import PROTOCOLS, Bodies, Body, series_of

#: Samples lie between so many seconds before now and a little after it.
_BACK = 3300.0
_WINDOW = 3800.0
#: Series that are read back.
_READ_BACK = 24
#: What the largest run is thought to reach, to choose the distance of timestamps.
_SAMPLES_A_SECOND = 3e6
#: Seconds after the end of a paced run in which requests that are due may still be sent.
_GRACE = 2.0


@dataclass(frozen=True)
class Plan:
    """What to send, where to, and how fast (`rate` requests/s; 0: as fast as answers come)."""

    protocol: str
    per_request: int
    port: int
    key: str
    series: int = 10_000
    seconds: float = 5.0
    connections: int = 4
    rate: float = 0.0
    runs: int = 1
    metric: str = "node_cpu_seconds"


@dataclass
class Outcome:
    """What came of a run. Latencies are milliseconds, from when a request was due."""

    seconds: float = 0.0
    requests: int = 0
    samples: int = 0
    cpu: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    slowest: float = 0.0
    refused: int = 0  # 429
    unavailable: int = 0  # 503
    errors: int = 0  # any other that is no 2xx, and broken connections
    unsent: int = 0  # came due, and no connection was free until long after the end
    said: str = ""  # by the first error


@dataclass(slots=True)
class _Request:
    """One that is on its way."""

    body: Body
    group: int
    variant: int
    t_ms: int
    due: float


@dataclass(slots=True)
class _Tally:
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: int = 0
    unsent: int = 0
    said: str = ""


class _Http(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._request: _Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.idle.append(self)

    def send(self, request: _Request) -> None:
        """Send it; the load hears of the answer."""
        assert self._transport is not None
        self._request = request
        self._transport.write(request.body.request)

    def close(self) -> None:
        """Close it; no request is on its way."""
        assert self._transport is not None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._data = data
            return
        status = int(data[9:12])
        if status != 204:
            head = data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(data) < end + 4 + length:
                self._data = data
                return
        self._data = b""
        request, self._request = self._request, None
        assert request is not None
        self._load.answered(self, request, status, data[end + 4 :])

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, self._request)


class _Load:
    """Sends the bodies of a plan over some connections, and remembers what was acknowledged."""

    def __init__(self, plan: Plan, bodies: Bodies, step_ms: float, base_ms: int) -> None:
        self.idle: deque[_Http] = deque()
        self._plan = plan
        self._bodies = bodies
        self._free = [deque(enumerate(group)) for group in bodies.bodies]
        self._step_ms = step_ms
        self._base_ms = base_ms
        self._number = 0
        self._due: deque[float] = deque()
        self._in_flight = 0
        self._until = 0.0
        self._ended = asyncio.Event()
        self._tally = _Tally()
        self._stamps: dict[int, Any] = {}
        #: Group, variant, milliseconds, and whether it is known to be stored.
        self.sent: list[tuple[int, int, int, bool]] = []

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Http(self), "127.0.0.1", self._plan.port)

    async def once(self) -> None:
        """Send each group once, one after the other."""
        self._tally = _Tally()
        await self.connect()
        for _ in self._bodies.groups:
            self._ended.clear()
            self._send(self.idle.popleft(), time.perf_counter())
            await self._ended.wait()
        bad = {s: n for s, n in self._tally.statuses.items() if s // 100 != 2}
        if bad:
            raise RuntimeError(f"the service answered {bad}: {self._tally.said}")

    async def run(self, planned: float) -> Outcome:
        """Send for so many seconds and wait for the last answers."""
        self._tally = tally = _Tally()
        while self.idle:  # the service closes those that were silent for some seconds
            self.idle.popleft().close()
        for _ in range(self._plan.connections):
            await self.connect()
        begun, cpu = time.perf_counter(), time.process_time()
        self._until = begun + planned
        if self._plan.rate:
            await self._pace(begun, planned)
        else:
            for connection in list(self.idle):
                self.idle.remove(connection)
                self._send(connection, time.perf_counter())
        if self._in_flight:
            self._ended.clear()
            await asyncio.wait_for(self._ended.wait(), 120)
        seconds = time.perf_counter() - begun
        self._until = 0.0
        found = np.percentile(tally.latencies or [0.0], [50, 99, 99.9, 100])
        p50, p99, p999, slowest = found.tolist()
        wrong = {s: n for s, n in tally.statuses.items() if s // 100 != 2}
        refused, unavailable = wrong.pop(429, 0), wrong.pop(503, 0)
        return Outcome(
            seconds=seconds,
            requests=sum(tally.statuses.values()),
            samples=tally.acknowledged,
            cpu=time.process_time() - cpu,
            p50=p50,
            p99=p99,
            p999=p999,
            slowest=slowest,
            refused=refused,
            unavailable=unavailable,
            errors=sum(wrong.values()),
            unsent=tally.unsent,
            said=tally.said,
        )

    async def _pace(self, begun: float, seconds: float) -> None:
        """Requests come due at fixed times, whether the service keeps up or not."""
        count = int(seconds * self._plan.rate)
        for number in range(count):
            due = begun + number / self._plan.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            elif number % 16 == 0:
                await asyncio.sleep(0)
            self._due.append(due)
            if self.idle:
                self._send(self.idle.popleft(), self._due.popleft())
        if self._in_flight:
            self._ended.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _GRACE)
        self._tally.unsent = len(self._due)
        self._due.clear()

    def _send(self, connection: _Http, due: float) -> None:
        round_, group = divmod(self._number, len(self._free))
        self._number += 1
        variant, body = self._free[group].popleft()
        t_ms = self._base_ms + round(round_ * self._step_ms)
        if t_ms not in self._stamps:
            self._stamps.clear()
            self._stamps[t_ms] = self._bodies.stamp(t_ms)
        body.stamp(self._stamps[t_ms])
        self._in_flight += 1
        connection.send(_Request(body, group, variant, t_ms, due))

    def answered(self, connection: _Http, request: _Request, status: int, text: bytes) -> None:
        """Note the answer and send the next request, if one is due."""
        self._note(request, status, text)
        now = time.perf_counter()
        if self._due:
            self._send(connection, self._due.popleft())
        elif not self._plan.rate and now < self._until:
            self._send(connection, now)
        else:
            self.idle.append(connection)
            if not self._in_flight:
                self._ended.set()

    def lost(self, connection: _Http, request: _Request | None) -> None:
        """A connection broke off: count it as an error of status 0, and make another."""
        if connection in self.idle:
            self.idle.remove(connection)
        if request is not None:
            self._note(request, 0, b"the connection broke off")
            if not self._in_flight:
                self._ended.set()
        if self._until and time.perf_counter() < self._until:
            self._again = asyncio.create_task(self.connect())

    def _note(self, request: _Request, status: int, text: bytes) -> None:
        tally = self._tally
        tally.latencies.append((time.perf_counter() - request.due) * 1000)
        tally.statuses[status] += 1
        self._in_flight -= 1
        self._free[request.group].append((request.variant, request.body))
        good = status // 100 == 2
        if good:
            tally.acknowledged += len(self._bodies.groups[request.group])
        elif not tally.said:
            tally.said = f"{status}: {text[:300].decode(errors='replace')}"
        if good or status not in (429, 503):
            self.sent.append((request.group, request.variant, request.t_ms, good))

    def verify(self) -> str:
        """Compare what the API gives for some series with what was sent; what is wrong, or ""."""
        count = sum(map(len, self._bodies.groups))
        picked = np.unique(np.linspace(0, count - 1, _READ_BACK).astype(int)).tolist()
        size = len(self._bodies.groups[0])
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self._plan.port}",
            headers={"Authorization": f"Bearer {self._plan.key}"},
            timeout=60,
            trust_env=False,
        ) as client:
            for number in picked:
                mine = [item for item in self.sent if item[0] == number // size]
                expected = {
                    t_ms: float(self._bodies.ticks[variant, number]) / 1000
                    for _, variant, t_ms, _ in mine
                }
                doubtful = {t_ms for _, _, t_ms, good in mine if not good}
                series = series_of(self._plan.metric, number)
                found = client.get(
                    f"/analytics/series/{series.hex}/samples",
                    params={
                        "start": self._base_ms / 1000 - 0.0005,
                        "end": self._base_ms / 1000 + _WINDOW + 60,
                    },
                )
                if found.status_code != 200:
                    return f"{series}: {found.status_code} {found.text[:200]}"
                body = found.json()
                got = dict(zip(body["t"], body["v"], strict=True))
                certain = {t: v for t, v in expected.items() if t not in doubtful or t in got}
                if got != certain:
                    return (
                        f"{series}: {len(certain)} points were acknowledged, {len(got)} are read; "
                        f"missing {len(certain.keys() - got.keys())}, "
                        f"unknown {len(got.keys() - certain.keys())}, "
                        f"other values {sum(got[t] != certain[t] for t in got.keys() & certain)}"
                    )
        return ""


def _head(plan: Plan) -> bytes:
    protocol = PROTOCOLS[plan.protocol]
    lines = [
        f"POST {protocol.path} HTTP/1.1",
        f"Host: 127.0.0.1:{plan.port}",
        f"Authorization: Bearer {plan.key}",
        *protocol.headers,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _bodies(plan: Plan, per_request: int) -> Bodies:
    return Bodies(
        plan.protocol, plan.metric, plan.series, per_request, _head(plan), plan.connections
    )


async def _serve(pipe: "Connection[Any, Any]") -> None:
    plan: Plan = pipe.recv()
    bodies = _bodies(plan, plan.per_request)
    rounds = _SAMPLES_A_SECOND * plan.seconds / plan.series
    if plan.rate:
        rounds = plan.runs * plan.rate * (plan.seconds + 2) / len(bodies.groups)
    step_ms = float(np.clip(int(_WINDOW * 1000 / (rounds + 2)), 1, 1000))
    base_ms = round((time.time() - _BACK) * 1000)
    load = _Load(plan, bodies, step_ms, base_ms)
    # All series are made known in large requests, whatever is measured afterwards.
    warm = _Load(plan, _bodies(plan, 2000), step_ms, base_ms - 1000)
    while (command := await asyncio.to_thread(pipe.recv))[0] != "end":
        word, *arguments = command
        try:
            if word == "warm":
                await warm.once()
                pipe.send("")
            elif word == "run":
                seconds, delay = arguments
                await asyncio.sleep(delay)
                pipe.send(await load.run(seconds or plan.seconds))
            else:
                pipe.send(await asyncio.to_thread(load.verify))
        except Exception as error:
            pipe.send(error)


def _main(pipe: "Connection[Any, Any]") -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(pipe))


class Sender:
    """The process, seen from the parent. A context manager."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.send(plan)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> "Sender":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._pipe.send(("end",))
            self._process.join(10)
        self._process.kill()
        self._process.join()

    def _ask(self, word: str) -> Any:
        self._pipe.send((word,))
        found = self._pipe.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def warm(self) -> None:
        """Record one sample of each series."""
        self._ask("warm")

    def start(self, seconds: float = 0.0, delay: float = 0.0) -> None:
        """Begin to send, after `delay`; `result` waits for the end. 0: as long as planned."""
        self._pipe.send(("run", seconds, delay))

    def result(self) -> Outcome:
        """What came of the run that `start` began."""
        found = self._pipe.recv()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Outcome)
        return found

    def verify(self) -> str:
        """What is not as it was sent, or an empty text."""
        return str(self._ask("verify"))
