"""ASGI middleware: requests, errors and durations of an application."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from service.client.surface import Surface

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ROUTES_MAX = 1000
OTHER = "other"
_PARAMETER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)(:[^}]*)?\}")


class MetricsMiddleware:
    """Counts what an application answers; one sample a series and flush interval, not a request.

    `{prefix}_requests_total` by `method`, `route` and `status` (`2xx` … `5xx`, `none` if there was
    no answer); `{prefix}_errors_total` by `method` and `route` (5xx and exceptions);
    `{prefix}_request_seconds_count`, `_sum` and `_max` by `method` and `route`. A route is its
    template (`/users/{id}`), `other` where no route matched, so labels are bounded.
    """

    def __init__(self, app: App, client: Surface, *, name_prefix: str = "http") -> None:
        self._app, self._client = app, client
        self._requests = f"{name_prefix}_requests_total"
        self._errors = f"{name_prefix}_errors_total"
        self._seconds = f"{name_prefix}_request_seconds"
        self._templates: set[str] = set()
        # A bad prefix shows when the application starts, not at its first request.
        client.counter(self._requests, {"method": "GET", "route": OTHER, "status": "2xx"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        failed = False
        try:
            await self._app(scope, receive, noting)
        except Exception:
            failed = True
            raise
        finally:
            self._count(scope, status, failed, time.perf_counter() - started)

    def _count(self, scope: Scope, status: int, failed: bool, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        labels = {"method": method, "route": self._route(scope)}
        answered = "5xx" if failed else f"{status // 100}xx" if 100 <= status < 600 else "none"
        self._client.counter(self._requests, {**labels, "status": answered}).inc()
        if answered == "5xx":
            self._client.counter(self._errors, labels).inc()
        self._client.summary(self._seconds, labels).observe(seconds)

    def _route(self, scope: Scope) -> str:
        """The template of the route that the application chose."""
        tail = getattr(scope.get("route"), "path", None)
        if not isinstance(tail, str):
            return OTHER
        template = _whole(tail, scope["path"], scope.get("path_params") or {})
        if template not in self._templates:
            # Prefixes may hide parameters from us; whatever they do, labels stay bounded.
            if len(self._templates) >= _ROUTES_MAX:
                return OTHER
            self._templates.add(template)
        return template


def _whole(tail: str, path: str, parameters: Mapping[str, Any]) -> str:
    """The template with what routers and mounts have in front of it.

    A route knows its own part only. In front of that part stands the path as it came; its
    segments that are parameters get their names back. Where that does not work out, the own part.
    """
    inner = {name for name, _ in _PARAMETER.findall(tail)}
    end = _PARAMETER.sub(lambda found: str(parameters.get(found[1], "")), tail)
    if not path.endswith(end):
        return tail
    segments = path[: len(path) - len(end)].split("/")
    for name, value in parameters.items():
        if name not in inner:
            if str(value) not in segments:
                return tail
            segments[segments.index(str(value))] = f"{{{name}}}"
    return "/".join(segments) + tail
