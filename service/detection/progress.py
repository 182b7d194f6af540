"""Where training stands: counted while it runs, told through Redis to whoever shows it."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from service import telemetry
from service.detection.due import Due
from service.domain.clock import Clock
from service.domain.errors import OffbeatError
from service.storage import keys
from service.storage.redis import ask

log = structlog.get_logger(__name__)

#: Seconds between two lines of the log, between two messages, and for which a message counts.
_LOG_SECONDS = 10.0
_TELL_SECONDS = 1.0
_KEPT_SECONDS = 30
#: Seconds over which the pace is measured, and series that must have left the queue for one.
_PACE_SECONDS = 120.0
_PACE_FROM = 5


class Queue(msgspec.Struct, frozen=True):
    """A tenant's part of a run: series that wait, and that are done.

    `first_waiting` and `first_done` are those of them that had no model.
    """

    waiting: int = 0
    done: int = 0
    failed: int = 0
    first_waiting: int = 0
    first_done: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """A run of training at a moment. `since` is Unix seconds, `per_minute` 0 until it is known."""

    since: float
    waiting: int
    running: int
    done: int
    failed: int
    per_minute: float
    paused: str
    place: str
    tenants: dict[str, Queue]

    @property
    def seconds_left(self) -> float | None:
        """Until nobody waits, None while the pace is not known."""
        return None if not self.per_minute else 60 * self.waiting / self.per_minute


class Learning(msgspec.Struct, frozen=True):
    """A tenant's training at a moment: `state` is idle, running or paused (`why`).

    `seconds_left` is until the tenant's last series is done, as tenants take turns; None if the
    pace is not known.
    """

    state: str = "idle"
    why: str = ""
    place: str = ""
    since: float | None = None
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    first_waiting: int = 0
    first_done: int = 0
    per_minute: float = 0.0
    seconds_left: float | None = None


class Progress:
    """Counts one run after the other.

    `paused()`, `place()` and `running()` say why it waits, where it runs and how many at once.
    """

    def __init__(
        self,
        clock: Clock,
        paused: Callable[[], str],
        place: Callable[[], str],
        running: Callable[[], int],
    ) -> None:
        self._clock, self._paused, self._place, self._running = clock, paused, place, running
        self._since = 0.0
        self._waiting: dict[str, set[str]] = {}
        self._first: dict[str, set[str]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._left: deque[float] = deque()

    def begin(self, due: Sequence[Due]) -> None:
        """A run begins, of these series."""
        self._since = self._clock.now()
        self._waiting, self._first = {}, {}
        for one in due:
            self._waiting.setdefault(one.tenant, set()).add(one.series.hex)
            if one.first_time:
                self._first.setdefault(one.tenant, set()).add(one.series.hex)
        self._counts.clear()
        self._left.clear()

    def left(self, one: Due, outcome: str) -> None:
        """A series is no longer waiting: `trained`, `failed`, `cold` or `skipped`."""
        self._waiting[one.tenant].discard(one.series.hex)
        first = one.series.hex in self._first.get(one.tenant, ())
        if first:
            self._first[one.tenant].discard(one.series.hex)
        self._counts[one.tenant, outcome] += 1
        if first and outcome == "trained":
            self._counts[one.tenant, "first"] += 1
        self._left.append(time.monotonic())

    def snapshot(self) -> Snapshot:
        """The run now."""
        tenants = {
            tenant: Queue(
                waiting=len(waiting),
                done=self._counts[tenant, "trained"] + self._counts[tenant, "failed"],
                failed=self._counts[tenant, "failed"],
                first_waiting=len(self._first.get(tenant, ())),
                first_done=self._counts[tenant, "first"],
            )
            for tenant, waiting in self._waiting.items()
        }
        return Snapshot(
            since=self._since,
            waiting=sum(queue.waiting for queue in tenants.values()),
            running=self._running(),
            done=sum(queue.done for queue in tenants.values()),
            failed=sum(queue.failed for queue in tenants.values()),
            per_minute=round(self._per_minute(), 1),
            paused=self._paused(),
            place=self._place(),
            tenants={t: q for t, q in tenants.items() if q.waiting or q.done},
        )

    def _per_minute(self) -> float:
        now = time.monotonic()
        while self._left and now - self._left[0] > _PACE_SECONDS:
            self._left.popleft()
        if len(self._left) < _PACE_FROM:
            return 0.0
        return 60 * len(self._left) / max(1.0, now - self._left[0])


class Board:
    """The run that the leading scheduler tells of, for whoever shows it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tell(self, snapshot: Snapshot) -> None:
        """Show this; it is forgotten after half a minute."""
        await ask(
            self._redis, "SET", keys.TRAINING, msgspec.json.encode(snapshot), "EX", _KEPT_SECONDS
        )

    async def clear(self) -> None:
        """Nothing is trained."""
        await ask(self._redis, "DEL", keys.TRAINING)

    async def of(self, tenant: str) -> Learning:
        """Where a tenant's training stands."""
        stored: bytes | None = await ask(self._redis, "GET", keys.TRAINING)
        if stored is None:
            return Learning()
        try:
            now = msgspec.json.decode(stored, type=Snapshot)
        except msgspec.DecodeError:  # of another version of the program
            return Learning()
        return learning(now, tenant)


def learning(now: Snapshot, tenant: str) -> Learning:
    """A tenant's part of a run."""
    own = now.tenants.get(tenant)
    if own is None or not own.waiting:
        return Learning(done=own.done if own else 0, failed=own.failed if own else 0)
    # tenants take turns: before its last series come as many of each other
    before = sum(min(queue.waiting, own.waiting) for queue in now.tenants.values())
    return Learning(
        state="paused" if now.paused else "running",
        why=now.paused,
        place=now.place,
        since=now.since,
        waiting=own.waiting,
        running=min(now.running, own.waiting),
        done=own.done,
        failed=own.failed,
        first_waiting=own.first_waiting,
        first_done=own.first_done,
        per_minute=now.per_minute,
        seconds_left=60 * before / now.per_minute if now.per_minute else None,
    )


@contextlib.asynccontextmanager
async def told(progress: Progress, board: Board) -> AsyncIterator[None]:
    """Tell of a run, in metrics, on the board and in the log, until the end of the block."""
    telling = asyncio.create_task(_tell(progress, board))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        telemetry.TRAINING_WAITING.set(0)
        telemetry.TRAINING_RUNNING.set(0)
        with contextlib.suppress(OffbeatError):  # it is forgotten by itself
            await board.clear()


async def _tell(progress: Progress, board: Board) -> None:
    said = time.monotonic()
    while True:
        await asyncio.sleep(_TELL_SECONDS)
        now = progress.snapshot()
        telemetry.TRAINING_WAITING.set(now.waiting)
        telemetry.TRAINING_RUNNING.set(now.running)
        with contextlib.suppress(OffbeatError):  # the run itself says what is the matter
            await board.tell(now)
        if now.waiting and time.monotonic() - said >= _LOG_SECONDS:
            said = time.monotonic()
            log.info("training", **_line(now))


def _line(now: Snapshot) -> dict[str, Any]:
    """What a line of the log says of a run."""
    left = now.seconds_left
    return {
        "done": now.done,
        "waiting": now.waiting,
        "running": now.running,
        "failed": now.failed,
        "per_minute": now.per_minute,
        "minutes_left": None if left is None else round(left / 60, 1),
        "place": now.place,
        **({"paused": now.paused} if now.paused else {}),
    }
