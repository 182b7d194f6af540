"""Each role as a process: what `offbeat api`, `worker` and `scheduler` run."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import structlog
import uvicorn
from starlette.types import ASGIApp

from service import telemetry
from service.api.gate import Gate
from service.app import create_app, create_health_app
from service.domain.errors import Unavailable
from service.scheduler import Scheduler
from service.settings import Settings
from service.wiring import Wiring, wired
from service.worker import Worker

log = structlog.get_logger(__name__)

#: Whoever asks the API hears within two seconds that a store is down. The others have time: their
#: reads and writes are large, and nobody waits for them.
_API_PATIENCE, _PATIENCE = 1.5, 5.0
#: Seconds between two looks for a store that is down at the start.
_LOOK = 0.5


_GC_THRESHOLDS = (100_000, 50, 100)


class _Runs(Protocol):
    async def run(self, stop: asyncio.Event) -> None: ...


class _Server(uvicorn.Server):
    """A uvicorn that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_role(role: str, settings: Settings) -> None:
    """Run one role until SIGTERM or SIGINT."""
    telemetry.configure_logging(settings.log_level, settings.log_format, role)
    # A request makes tens of thousands of objects that live for a moment, and none in a cycle:
    # looking for cycles as often as Python does would cost as much again as reading the request.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(role, settings))


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.Loop


async def _run(role: str, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    patience = _API_PATIENCE if role == "api" else _PATIENCE
    async with wired(settings, patience=patience) as parts:
        if role == "api":
            await _run_api(parts, stop)
            return
        work: _Runs = Worker(parts) if role == "worker" else Scheduler(parts)
        async with _health(parts, stop):
            if role == "scheduler" or await _laid_out(parts, stop):
                await work.run(stop)


async def _run_api(parts: Wiring, stop: asyncio.Event) -> None:
    """Serve; while the store has not said that its data is laid out as we expect, 503."""
    gate = Gate(create_app(parts))
    settings = parts.settings
    serving = asyncio.create_task(
        _serve(gate, settings.host, settings.port, stop, settings.listen_fd)
    )
    checking = asyncio.create_task(_laid_out(parts, stop))
    try:
        await asyncio.wait({serving, checking}, return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            gate.is_open = checking.result()
    finally:
        if not gate.is_open:
            stop.set()
        await asyncio.gather(serving, checking)


async def _laid_out(parts: Wiring, stop: asyncio.Event) -> bool:
    """Wait until the store's layout is known to be ours; False if told to stop before.

    `ConfigurationError` if it is another.
    """
    interruption = telemetry.Interruption()
    while not stop.is_set():
        try:
            await parts.check_layout()
        except Unavailable as error:
            if interruption.is_news(str(error)):
                log.warning("waiting for the store", reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK)
        else:
            return True
    return False


@contextlib.asynccontextmanager
async def _health(parts: Wiring, stop: asyncio.Event) -> AsyncIterator[None]:
    port = parts.settings.health_port
    if not port:
        yield
        return
    serving = asyncio.create_task(_serve(create_health_app(parts), parts.settings.host, port, stop))
    try:
        yield
    finally:
        await serving


async def _serve(
    app: ASGIApp, host: str, port: int, stop: asyncio.Event, listen_fd: int = -1
) -> None:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        lifespan="off",
    )
    server = _Server(config)
    # A copy of the one that was handed down: it stays open for those who share it.
    handed = None if listen_fd < 0 else [socket.socket(fileno=os.dup(listen_fd))]
    serving = asyncio.create_task(server.serve(sockets=handed))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
