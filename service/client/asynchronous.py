"""The client for asyncio: one task sends."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self, Unpack

import httpx

from service.client.batch import Batch
from service.client.client import drain
from service.client.core import Core, Options, log, reason_of
from service.client.process import watch
from service.client.results import FlushResult
from service.client.surface import Surface


class AsyncClient(Surface):
    """`Client` for asyncio: the same, but that `flush` and `close` are awaited.

    The task that sends starts with the first call made inside a running event loop, and anew in
    another loop. `record` may be called from other threads, too.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = 10.0,
        exit_seconds: float = 2.0,
        verify: ssl.SSLContext | bool = True,
        **options: Unpack[Options],
    ) -> None:
        self._core = Core(url, key, **options)
        self._timeout, self._exit_seconds, self._verify = timeout, exit_seconds, verify
        self._stopped = False
        self._forget()
        watch(self)

    def _forget(self) -> None:
        self._idle = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Condition()

    async def flush(self, timeout: float | None = None) -> FlushResult:  # noqa: ASYNC109
        """Send what was recorded before, `timeout` seconds long at most (a request's if None).

        Cancelling it loses nothing: the task goes on.
        """
        await self._settle(self._core.ask_flush(), timeout)
        return self._core.result()

    async def close(self, timeout: float | None = None) -> FlushResult:  # noqa: ASYNC109
        """Take no more, send the rest, `timeout` seconds long at most; `unsent` is lost."""
        try:
            await self._settle(self._core.close(), timeout)
            return self._core.last_result()
        finally:
            self._stopped = True
            task = self._task
            if task is not None and self._loop is asyncio.get_running_loop():
                task.cancel()
                await asyncio.wait([task])

    async def _settle(self, number: int, seconds: float | None) -> None:
        if seconds is None:
            seconds = self._timeout
        if self._stopped:  # nothing is sent any more
            seconds = 0.0
        self._nudge()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async with self._settled:
                    await self._settled.wait_for(lambda: self._core.is_settled(number))
        self._core.tell()

    def _nudge(self, start_only: bool = False) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not None and not self._stopped and not self._sends_in(running):
            self._core.abandon()
            self._forget()
            self._loop = running
            self._task = running.create_task(self._run(), name="offbeat-client")
            self._task.add_done_callback(self._ended)
            self._idle = False
        if start_only or self._loop is None:
            return
        if self._loop is running:
            self._wake.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended; the next one sends
                self._loop.call_soon_threadsafe(self._wake.set)

    def _sends_in(self, running: asyncio.AbstractEventLoop) -> bool:
        if self._task is None or self._task.done() or self._loop is None:
            return False
        # A loop that runs in another thread goes on sending.
        return self._loop is running or self._loop.is_running()

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._idle = True

    async def _run(self) -> None:
        async with httpx.AsyncClient(
            headers=self._core.headers, timeout=self._timeout, verify=self._verify
        ) as http:
            while True:
                batch = self._core.next_batch()
                if batch is not None:
                    await self._send(http, batch)
                self._core.tell()
                async with self._settled:
                    self._settled.notify_all()
                if batch is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._core.delay()):
                            await self._wake.wait()
                    self._wake.clear()

    async def _send(self, http: httpx.AsyncClient, batch: Batch) -> None:
        try:
            answer = await http.post(self._core.url, content=self._core.body(batch))
        except httpx.HTTPError as error:
            self._core.failed(batch, reason_of(error))
        except asyncio.CancelledError:
            self._core.abandon()
            raise
        except Exception as error:
            log.exception("offbeat: sending failed")
            self._core.failed(batch, reason_of(error))
        else:
            self._core.answered(batch, answer.status_code, answer.headers, answer.content)

    def _forked(self) -> None:
        self._core.forked()
        self._forget()

    def _at_exit(self) -> None:
        """Send what a loop that has ended left behind."""
        if self._stopped:
            return
        self._stopped = True
        self._core.abandon()
        number = self._core.close()
        if not self._core.is_settled(number):
            with httpx.Client(
                headers=self._core.headers, timeout=self._exit_seconds, verify=self._verify
            ) as http:
                drain(self._core, http, number, self._exit_seconds)
        self._core.tell()
        self._core.last_result()

    async def __aenter__(self) -> Self:
        self._nudge(start_only=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
