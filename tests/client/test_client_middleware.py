"""The middleware on real applications."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from service.client import AsyncClient, Client, MetricsMiddleware
from tests.client.conftest import KEY, Receiver


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def starlette_app() -> Starlette:
    async def broken(_request: Request) -> PlainTextResponse:
        raise RuntimeError("broken")

    return Starlette(
        routes=[
            Route("/users/{user_id:int}", hello),
            Route("/broken", broken),
            Mount("/files/{bucket}", routes=[Route("/{path:path}", hello)]),
        ]
    )


def fastapi_app() -> FastAPI:
    app = FastAPI()
    router = APIRouter()

    @router.get("/items/{item}")
    async def item(item: str, shop: str) -> str:
        if item == "gone":
            raise HTTPException(503)
        return shop + item

    app.include_router(router, prefix="/shops/{shop}")
    app.mount("/old", starlette_app())
    return app


async def ask(app: Any, *paths: str, method: str = "GET") -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        for path in paths:
            await http.request(method, path)


def counted(receiver: Receiver, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(s["labels"][k] for k in sorted(s["labels"])): s["value"]
        for s in receiver.samples
        if s["name"] == name
    }


async def test_requests_are_counted_by_template(receiver: Receiver) -> None:
    async with AsyncClient(receiver.url, KEY, flush_seconds=3600) as client:
        app = MetricsMiddleware(starlette_app(), client)
        await ask(app, *(f"/users/{n}" for n in range(300)), "/users/x", "/nowhere", "/broken")
        await ask(app, *(f"/files/b{n}/deep/file{n}.txt" for n in range(50)))
        await ask(app, "/users/1", method="POST")
        await ask(app, "/users/1", method="BREW")
        await client.flush()
    assert counted(receiver, "http_requests_total") == {
        ("GET", "/users/{user_id:int}", "2xx"): 300,
        ("GET", "other", "4xx"): 2,
        ("GET", "/broken", "5xx"): 1,
        ("GET", "/files/{bucket}/{path:path}", "2xx"): 50,
        ("POST", "/users/{user_id:int}", "4xx"): 1,
        ("other", "/users/{user_id:int}", "4xx"): 1,
    }
    assert counted(receiver, "http_errors_total") == {("GET", "/broken"): 1}
    assert counted(receiver, "http_request_seconds_count")["GET", "/users/{user_id:int}"] == 300
    total = counted(receiver, "http_request_seconds_sum")["GET", "/users/{user_id:int}"]
    most = counted(receiver, "http_request_seconds_max")["GET", "/users/{user_id:int}"]
    assert 0 < most < total
    assert len(receiver.samples) == 6 + 1 + 3 * 6, "one sample a series"


async def test_routers_and_mounts_of_fastapi_have_whole_templates(receiver: Receiver) -> None:
    app = fastapi_app()
    client = AsyncClient(receiver.url, KEY, flush_seconds=3600)
    app.add_middleware(MetricsMiddleware, client=client, name_prefix="shop")
    await ask(app, "/shops/a/items/1", "/shops/b/items/2", "/shops/b/items/gone")
    await ask(app, "/old/users/3", "/none", "/docs")
    await client.close()
    assert counted(receiver, "shop_requests_total") == {
        ("GET", "/shops/{shop}/items/{item}", "2xx"): 2,
        ("GET", "/shops/{shop}/items/{item}", "5xx"): 1,
        ("GET", "/old/users/{user_id:int}", "2xx"): 1,
        ("GET", "other", "4xx"): 1,
        ("GET", "other", "2xx"): 1,  # FastAPI does not name the route of its own pages
    }
    assert counted(receiver, "shop_errors_total") == {("GET", "/shops/{shop}/items/{item}"): 1}


async def test_whatever_an_application_does_labels_are_bounded(receiver: Receiver) -> None:
    class Odd:
        def __init__(self, path: str) -> None:
            self.path = path

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Odd(scope["path"])
        await PlainTextResponse("x")(scope, receive, send)

    async with AsyncClient(receiver.url, KEY, flush_seconds=3600) as client:
        await ask(MetricsMiddleware(app, client), *(f"/{n}" for n in range(1005)))
        await client.flush()
    found = counted(receiver, "http_requests_total")
    assert len(found) == 1001
    assert found["GET", "other", "2xx"] == 5


async def test_a_request_without_an_answer_counts_as_none(receiver: Receiver) -> None:
    entered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with AsyncClient(receiver.url, KEY, flush_seconds=3600) as client:
        request = asyncio.create_task(ask(MetricsMiddleware(app, client), "/"))
        await entered.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await client.flush()
    assert counted(receiver, "http_requests_total") == {("GET", "other", "none"): 1}
    assert counted(receiver, "http_errors_total") == {}


async def test_other_connections_pass(receiver: Receiver) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async with AsyncClient(receiver.url, KEY, flush_seconds=3600) as client:
        middleware = MetricsMiddleware(app, client)
        for kind in ("lifespan", "websocket"):
            await middleware({"type": kind}, None, None)
        assert (await client.flush()).sent == 0
    assert seen == ["lifespan", "websocket"]


def test_a_bad_prefix_shows_at_once(receiver: Receiver) -> None:
    with Client(receiver.url, KEY) as client, pytest.raises(ValueError, match="metric name"):
        MetricsMiddleware(starlette_app(), client, name_prefix="my app")
