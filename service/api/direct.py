"""Recording, past the web framework: what programs call thousands of times a second.

The framework matches the path against every route, looks into the handler's signature and runs a
stack of contexts for each request, which costs more than to record a sample. These handlers need
none of it: they take the request and who is asking. They stay ordinary routes, for the reference
and for every other method.
"""

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.deps import authorize
from service.api.middleware import Edge
from service.domain.errors import OffbeatError
from service.domain.tenants import Permission

_EXPECTED: tuple[type[Exception], ...] = (OffbeatError, HTTPException, *problems.STORE_DOWN)


class Direct:
    """Serves what these routers take by `POST` itself, and leaves the rest to the API.

    Their handlers take the request and the principal, and answer with a response.
    """

    def __init__(self, api: FastAPI, routers: tuple[APIRouter, ...], body_max_bytes: int) -> None:
        self._api = api
        self._edge = Edge(self._record, body_max_bytes)
        self._routes = {
            route.path: route
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute) and route.methods == {"POST"}
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes:
            scope["app"], scope["route"] = self._api, self._routes[scope["path"]]
            await self._edge(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response: Response
        try:
            principal = await authorize(request, Permission.RECORD)
            response = await scope["route"].endpoint(request, principal)
        except _EXPECTED as error:
            response = problems.of(error)
        await response(scope, receive, send)
