"""Trainings on a Dask cluster (extra `scale`), with this machine to fall back on.

Functions and arrays go out, arrays come back; the cluster's workers reach no store of ours. They
run the same version of the program. What a lost worker had begun, Dask runs on another; while the
scheduler is gone, or has no workers, trainings run here.
"""

import asyncio
import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog
from threadpoolctl import threadpool_limits

from service import __version__
from service.detection.pool import Gate, LocalPool
from service.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from distributed import Client

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Seconds to wait for the scheduler, between two looks at the cluster, and before it is tried again
#: after it was gone.
_PATIENCE = 5.0
_LOOK = 2.0
_AGAIN = 15.0
#: Trainings at a time for each thread of the cluster: the next one's arrays come while one runs.
_AHEAD = 2


class Outcome(NamedTuple):
    """What became of a function on another machine; what else goes wrong there is not its fault."""

    value: Any
    error: Exception | None


class _AwayError(Exception):
    """The cluster cannot do it now."""


class DaskPool:
    """Trainings on the cluster of the scheduler at `address`, else in `local`.

    ConfigurationError if Dask is not installed.
    """

    def __init__(self, address: str, local: LocalPool, *, gate: Gate | None = None) -> None:
        check_installed()
        self._address, self._local, self._gate = address, local, gate
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._not_before = 0.0
        self._threads = 0
        self._looked = 0.0
        self._running = 0
        self._freed = asyncio.Event()
        self._away = False

    @property
    def place(self) -> str:
        """`Dask, 8 threads`, or where trainings run while it is away."""
        if self._away:
            return self._local.place
        return f"Dask, {self._threads} thread{'' if self._threads == 1 else 's'}"

    @property
    def running(self) -> int:
        """How many run at present, there and here."""
        return min(self._running, self._threads) + self._local.running

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What the function returns; raises what it raises."""
        client = await self._ready()
        while client is not None and self._running >= self._threads * _AHEAD:
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), _LOOK)
            client = await self._ready()
        if client is None:
            return await self._local.run(function, *arguments)
        self._running += 1
        try:
            if self._gate is not None:
                await self._gate()
            outcome = await self._there(client, function, arguments)
        except _AwayError as error:
            await self._gone(client, str(error))
            return await self._local.run(function, *arguments)
        finally:
            self._running -= 1
            self._freed.set()
        if outcome.error is not None:
            raise outcome.error
        result: T = outcome.value
        return result

    def close(self) -> None:
        """Leave the cluster; end what runs here."""
        client, self._client = self._client, None
        if client is not None:
            _leave(client)
        self._local.close()

    async def _ready(self) -> "Client | None":
        """The cluster, if it has threads for us."""
        async with self._connecting:
            now = time.monotonic()
            if self._client is not None and now - self._looked < _LOOK:
                return self._client
            if self._client is None and now < self._not_before:
                return None
            client = self._client
            try:
                if client is None:
                    client = await asyncio.to_thread(_connect, self._address)
                threads = await self._threads_of(client)
            except (OSError, TimeoutError, ValueError, _AwayError) as error:
                reason = str(error) or type(error).__name__
                await self._leave(client, reason)
                return None
            self._client, self._threads, self._looked = client, threads, time.monotonic()
            if self._away:
                log.info("training on Dask goes on", threads=threads)
            self._away = False
            return client

    async def _threads_of(self, client: "Client") -> int:
        """Threads of the cluster; `_AwayError` if there are none, or no scheduler."""
        if client.status != "running":
            raise _AwayError("the connection to the Dask scheduler is lost")
        try:
            found: dict[str, int] = await asyncio.to_thread(_threads, client)
        except Exception as error:
            raise _AwayError(f"the Dask scheduler does not answer: {error!r}"[:300]) from error
        if not found:
            raise _AwayError("the Dask scheduler has no workers")
        return sum(found.values())

    async def _there(
        self, client: "Client", function: Callable[..., Any], arguments: tuple[object, ...]
    ) -> Outcome:
        """Run it on the cluster. `_AwayError` if that fails and the function is not the reason."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[Outcome] = loop.create_future()

        def tell(future: Any) -> None:  # in a thread of Dask's
            try:
                outcome = future.result(timeout=_PATIENCE)
            except BaseException as error:  # of many trees, also cancelled ones of two kinds
                reason = f"{type(error).__name__}: {error}"[:300]
                _hand_over(loop, came, None, _AwayError(reason))
            else:
                _hand_over(loop, came, outcome, None)

        try:
            future = client.submit(guarded, __version__, function, *arguments, pure=False)
            future.add_done_callback(tell)
        except Exception as error:
            raise _AwayError(repr(error)[:300]) from error
        try:
            while not came.done():
                await asyncio.wait({came}, timeout=_LOOK)
                if not came.done():
                    await self._threads_of(client)
            return came.result()
        except (asyncio.CancelledError, _AwayError):
            came.cancel()
            with contextlib.suppress(Exception):
                future.release()  # nobody waits for it any more
            raise

    async def _gone(self, client: "Client", reason: str) -> None:
        """A training was lost: was it the cluster, or the training?"""
        async with self._connecting:
            if self._client is not client:
                return  # another has said so
            try:
                await self._threads_of(client)
            except _AwayError as error:
                await self._leave(client, str(error))
            else:
                log.warning("training on Dask failed, tried here", reason=reason)

    async def _leave(self, client: "Client | None", reason: str) -> None:
        if not self._away:
            log.warning("training without Dask", address=self._address, reason=reason)
        self._away, self._client = True, None
        self._not_before = time.monotonic() + _AGAIN
        self._freed.set()
        if client is not None:
            await asyncio.to_thread(_leave, client)


def check_installed() -> None:
    """ConfigurationError if Dask is not."""
    if importlib.util.find_spec("distributed") is None:
        raise ConfigurationError(
            "DASK_SCHEDULER_ADDRESS is set and Dask is not installed: pip install 'offbeat[scale]'"
        )


def guarded(version: str, function: Callable[..., Any], *arguments: Any) -> Outcome:
    """Call the function on a worker of the cluster, one thread of arithmetic for each training.

    RuntimeError if the worker has another version of the program, whose models are none of ours.
    """
    if version != __version__:
        raise RuntimeError(f"the worker has version {__version__}, we have {version}")
    with threadpool_limits(1):
        try:
            return Outcome(function(*arguments), None)
        except Exception as error:  # the caller's to judge
            return Outcome(None, error)


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    came: "asyncio.Future[Outcome]",
    outcome: Outcome | None,
    error: Exception | None,
) -> None:
    def settle() -> None:
        if came.done():
            return
        if outcome is not None:
            came.set_result(outcome)
        else:
            came.set_exception(error or _AwayError("no answer"))

    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(settle)


def _connect(address: str) -> "Client":
    from distributed import Client

    logging.getLogger("distributed").handlers.clear()  # it writes to the terminal on its own
    logging.getLogger("distributed").propagate = True
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":  # what matters of it we say ourselves
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return Client(address, timeout=_PATIENCE, set_as_default=False, name="offbeat")


def _threads(client: "Client") -> dict[str, int]:
    """Of each worker. It gives up in time, or it would hold one of our threads for ever."""
    found: dict[str, int] = client.nthreads(callback_timeout=_PATIENCE)
    return found


def _leave(client: "Client") -> None:
    with contextlib.suppress(Exception):
        client.close(timeout=1)
