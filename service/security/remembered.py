"""What is asked of the database at each request, remembered for a moment."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from service.domain.clock import Clock
from service.domain.errors import Unavailable

#: A database that takes longer is down: who waits hears of it within two seconds.
_ANSWER_SECONDS = 1.5
_AWAY = "the database does not answer; nothing was kept, try again"

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by key for `seconds`, of at most `most` keys.

    Requests that ask for the same at the same time wait for one answer: when it is over for a key
    that hundreds use, the database is asked once.
    """

    def __init__(self, clock: Clock, seconds: float, most: int = 50_000) -> None:
        self._clock, self._seconds, self._most = clock, seconds, most
        self._values: dict[K, tuple[float, V]] = {}
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(
        self, key: K, ask: Callable[[], Awaitable[V]], lasting: Callable[[V], bool] | None = None
    ) -> V:
        """The value, `ask`ed for unless it is known; kept where `lasting` says so."""
        now = self._clock.now()
        known = self._values.get(key)
        # A clock that was set back must not prolong what is remembered.
        if known is not None and 0 <= now - known[0] < self._seconds:
            return known[1]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, now, ask, lasting))
            task.add_done_callback(_heard)
        try:
            # One that gives up does not take it from the others.
            return await asyncio.wait_for(asyncio.shield(task), _ANSWER_SECONDS)
        except TimeoutError as error:
            raise Unavailable(_AWAY) from error

    async def _ask(
        self,
        key: K,
        now: float,
        ask: Callable[[], Awaitable[V]],
        lasting: Callable[[V], bool] | None,
    ) -> V:
        this = asyncio.current_task()
        self._values.pop(key, None)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                value = await ask()
        except TimeoutError as error:
            raise Unavailable(_AWAY) from error
        finally:
            current = self._asking.get(key) is this
            if current:
                del self._asking[key]
        if current and (lasting is None or lasting(value)):
            if len(self._values) >= self._most:
                self._values.pop(next(iter(self._values)))
            self._values[key] = (now, value)
        return value

    def forget(self, over: Callable[[K, V], bool]) -> None:
        """Drop what is known where `over(key, value)`, and keep no answer that is on its way."""
        self._asking.clear()
        for key in [k for k, (_, value) in self._values.items() if over(k, value)]:
            del self._values[key]


def _heard(task: "asyncio.Task[V]") -> None:
    """An error is for those who wait; when all of them have given up, it is for nobody."""
    if not task.cancelled():
        task.exception()
