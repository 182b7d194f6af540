"""A receiver that misbehaves as told, and a running API."""

import asyncio
import json
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.domain.tenants import Role
from service.settings import Settings
from service.storage.embedded import EmbeddedStore
from service.wiring import prepare, wired
from tests.support.roles import end, environment_of, start_role, wait_ready, wait_until

KEY = "ob_test_key"


@dataclass
class Receiver:
    """Answers as planned, in turn; then 200. A plan is (status, headers, body) or a word."""

    url: str = ""
    plan: deque[Any] = field(default_factory=deque)
    forever: Any = None
    bodies: list[list[dict[str, Any]]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def wait_requests(self, count: int) -> None:
        wait_until(lambda: len(self.bodies) >= count, 20, f"{len(self.bodies)} requests came")

    def values(self, name: str, **labels: str) -> list[float]:
        return [
            s["value"]
            for s in self.samples
            if s["name"] == name and labels.items() <= s["labels"].items()
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 50
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        receiver.headers.append({k.lower(): v for k, v in self.headers.items()})
        receiver.bodies.append(body)
        planned = receiver.plan.popleft() if receiver.plan else receiver.forever
        if planned == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            return
        if planned == "hang":
            receiver.released.wait(30)
            self.close_connection = True
            return
        if planned is None:
            receiver.samples += body
            planned = (200, {}, {"accepted": len(body)})
        status, headers, answer = planned
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.receiver
    finally:
        server.receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Api:
    """A running `offbeat api`, which can be stopped and started again, and its stores."""

    url: str
    key: str
    settings: Settings
    environment: dict[str, str]
    log: Path
    process: Any = None

    def start(self) -> None:
        self.process = start_role("api", self.environment, self.log)
        wait_ready(self.url, self.process, self.log)

    def kill(self) -> None:
        end(self.process, signal.SIGKILL)


@pytest.fixture
def api(store: EmbeddedStore, tmp_path: Path) -> Iterator[Api]:
    """Started, with a writer's key of tenant acme, on an empty store."""
    database = f"sqlite:///{tmp_path / 'offbeat.db'}"
    environment = environment_of(tmp_path, store.url, database)
    settings = Settings(data_dir=tmp_path, redis_url=store.url, database_url=database)

    async def make() -> str:
        await prepare(settings)
        async with wired(settings) as parts:
            await parts.redis.flushall()
            await parts.tenants.create("acme", "Acme", "test")
            return (await parts.keys.create("acme", Role.WRITER, "test", "test"))[1]

    key = asyncio.run(make())
    url = f"http://127.0.0.1:{environment['OFFBEAT_PORT']}"
    api = Api(url, key, settings, environment, tmp_path / "log.txt")
    api.start()
    try:
        yield api
    finally:
        api.kill()
