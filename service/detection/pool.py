"""Where trainings run: processes beside the scheduler's, so that nothing else waits for them.

They take what CPU the others leave: the lowest priority, and a rest after each training where a
share is set.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import structlog
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds after which idle processes end.
_IDLE_SECONDS = 120
#: A process that computes with several threads would only take turns with its siblings.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LOWEST = 19
#: Seconds between a process' looks at whether its scheduler lives.
_LOOK_SECONDS = 1.0

#: Waited for before each training.
Gate = Callable[[], Awaitable[None]]


class Executor(Protocol):
    """Where functions of arrays run. `run` waits until there is room."""

    @property
    def place(self) -> str:
        """Where that is, in a word or two."""
        ...

    @property
    def running(self) -> int:
        """How many run at present."""
        ...

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function, importable by its name, returns; raises what it raises."""
        ...

    def close(self) -> None:
        """End it, also what is running."""
        ...


class LocalPool:
    """Up to `processes` trainings at a time on this machine. Processes start with the first one.

    `share` of their time is spent training, at `nice`; `gate` is waited for before each.
    """

    def __init__(
        self, processes: int, *, nice: int = _LOWEST, share: float = 1.0, gate: Gate | None = None
    ) -> None:
        self._processes, self._nice, self._share, self._gate = processes, nice, share, gate
        self._room = asyncio.Semaphore(processes)
        self.running = 0
        self._alone = asyncio.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._single: ProcessPoolExecutor | None = None

    @property
    def place(self) -> str:
        """`1 process`, `3 processes`."""
        return f"{self._processes} process{'es' if self._processes > 1 else ''}"

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns.

        Raises what it raises, and RuntimeError if its process died, again when it ran alone: so
        that one training that takes too much memory takes none of the others with it.
        """
        async with self._room:
            if self._gate is not None:
                await self._gate()
            self.running += 1
            try:
                result, seconds = await self._run(function, arguments)
            finally:
                self.running -= 1
            if self._share < 1:
                await asyncio.sleep(seconds * (1 / self._share - 1))
        return result

    async def _run(
        self, function: Callable[..., T], arguments: tuple[object, ...]
    ) -> tuple[T, float]:
        if self._pool is None:
            self._pool = self._made(self._processes)
        pool = self._pool
        try:
            return await _in(pool, function, arguments)
        except (BrokenProcessPool, ShutdownExecutorError) as error:
            if self._pool is pool:
                self._pool = None
                log.warning("training process died", reason=str(error).split("\n")[0][:300])
                await asyncio.to_thread(_end, pool)
        async with self._alone:
            self._single = single = self._made(1)
            try:
                return await _in(single, function, arguments)
            finally:
                self._single = None
                await asyncio.to_thread(_end, single)

    def _made(self, processes: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=processes,
            timeout=_IDLE_SECONDS,
            env=_ONE_THREAD,
            initializer=prepare_process,
            initargs=(self._nice, os.getpid()),
        )

    def close(self) -> None:
        """End the processes, also those that are training."""
        pools, self._pool, self._single = (self._pool, self._single), None, None
        for pool in pools:
            if pool is not None:
                pool.shutdown(wait=True, kill_workers=True)


async def _in(
    pool: ProcessPoolExecutor, function: Callable[..., T], arguments: tuple[object, ...]
) -> tuple[T, float]:
    # starting processes takes a moment, which is not the event loop's
    future = await asyncio.to_thread(pool.submit, timed, function, *arguments)
    result: tuple[T, float] = await asyncio.wrap_future(future)
    return result


def _end(pool: ProcessPoolExecutor) -> None:
    with contextlib.suppress(RuntimeError):
        pool.shutdown(wait=False, kill_workers=True)


def timed(function: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """What the function returns, and the CPU seconds that it took."""
    begun = time.process_time()
    return function(*arguments), time.process_time() - begun


def prepare_process(nice: int, parent: int) -> None:
    """What a process does before its first training."""
    yield_to_others(nice)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Wait until the scheduler has ended, also if it was killed; then nobody takes what is made."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def yield_to_others(nice: int) -> None:
    """Let this process, which is a child of ours, run only while others leave the CPU idle.

    At the lowest priority the kernel is told, too, that it computes and nobody waits for it, so
    that it is not woken in others' stead. What the system refuses is left.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    if nice == _LOWEST and hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
