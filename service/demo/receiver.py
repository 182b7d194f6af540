"""A receiver on this machine: takes what Slack and a webhook would, and keeps it."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery: the path it came to (tenant/channel), its body and headers."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]


class Receiver:
    """An HTTP server on a free port; `heard` is called with each delivery."""

    def __init__(self, heard: Callable[[Received], None]) -> None:
        received: list[Received] = []
        self.received = received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = json.loads(self.rfile.read(length) or b"{}")
                delivery = Received(self.path.strip("/"), body, dict(self.headers))
                received.append(delivery)
                heard(delivery)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Stay quiet: `heard` speaks."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def sentence(delivery: Received) -> str:
    """What a person would read first of it."""
    body = delivery.body
    if "alerts" in body:
        alert = body["alerts"][0] if body["alerts"] else {}
        said = alert.get("annotations", {}).get("summary") or body.get("commonLabels", {}).get(
            "alertname", ""
        )
        return f"{body.get('status', '')}: {said}"
    return str(body.get("text", "")).splitlines()[0]
