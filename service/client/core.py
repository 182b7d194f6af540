"""What both clients share: everything but threads, tasks and sockets."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit

from service import __version__
from service.client.answers import Backoff, Later, Refused, Taken, TooMuch, judge
from service.client.batch import Batch, Queue
from service.client.instruments import Counter, Gauge, Instrument, Summary
from service.client.results import NAMED_MAX, FlushResult, Rejection
from service.client.samples import Sample, Target, Targets, encode, finite, milliseconds

log = logging.getLogger("offbeat.client")

#: Told at once the first time, then what gathered in a minute.
_LOG_SECONDS = 60.0
_FOREVER = 3600.0
_INSTRUMENTS_MAX = 10_000

Kind = TypeVar("Kind", bound=Instrument)

OnDrop = Callable[[int, str], None]
OnReject = Callable[[Sequence[Rejection]], None]
Labels = Mapping[str, str] | Callable[[], Mapping[str, str]]


class Options(TypedDict, total=False):
    """Of both clients. Units: seconds and samples.

    `flush_seconds` (1): how long samples gather; `batch_size` (1000): samples of one request;
    `queue_max` (100,000): samples that wait at most, of more the oldest are dropped; `labels`: put
    on every sample, or a function that gives them, which a forked child calls anew;
    `on_drop(count, reason)` and `on_reject(rejections)`: called where the sending is done;
    `backoff_seconds` (0.5, 30): first and longest wait after a failure; `clock`: Unix seconds.
    """

    flush_seconds: float
    batch_size: int
    queue_max: int
    labels: Labels | None
    on_drop: OnDrop | None
    on_reject: OnReject | None
    backoff_seconds: tuple[float, float]
    clock: Callable[[], float]


class Core:
    """Records, and decides what is sent when. Samples' times are `clock`'s, waits monotonic."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        flush_seconds: float = 1.0,
        batch_size: int = 1000,
        queue_max: int = 100_000,
        labels: Labels | None = None,
        on_drop: OnDrop | None = None,
        on_reject: OnReject | None = None,
        backoff_seconds: tuple[float, float] = (0.5, 30.0),
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be http:// or https:// with a host, not {url!r:.200}")
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError("key must be an API key; it is empty or holds odd characters")
        if not 0 < flush_seconds <= _FOREVER:
            raise ValueError(f"flush_seconds must be in (0, 3600], not {flush_seconds}")
        if not 1 <= batch_size <= queue_max:
            raise ValueError("batch_size must be 1 at least and queue_max at most")
        if not 0 < backoff_seconds[0] <= backoff_seconds[1]:
            raise ValueError("backoff_seconds must be a first wait and a longest one")
        self.url = url.rstrip("/") + "/analytics/metrics"
        self.headers = {
            "X-API-Key": key,
            "Content-Type": "application/json",
            "User-Agent": f"offbeat-python/{__version__}",
        }
        self._flush_seconds, self._batch_size, self._queue_max = (
            flush_seconds,
            batch_size,
            queue_max,
        )
        self._labels, self._on_drop, self._on_reject = labels, on_drop, on_reject
        self._waits, self._clock = backoff_seconds, clock
        self._logged_at = -math.inf
        self._unlogged: dict[str, int] = {}
        self._start()

    def _start(self) -> None:
        # A signal handler that records may interrupt a thread that holds it.
        self.lock = threading.RLock()
        self.queue = Queue(self._queue_max)
        common = self._labels() if callable(self._labels) else self._labels
        self._targets = Targets(common or {})
        self._instruments: dict[tuple[type[Instrument], Target], Instrument] = {}
        self._backoff = Backoff(*self._waits)
        self._limit = self._batch_size
        self._upto = 0
        self._next_tick = time.monotonic() + self._flush_seconds
        self._not_before = -math.inf
        self._asked_to_wait = False
        self.closed = False
        self._ended = False

    def forked(self) -> None:
        """In a forked child: an empty queue, counters at zero, open if the parent's was."""
        closed, instruments = self.closed, self._instruments
        self._start()
        self.closed = closed
        for (kind, _), instrument in instruments.items():
            # The program still holds them; from now on they carry the labels of the child.
            instrument.restart(self._again)
            self._instruments[kind, instrument.targets[0]] = instrument

    def _again(self, target: Target) -> Target:
        return self._targets.of(target.name, dict(target.own), target.metric_type)

    def record(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None,
        timestamp: float | datetime | None,
        metric_type: str,
    ) -> bool:
        """Queue one sample; whether the sender should be woken."""
        t_ms = round(self._clock() * 1000) if timestamp is None else milliseconds(name, timestamp)
        sample = Sample(self._targets.of(name, labels, metric_type), finite(name, value), t_ms)
        with self.lock:
            if self.closed:
                self.queue.drop(1, "the client is closed")
                return False
            self.queue.put(sample)
            return len(self.queue) == self._batch_size

    def counter(self, name: str, labels: Mapping[str, str] | None) -> Counter:
        """The counter of that series, made at the first call."""
        return self._instrument(Counter, [self._targets.of(name, labels, "counter")])

    def gauge(self, name: str, labels: Mapping[str, str] | None) -> Gauge:
        """The gauge of that series, made at the first call."""
        return self._instrument(Gauge, [self._targets.of(name, labels, "gauge")])

    def summary(self, name: str, labels: Mapping[str, str] | None) -> Summary:
        """The summary of that name and labels, made at the first call."""
        parts = (("_count", "counter"), ("_sum", "counter"), ("_max", "gauge"))
        return self._instrument(
            Summary, [self._targets.of(name + end, labels, kind) for end, kind in parts]
        )

    def _instrument(self, kind: type[Kind], targets: list[Target]) -> Kind:
        with self.lock:
            found = self._instruments.get((kind, targets[0]))
            if isinstance(found, kind):
                return found
            made = kind(self, tuple(targets))
            if len(self._instruments) < _INSTRUMENTS_MAX:
                self._instruments[kind, targets[0]] = made
            else:
                self.queue.drop(1, f"there are {_INSTRUMENTS_MAX} counters and the like already")
            return made

    def collect(self) -> None:
        """Queue the values of instruments."""
        if not self._instruments:
            return
        t_ms, now = round(self._clock() * 1000), time.monotonic()
        with self.lock:
            if self.closed:
                return
            for instrument in self._instruments.values():
                instrument.collect(lambda t, v: self.queue.put(Sample(t, v, t_ms)), now)

    def ask_flush(self) -> int:
        """Send what there is now; the number that `is_settled` takes.

        Cuts a backoff of our own short, never a wait that the server asked for.
        """
        self.collect()
        with self.lock:
            self._upto = self.queue.recorded
            if not self._asked_to_wait:
                self._not_before = -math.inf
            return self._upto

    def is_settled(self, number: int) -> bool:
        """Whether it is known what became of all samples recorded before that."""
        with self.lock:
            return self.queue.settled >= number

    def close(self) -> int:
        """Take no more; the number for `is_settled`."""
        number = self.ask_flush()
        with self.lock:
            self.closed = True
        return number

    def next_batch(self) -> Batch | None:
        """What to send now, if anything."""
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._flush_seconds
            self.collect()
            with self.lock:
                self._upto = self.queue.recorded
        with self.lock:
            due = self.queue.settled < self._upto or len(self.queue) >= self._batch_size
            if not due or self.queue.busy or not len(self.queue) or now < self._not_before:
                return None
            return self.queue.take(self._limit)

    def delay(self) -> float:
        """Seconds until `next_batch` may have something, unless it is woken before."""
        now = time.monotonic()
        with self.lock:
            waiting = self._not_before > now and self.queue.settled < self._upto
            until = min(self._not_before, self._next_tick) if waiting else self._next_tick
        return max(0.0, until - now)

    def body(self, batch: Batch) -> bytes:
        """The request's body."""
        return encode(batch.samples)

    def answered(
        self, batch: Batch, status: int, headers: Mapping[str, str], content: bytes
    ) -> None:
        """Take note of an answer."""
        verdict = judge(status, headers, content, time.time())
        if isinstance(verdict, Later):
            self.failed(batch, verdict.reason, verdict.seconds)
            return
        with self.lock:
            self._asked_to_wait = False
            self._not_before = -math.inf
            self._backoff.reset()
            size = len(batch.samples)
            if isinstance(verdict, TooMuch) and size > 1:
                self._limit = max(1, size // 2)
                self.queue.put_back(batch)
                return
            self.queue.error = None
            self._limit = min(self._batch_size, self._limit * 2)
            if isinstance(verdict, Taken):
                refused = min(verdict.refused, size)
                named: Iterable[tuple[int, str]] = verdict.reasons.items()
            else:
                refused = size
                reasons = verdict.reasons if isinstance(verdict, Refused) else {}
                named = ((i, reasons.get(i, verdict.reason)) for i in range(min(size, NAMED_MAX)))
            self.queue.settle(
                batch,
                refused,
                [_rejection(batch.samples[i], why) for i, why in named if 0 <= i < size],
            )

    def failed(self, batch: Batch, reason: str, seconds: float | None = None) -> None:
        """The batch was not taken; it is sent again after a while."""
        with self.lock:
            self.queue.put_back(batch)
            self.queue.error = reason
            self._asked_to_wait = seconds is not None
            wait = max(self._backoff.next(), seconds or 0.0)
            self._not_before = time.monotonic() + wait

    def abandon(self) -> None:
        """Whoever sent was stopped; what was on its way waits again."""
        with self.lock:
            self.queue.recall()

    def result(self) -> FlushResult:
        """What became of samples since the last result."""
        with self.lock:
            return self.queue.result()

    def last_result(self) -> FlushResult:
        """The result of closing; what was not sent is told to all who want to know."""
        with self.lock:
            result = self.queue.result()
        if result.unsent and not self._ended:
            reason = f"not sent when the client closed: {result.error}"
            if self._on_drop:
                _call(self._on_drop, result.unsent, reason)
            log.warning("offbeat: %d samples were lost: %s", result.unsent, reason)
        self._ended = True
        return result

    def tell(self) -> None:
        """Call back and log what was lost since the last call."""
        with self.lock:
            drops, rejected, rejections = self.queue.untold()
        for reason, count in drops.items():
            if self._on_drop:
                _call(self._on_drop, count, reason)
        if rejections and self._on_reject:
            _call(self._on_reject, rejections)
        for what, count in (*drops.items(), *_by_reason(rejected, rejections)):
            self._unlogged[what] = self._unlogged.get(what, 0) + count
        now = time.monotonic()
        if self._unlogged and now - self._logged_at >= _LOG_SECONDS:
            told, self._unlogged, self._logged_at = self._unlogged, {}, now
            for what, count in list(told.items())[:10]:
                log.warning("offbeat: %d samples were lost: %s", count, what)


def reason_of(error: Exception) -> str:
    """An exception in words; some of httpx' have no text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _by_reason(rejected: int, rejections: Sequence[Rejection]) -> list[tuple[str, int]]:
    if not rejected:
        return []
    why = rejections[0].reason if rejections else "no reason given"
    return [(f"refused by the server, the first because: {why}", rejected)]


def _call(callback: Callable[..., object], *arguments: Any) -> None:
    try:
        callback(*arguments)
    except Exception:
        log.exception("offbeat: a callback failed")


def _rejection(sample: Sample, reason: str) -> Rejection:
    target, value, t_ms = sample
    return Rejection(target.name, dict(target.labels), value, t_ms / 1000, reason)
