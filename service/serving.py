"""Answers HTTP with an application until told to stop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    """A uvicorn that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp, host: str, port: int, stop: asyncio.Event, listen_fd: int = -1
) -> None:
    """Listen, or share the socket that was handed down as `listen_fd`; returns after `stop`."""
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
