"""Values that are kept in the program and recorded once a flush interval."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from service.client.samples import Target, finite

Put = Callable[[Target, float], None]

#: A value that does not change is recorded again after this time: a flat line, not a gap.
REPEAT_SECONDS = 60.0


class Guard(Protocol):
    """Gives the lock of the client, which is another one in a forked child."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What is held while a value changes."""


class Instrument:
    """Base of those below: knows when it is to be recorded."""

    def __init__(self, guard: Guard, targets: tuple[Target, ...]) -> None:
        self._guard = guard
        self.targets = targets
        self._changed = False
        self._recorded_at: float | None = None

    def collect(self, put: Put, now: float) -> None:
        """Record what changed, or what has not been recorded for a minute. The lock is held."""
        due = self._recorded_at is not None and now - self._recorded_at >= REPEAT_SECONDS
        if self._changed or due:
            self._write(put, self._changed)
            self._changed, self._recorded_at = False, now

    def restart(self, again: Callable[[Target], Target]) -> None:
        """Start at zero, in a forked child: the parent goes on with its own."""
        self.targets = tuple(again(target) for target in self.targets)
        self._changed, self._recorded_at = False, None
        self._zero()

    def _zero(self) -> None:
        raise TypeError(f"{type(self).__name__} has no value")

    def _write(self, put: Put, changed: bool) -> None:
        raise TypeError(f"{type(self).__name__} has no value")


class Counter(Instrument):
    """A running total that starts at 0 with the program and only grows."""

    value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Add; `ValueError` if it is negative or no number."""
        by = finite(self.targets[0].name, by)
        if by < 0:
            raise ValueError(f"counter {self.targets[0].name} cannot go down by {-by:g}")
        with self._guard.lock:
            self.value += by
            self._changed = True

    def _zero(self) -> None:
        self.value = 0.0

    def _write(self, put: Put, changed: bool) -> None:
        put(self.targets[0], self.value)


class Gauge(Instrument):
    """A value that goes up and down; the last one of an interval is recorded."""

    value = 0.0

    def set(self, value: float) -> None:
        """Be this value; `ValueError` if it is no finite number."""
        value = finite(self.targets[0].name, value)
        with self._guard.lock:
            self.value = value
            self._changed = True

    def inc(self, by: float = 1.0) -> None:
        """Add, or take away if negative."""
        by = finite(self.targets[0].name, by)
        with self._guard.lock:
            self.value += by
            self._changed = True

    def dec(self, by: float = 1.0) -> None:
        """Take away."""
        self.inc(-by)

    def _zero(self) -> None:
        self.value = 0.0

    def _write(self, put: Put, changed: bool) -> None:
        put(self.targets[0], self.value)


class Summary(Instrument):
    """Observations as `_count` and `_sum` (running totals) and `_max` (of each interval)."""

    count = 0
    sum = 0.0
    _max = 0.0

    def observe(self, value: float) -> None:
        """Add one observation; `ValueError` if it is no finite number."""
        value = finite(self.targets[0].name, value)
        with self._guard.lock:
            self._max = max(self._max, value) if self._changed else value
            self.count += 1
            self.sum += value
            self._changed = True

    def _zero(self) -> None:
        self.count, self.sum = 0, 0.0

    def _write(self, put: Put, changed: bool) -> None:
        count, total, most = self.targets
        put(count, float(self.count))
        put(total, self.sum)
        if changed:
            put(most, self._max)


class Timer:
    """`with client.timer(...) as timer:` records the seconds of the block, however it ends."""

    def __init__(
        self,
        record: Callable[[str, float, Mapping[str, str] | None], None],
        name: str,
        labels: Mapping[str, str] | None,
    ) -> None:
        self._record, self._name, self._labels = record, name, labels
        self._started = 0.0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self._record(self._name, self.seconds, self._labels)
