"""Each role as a process: what `offbeat api`, `worker` and `scheduler` run.

A role loads what it needs and no more: the web framework takes as long to load as all the rest, and
a worker that is started again is waited for.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator
from typing import Protocol

import structlog

from service import telemetry
from service.domain.errors import Unavailable
from service.settings import Settings
from service.wiring import Wiring, wired

log = structlog.get_logger(__name__)

#: Whoever asks the API hears within two seconds that a store is down. The others have time: their
#: reads and writes are large, and nobody waits for them.
_API_PATIENCE, _PATIENCE = 1.5, 5.0
#: Seconds between two looks for a store that is down at the start.
_LOOK = 0.5


class _Runs(Protocol):
    async def run(self, stop: asyncio.Event) -> None: ...


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
    patience = _API_PATIENCE if role == "api" else _PATIENCE
    async with wired(settings, patience=patience) as parts:
        if role == "api":
            await _run_api(parts, stop)
            return
        work = _work_of(role, parts)
        gc.freeze()  # what is loaded by now stays
        async with _health(parts, stop):
            if role == "scheduler" or await _laid_out(parts, stop):
                await work.run(stop)


def _work_of(role: str, parts: Wiring) -> _Runs:
    if role == "worker":
        from service.worker import Worker

        return Worker(parts)
    from service.scheduler import Scheduler

    return Scheduler(parts)


async def _run_api(parts: Wiring, stop: asyncio.Event) -> None:
    """Serve; while the store has not said that its data is laid out as we expect, 503."""
    from service.api.gate import Gate
    from service.app import create_app
    from service.serving import serve

    gate = Gate(create_app(parts))
    gc.freeze()
    settings = parts.settings
    serving = asyncio.create_task(
        serve(gate, settings.host, settings.port, stop, settings.listen_fd)
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
    from service.api.health import create_health_app
    from service.serving import serve

    serving = asyncio.create_task(serve(create_health_app(parts), parts.settings.host, port, stop))
    try:
        yield
    finally:
        await serving
