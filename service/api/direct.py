"""Recording, past the web framework: what programs call thousands of times a second.

The framework matches the path against every route, looks into the handler's signature and runs a
stack of contexts for each request, which costs more than to record a sample. A `Recorder` needs
none of it. It stays an ordinary route besides, for the reference and for every other method.
"""

from functools import cached_property

from fastapi import APIRouter, FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.middleware import Edge, FirstHeaders
from service.api.recording import Recorder
from service.domain.errors import OffbeatError

_EXPECTED: tuple[type[Exception], ...] = (OffbeatError, HTTPException, *problems.STORE_DOWN)


class _Request(Request):
    """A request whose body is read without a generator and whose headers are looked up at once."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._whole: bytes | None = None

    @cached_property
    def headers(self) -> Headers:
        """Of a name that is there more than once, the first."""
        return FirstHeaders(self.scope)

    async def body(self) -> bytes:
        """All of it."""
        if self._whole is None:
            pieces: list[bytes] = []
            more = True
            while more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                pieces.append(message.get("body", b""))
                more = message.get("more_body", False)
            self._whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._whole


class Direct:
    """Serves what recorders of these routers take by `POST`, and leaves the rest to the API."""

    def __init__(self, api: FastAPI, routers: tuple[APIRouter, ...], body_max_bytes: int) -> None:
        self._api = api
        self._edge = Edge(self._record, body_max_bytes)
        self._routes = {
            route.path: route
            for router in routers
            for route in router.routes
            if isinstance(route, Recorder) and route.methods == {"POST"}
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes:
            scope["app"], scope["route"] = self._api, self._routes[scope["path"]]
            await self._edge(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Recorder = scope["route"]
        response: Response
        try:
            response = await route.take(_Request(scope, receive))
        except _EXPECTED as error:
            response = route.refusal(error)
        await response(scope, receive, send)
