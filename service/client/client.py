"""The synchronous client: one daemon thread sends."""

import ssl
import threading
import time
from types import TracebackType
from typing import Self, Unpack

import httpx

from service.client.batch import Batch
from service.client.core import Core, Options, log, reason_of
from service.client.process import watch
from service.client.results import FlushResult
from service.client.surface import Surface


class Client(Surface):
    """Records metrics of a program; safe to use from any thread, and after a fork.

    `url` is the service's, `key` an API key that may record; `timeout`: of each step of a request,
    in seconds; `exit_seconds`: how long the end of the interpreter may be held up to send the rest;
    `verify`: a TLS context, or False to trust anyone. The other options are `core.Options`.
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
        self._inherited: list[httpx.Client] = []
        self._start()
        watch(self)

    def _start(self) -> None:
        self._idle = True
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._settled = threading.Condition()
        self._stopping = False
        self._http = httpx.Client(
            headers=self._core.headers, timeout=self._timeout, verify=self._verify
        )

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Send what was recorded before, `timeout` seconds long at most (a request's if None)."""
        self._settle(self._core.ask_flush(), timeout)
        return self._core.result()

    def close(self, timeout: float | None = None) -> FlushResult:
        """Take no more, send the rest, `timeout` seconds long at most; `unsent` is lost."""
        self._settle(self._core.close(), timeout)
        result = self._core.last_result()
        self._stopping = True
        self._wake.set()
        if self._thread is None:
            self._http.close()
        elif not result.unsent:
            # Nothing is on its way, so it ends at once, and closes its connections.
            self._thread.join(self._timeout)
        return result

    def _settle(self, number: int, timeout: float | None) -> None:
        if timeout is None:
            timeout = self._timeout
        if self._stopping:  # nothing is sent any more
            timeout = 0.0
        self._nudge()
        if self._thread is None and not self._stopping:  # an interpreter that ends starts no thread
            drain(self._core, self._http, number, timeout)
        with self._settled:
            self._settled.wait_for(lambda: self._core.is_settled(number), timeout)
        self._core.tell()

    def _nudge(self, start_only: bool = False) -> None:
        if self._idle:
            self._start_thread()
        if not start_only:
            self._wake.set()

    def _start_thread(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="offbeat-client", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return
                self._thread = thread
            self._idle = False

    def _run(self) -> None:
        while not self._stopping:
            batch = self._core.next_batch()
            if batch is not None:
                send(self._core, self._http, batch)
            self._core.tell()
            with self._settled:
                self._settled.notify_all()
            if batch is None and not self._stopping:
                self._wake.wait(self._core.delay())
                self._wake.clear()
        self._http.close()

    def _forked(self) -> None:
        # Closing the parent's connections here would log them off at the other end.
        self._inherited.append(self._http)
        self._core.forked()
        stopping = self._stopping
        self._start()
        self._stopping = stopping

    def _at_exit(self) -> None:
        if not self._stopping:
            self.close(self._exit_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def send(core: Core, http: httpx.Client, batch: Batch) -> None:
    """Send one batch and note what became of it; never raises."""
    try:
        answer = http.post(core.url, content=core.body(batch))
    except httpx.HTTPError as error:
        core.failed(batch, reason_of(error))
    except Exception as error:
        log.exception("offbeat: sending failed")
        core.failed(batch, reason_of(error))
    else:
        core.answered(batch, answer.status_code, answer.headers, answer.content)


def drain(core: Core, http: httpx.Client, number: int, timeout: float) -> None:
    """Send in the calling thread until all before `number` is settled or the time is over."""
    deadline = time.monotonic() + timeout
    while not core.is_settled(number) and (left := deadline - time.monotonic()) > 0:
        batch = core.next_batch()
        if batch is None:
            time.sleep(min(core.delay(), left))
        else:
            send(core, http, batch)
