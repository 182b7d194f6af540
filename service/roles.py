"""Each role as a process: what `offbeat api`, `worker` and `scheduler` run."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from service import telemetry
from service.app import create_app, create_health_app
from service.scheduler import Scheduler
from service.settings import Settings
from service.wiring import Wiring, wired
from service.worker import Worker


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
    async with wired(settings) as parts:
        if role == "api":
            await parts.check_layout()
            await _serve(create_app(parts), settings.host, settings.port, stop)
            return
        work: _Runs = Worker(parts) if role == "worker" else Scheduler(parts)
        async with _health(parts, stop):
            await work.run(stop)


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


async def _serve(app: FastAPI, host: str, port: int, stop: asyncio.Event) -> None:
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
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
