"""Answers expressions for tenants: so many at once, each within its bounds, beside the event loop.

A query reads what it needs (`promql.stored`), then is worked out in a thread. Whoever waits for a
turn waits on its own time; a thread keeps its turn until it ends, also when nobody waits any more.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from service.query.promql.budget import Budget, Limits, QueryTimeout
from service.query.promql.evaluate import LOOKBACK_MS, Result, Settings, evaluate
from service.query.promql.expressions import Expr
from service.query.promql.fetch import Fetched, plan
from service.query.promql.stored import Stored
from service.query.promql.vectors import Steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """An expression at some times. `seconds` is how long it may take, if less than any may."""

    expr: Expr
    steps: Steps
    lookback_ms: int = LOOKBACK_MS
    seconds: float | None = None


class Queries:
    """`at_once` queries in this process, of them `each` of one tenant."""

    def __init__(self, stored: Stored, limits: Limits, *, at_once: int, each: int) -> None:
        self._stored = stored
        self._limits = limits
        self._turns = _Turns(at_once, each)
        self._pool = ThreadPoolExecutor(at_once, "query")
        self._running: set[Budget] = set()

    async def answer(self, tenant: str, query: Query, shown: Callable[[Result], T]) -> T:
        """What `shown` makes of the result; it runs in the query's thread.

        Raises what `evaluate` does; `QueryTimeout` as soon as the time is over.
        """
        seconds = min(query.seconds or self._limits.seconds, self._limits.seconds)
        budget = Budget(replace(self._limits, seconds=seconds))
        self._running.add(budget)
        try:
            async with asyncio.timeout(seconds) as clock:
                return await self._answered(tenant, query, budget, shown)
        except TimeoutError as error:
            if clock.expired():
                raise QueryTimeout(budget.too_late) from error
            raise
        finally:
            self._running.discard(budget)
            budget.end()

    async def _answered(
        self, tenant: str, query: Query, budget: Budget, shown: Callable[[Result], T]
    ) -> T:
        settings = Settings(query.lookback_ms, limits=budget.limits)
        done = await self._turns.take(tenant)
        try:
            raw_from = self._stored.raw_from_ms()
            planned = plan(query.expr, query.steps, settings, raw_from)
            source = await self._stored.fetch(tenant, planned.spans, raw_from, budget.renewed())
            job = self._pool.submit(
                _work, planned.expr, source, query.steps, settings, budget, shown
            )
        except BaseException:
            done()
            raise
        loop = asyncio.get_running_loop()

        def over(_: "Future[Any]") -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for a turn
                loop.call_soon_threadsafe(done)

        job.add_done_callback(over)
        return await asyncio.wrap_future(job)

    @property
    def running(self) -> int:
        """How many there are, those that wait for their turn included."""
        return len(self._running)

    def close(self) -> None:
        """End what runs."""
        for budget in self._running:
            budget.end()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _work(
    expr: Expr,
    source: Fetched,
    steps: Steps,
    settings: Settings,
    budget: Budget,
    shown: Callable[[Result], T],
) -> T:
    return shown(evaluate(expr, source, steps, settings, budget))


class _Turns:
    """Who may work now."""

    def __init__(self, whole: int, each: int) -> None:
        self._whole = asyncio.Semaphore(whole)
        self._each = each
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def take(self, tenant: str) -> Callable[[], None]:
        """Wait for a turn; call what it gives when it is over."""
        own = self._of.get(tenant)
        if own is None:
            own = self._of[tenant] = asyncio.Semaphore(self._each)
        await own.acquire()
        try:
            await self._whole.acquire()
        except BaseException:
            own.release()
            raise

        def done() -> None:
            own.release()
            self._whole.release()

        return done
