"""Real receivers on loopback: HTTP with scripted manners, and SMTP."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

HANG = -1  # a status that never comes


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """Answers `script` in order and then its last entry for ever: (status, headers, body)."""

    url: str = ""
    script: list[tuple[int, dict[str, str], bytes]] = field(
        default_factory=lambda: [(200, {}, b"ok")]
    )
    received: list[Received] = field(default_factory=list)
    connects: int = 0
    drip_seconds: float = 0.0  # between the single bytes of the answer's body

    def answer(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        """From now on answer these, then the last one for ever."""
        self.script = [(status, headers or {}, b"answer") for status in statuses]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.strip().split("\r\n")
                headers = {k.lower(): v.strip() for k, v in (r.split(":", 1) for r in rest)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.received.append(Received(line.split(" ")[1], headers, body))
                status, extra, content = self.script[0]
                if len(self.script) > 1:
                    self.script.pop(0)
                if status == HANG:
                    await asyncio.Event().wait()
                out = "".join(f"{k}: {v}\r\n" for k, v in extra.items())
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{out}Content-Length: {len(content)}\r\n\r\n".encode()
                )
                if self.drip_seconds:
                    for byte in content:
                        await asyncio.sleep(self.drip_seconds)
                        writer.write(bytes([byte]))
                        await writer.drain()
                else:
                    writer.write(content)
                await writer.drain()


@asynccontextmanager
async def http_receiver(port: int = 0) -> AsyncIterator[HttpReceiver]:
    """A receiver on 127.0.0.1, gone at the end with all its connections."""
    receiver = HttpReceiver()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await receiver.handle(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass
class MailReceiver:
    """Takes mails, or answers `reply` to every DATA, `refuse` to receivers that contain it."""

    host: str = "127.0.0.1"
    port: int = 0
    reply: str = "250 OK"
    refuse: str = ""
    recipients: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse and self.refuse in address:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not self.reply.startswith("250"):
            return self.reply
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.extend(envelope.rcpt_tos)
        return self.reply


@contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    """A mail server on 127.0.0.1."""
    receiver = MailReceiver()
    controller = Controller(receiver, hostname="127.0.0.1", port=free_port())
    controller.start()
    receiver.port = controller.port
    try:
        yield receiver
    finally:
        controller.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
