"""What every request passes: an id, limits, safe headers, one line in the log, its metrics."""

import os
import re
import time
from collections import defaultdict
from http import HTTPStatus
from typing import TypeVar, overload

import structlog
from fastapi import FastAPI
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.api import problems
from service.settings import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Scripts, styles and pictures of our own files only; nothing may frame us.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

_HEADERS = {
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked for many times a second; the metrics count them, the log tells only of their failures.
_QUIET = frozenset(
    {
        "/healthz",
        "/readyz",
        "/metrics",
        "/analytics/metrics",
        "/api/v1/write",
        "/v1/metrics",
        "/api/v2/write",
        "/write",
    }
)


def install(app: FastAPI, settings: Settings) -> None:
    """Wrap `app`; bodies over the limit are 413 as soon as they are, declared or not."""
    app.add_middleware(Edge, body_max_bytes=settings.body_max_bytes)


class FirstHeaders(Headers):
    """Headers that are looked up by one name after the other, in one step each."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._first = dict(reversed(self.raw))

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, default: str | T, /) -> str | T: ...
    def get(self, key: str, default: str | T | None = None, /) -> str | T | None:
        """The first of that name."""
        found = self._first.get(key.lower().encode("latin-1"))
        return default if found is None else found.decode("latin-1")


class Edge:
    """The outermost layer of our own. Pure ASGI: it never touches a body but to count it."""

    def __init__(self, app: ASGIApp, body_max_bytes: int) -> None:
        self._app, self._body_max_bytes = app, body_max_bytes
        self._refusals: dict[str, telemetry.Interruption] = defaultdict(telemetry.Interruption)
        self._over_rates: dict[str, telemetry.Interruption] = defaultdict(telemetry.Interruption)
        self._meters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers, method = FirstHeaders(scope), scope["method"]
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = os.urandom(16).hex()
        # A request that waited behind another on its connection begins with that one's.
        structlog.contextvars.unbind_contextvars("tenant")
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = _Answer(send, request_id, bodiless=method == "HEAD")
        if method == "HEAD":
            # A copy: the server itself goes by its own scope when it frames the answer.
            scope = {**scope, "method": "GET"}
        try:
            await self._serve(scope, headers, receive, answer)
        except ClientDisconnect:
            pass  # in the middle of its body; nobody waits for an answer
        except Exception as error:
            if answer.status:  # too late for another answer; the server cuts the connection
                raise
            await problems.unexpected(error)(scope, receive, answer)
        finally:
            self._observe(scope, method, answer.status or 499, time.perf_counter() - started)

    async def _serve(
        self, scope: Scope, headers: Headers, receive: Receive, answer: "_Answer"
    ) -> None:
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._body_max_bytes:
            await self._too_large()(scope, receive, answer)
            return
        if scope["method"] == "OPTIONS":
            allowed = problems.methods_at(scope["app"], scope)
            if allowed:
                response = Response(status_code=204, headers={"Allow": ", ".join(sorted(allowed))})
                await response(scope, receive, answer)
                return
        await self._app(scope, self._counted(receive), answer)

    def _observe(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        """Count the request; one line in the log, unless it is one of very many."""
        method = method if method in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "") or "none"
        meters = self._meters.get((method, route, status))
        if meters is None:
            meters = (
                telemetry.REQUESTS.labels(method, route, str(status)),
                telemetry.REQUEST_SECONDS.labels(method, route),
            )
            self._meters[method, route, status] = meters
        meters[0].inc()
        meters[1].observe(seconds)
        if route in _QUIET and not self._is_news(route, status):
            return
        log.info(
            "request",
            method=method,
            # A link to log in is a secret as long as it has not been used.
            path=route if "{ticket}" in route else scope["path"][:300],
            status=status,
            milliseconds=round(seconds * 1000, 1),
        )

    def _is_news(self, route: str, status: int) -> bool:
        """Failures are, but of a store that is down only the first and one now and then.

        So is a tenant over its rates: to write a line for each request would be at others' cost.
        """
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            tenant = structlog.contextvars.get_contextvars().get("tenant", "")
            return self._over_rates[tenant].is_news("")
        refusals = self._refusals[route]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return refusals.is_news("")
        if status < HTTPStatus.BAD_REQUEST:
            refusals.over()
            return False
        return True

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_max_bytes:
                # The one kind of exception that FastAPI's own reading of a body lets through.
                raise HTTPException(413, self._limit())
            return message

        return counting

    def _too_large(self) -> Response:
        return problems.problem(413, self._limit(), headers={"Connection": "close"})

    def _limit(self) -> str:
        limit = self._body_max_bytes
        size = f"{limit} bytes" if limit % 2**20 else f"{limit >> 20} MiB"
        return f"the body is larger than {size}; send less at once"


class _Answer:
    """`send` with our headers added, the status noted, and no body for HEAD."""

    def __init__(self, send: Send, request_id: str, bodiless: bool) -> None:
        self._send, self._request_id, self._bodiless = send, request_id.encode(), bodiless
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            given = dict(headers)  # ASGI's names are lower case
            headers += [item for item in _HEADERS.items() if item[0] not in given]
            headers.append((b"x-request-id", self._request_id))
            kind = given.get(b"content-type", b"").partition(b";")[0]
            if b"json" in kind and b"cache-control" not in given:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._bodiless:
            message = {**message, "body": b""}
        await self._send(message)
