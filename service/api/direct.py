"""Recording, past the web framework: what programs call thousands of times a second.

The framework matches the path against every route, looks into the handler's signature and runs a
stack of contexts for each request, which costs more than to record a sample. These handlers need
none of it: they take the request and who is asking. They stay ordinary routes, for the reference
and for every other method.
"""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.deps import authorize
from service.domain.errors import OffbeatError
from service.domain.tenants import Permission

_EXPECTED: tuple[type[Exception], ...] = (OffbeatError, HTTPException, *problems.STORE_DOWN)


class Direct:
    """Serves `POST` at the paths of these routes itself, and leaves the rest to `app`.

    Their handlers take the request and the principal, and answer with a response.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        response: Response
        try:
            principal = await authorize(request, Permission.RECORD)
            response = await route.endpoint(request, principal)
        except _EXPECTED as error:
            response = problems.of(error)
        await response(scope, receive, send)


def install(app: FastAPI, *routers: APIRouter) -> None:
    """Serve what these routers take by `POST` directly."""
    routes = [
        route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.methods == {"POST"}
    ]
    app.add_middleware(Direct, routes=routes)
