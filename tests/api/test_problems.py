"""Whatever goes wrong, the answer has one shape, is valid, and leaks nothing."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from redis.exceptions import ConnectionError as RedisDown
from sqlalchemy.exc import OperationalError

from service.api import middleware, problems
from service.domain import errors
from service.settings import Settings

LIMIT = 6000


class Body(BaseModel):
    name: str = Field(max_length=5)
    size: int = 0
    rate: float = Field(0.0, allow_inf_nan=False)


RAISED: dict[str, Exception] = {
    "invalid": errors.InvalidInput("no", where="labels.region"),
    "unprocessable": errors.Unprocessable("no", where="threshold"),
    "media": errors.UnsupportedMedia("no"),
    "large": errors.TooLarge("no"),
    "unauthenticated": errors.Unauthenticated("no"),
    "forbidden": errors.Forbidden("no"),
    "missing": errors.NotFound("no"),
    "conflict": errors.Conflict("no"),
    "limit": errors.OverLimit("no", retry_after=2.2),
    "endless": errors.OverLimit("no", retry_after=float("inf")),
    "down": errors.Unavailable("no", retry_after=0.0),
    "lease": errors.LostLease("no"),
    "redis": RedisDown("Error 111 connecting to redis.internal:6379"),
    "sql": OperationalError("SELECT secret", {}, Exception("db.internal")),
    "socket": ConnectionRefusedError("db.internal"),
    "bug": RuntimeError("password=hunter2"),
    "configuration": errors.ConfigurationError("/etc/secret is missing"),
    "surrogate": errors.InvalidInput("bad \ud800 \x00 text", where="\udfff"),
    "nan": ValueError(float("nan")),
    "long": errors.InvalidInput("x" * 100_000),
}


@pytest.fixture
def broken() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, responses=problems.RESPONSES)
    problems.install(app)
    middleware.install(app, Settings(body_max_bytes=LIMIT))

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise RAISED[name]

    @app.post("/body")
    async def take(body: Body) -> Body:
        return body

    @app.put("/body")
    async def replace(body: Body) -> Body:
        return body

    @app.post("/raw")
    async def raw(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    @app.get("/text")
    async def text() -> dict[str, str]:
        return {"hello": "world"}

    return app


@pytest.fixture
def call(broken: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(broken), base_url="http://x")


def checked(answer: httpx.Response, status: int) -> dict[str, object]:
    """The problem, after checking all that each has in common."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    body = json.loads(answer.content, parse_constant=refuse)
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == status
    assert len(answer.content) < 20_000
    return body


@pytest.mark.parametrize(
    ("name", "status", "retry"),
    [
        ("invalid", 400, None),
        ("unprocessable", 422, None),
        ("media", 415, None),
        ("large", 413, None),
        ("unauthenticated", 401, None),
        ("forbidden", 403, None),
        ("missing", 404, None),
        ("conflict", 409, None),
        ("limit", 429, "3"),
        ("endless", 429, "3600"),
        ("down", 503, "1"),
        ("lease", 503, None),
        ("redis", 503, "5"),
        ("sql", 503, "5"),
        ("socket", 503, "5"),
        ("bug", 500, None),
        ("configuration", 500, None),
        ("surrogate", 400, None),
        ("nan", 500, None),
        ("long", 400, None),
    ],
)
async def test_the_table(
    call: httpx.AsyncClient, name: str, status: int, retry: str | None
) -> None:
    answer = await call.get(f"/raise/{name}")
    body = checked(answer, status)
    assert answer.headers.get("retry-after") == retry
    assert body.get("where") == {"invalid": "labels.region", "unprocessable": "threshold"}.get(
        name, "?" if name == "surrogate" else None
    )


def test_every_error_of_the_tree_has_its_place() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.OffbeatError)
    }
    unexpected = {errors.OffbeatError, errors.ConfigurationError, errors.Damaged}
    assert kinds - set(problems.STATUS) == unexpected


@pytest.mark.parametrize("name", ["bug", "configuration", "redis", "sql", "socket", "nan"])
async def test_what_is_internal_stays_in_the_log(
    call: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    answer = await call.get(f"/raise/{name}")
    for internal in ("hunter2", "internal", "SELECT", "/etc/secret", "Error 111", "Traceback"):
        assert internal not in answer.text
    if answer.status_code == 500:
        incident = answer.json()["instance"].rsplit(":", 1)[1]
        assert incident in answer.json()["detail"]
        assert incident in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "status", "where"),
    [
        (b'{"name": "a"', 400, "body"),
        (b"", 422, None),
        (b"null", 422, None),
        (b"\xff\xfe\x00", 400, "body"),
        (b'{"name": "\\ud800"}', 422, None),
        (b'{"name": "toolong"}', 422, None),
        (b'{"name": "a", "rate": NaN}', 422, None),
        (b'{"name": "a", "rate": 1e999}', 422, None),
        (b'{"name": "a", "size": 1e999}', 422, None),
        (b'{"name": "a", "size": ' + b"9" * 5000 + b"}", 400, "body"),
        (b"[" * 5000, 400, "body"),
        (b'{"name": ["a"], "size": {}, "rate": []}', 422, None),
    ],
)
async def test_bad_bodies_are_the_callers(
    call: httpx.AsyncClient, content: bytes, status: int, where: str | None
) -> None:
    answer = await call.post("/body", content=content, headers={"Content-Type": "application/json"})
    body = checked(answer, status)
    assert body.get("where") == where
    if status == 422:
        assert body["errors"]


async def test_each_wrong_field_is_named(call: httpx.AsyncClient) -> None:
    body = checked(await call.post("/body", json={"name": "toolong", "size": "x"}), 422)
    assert [item["where"] for item in body["errors"]] == ["name", "size"]


async def test_unknown_pages_and_methods(call: httpx.AsyncClient) -> None:
    missing = checked(await call.get("/nowhere/%00/%ed%a0%80"), 404)
    assert "/nowhere" in str(missing["detail"])
    answer = await call.delete("/body")
    checked(answer, 405)
    assert answer.headers["allow"] == "OPTIONS, POST, PUT"


async def test_head_and_options(call: httpx.AsyncClient) -> None:
    head, get = await call.head("/text"), await call.get("/text")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert (await call.head("/body")).status_code == 405
    options = await call.options("/text")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (await call.options("/nowhere")).status_code == 404


@pytest.mark.parametrize("path", ["/body", "/raw"])
async def test_a_body_over_the_limit_is_413_declared_or_streamed(
    call: httpx.AsyncClient, path: str
) -> None:
    json_type = {"Content-Type": "application/json"}
    body = checked(await call.post(path, content=b"x" * (LIMIT + 1), headers=json_type), 413)
    assert str(LIMIT) in str(body["detail"])

    sent = 0

    async def dripping():
        nonlocal sent
        while sent < 100 * LIMIT:
            sent += 100
            yield b"x" * 100

    answer = await call.post(path, content=dripping(), headers=json_type)
    checked(answer, 413)
    assert (await call.post("/raw", content=b"x" * LIMIT)).json() == {"size": LIMIT}


async def test_the_requests_own_id_is_kept_if_it_is_one(call: httpx.AsyncClient) -> None:
    kept = await call.get("/text", headers={"X-Request-ID": "abc-123.x"})
    assert kept.headers["x-request-id"] == "abc-123.x"
    for bad in ("", "a b", "x" * 200, "é".encode(), '"><script>'):
        answer = await call.get("/text", headers={"X-Request-ID": bad})
        assert answer.headers["x-request-id"] != bad
        assert answer.headers["x-request-id"].isalnum()


async def test_every_answer_has_safe_headers(call: httpx.AsyncClient) -> None:
    for path in ("/text", "/nowhere", "/raise/bug"):
        headers = (await call.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


@pytest.fixture
async def server(broken: FastAPI) -> AsyncIterator[str]:
    """The same application behind the real server, on loopback."""
    config = uvicorn.Config(broken, port=0, lifespan="off", ws="none", log_config=None)
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    async with asyncio.timeout(10):
        while not running.started:  # noqa: ASYNC110 (the server has no event to wait for)
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    await task


async def test_over_the_wire(server: str) -> None:
    async with httpx.AsyncClient(base_url=server) as real:
        head = await real.head("/text")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == "17"
        assert (await real.head("/text")).status_code == 200, "the connection is still good"
        assert (await real.options("/text")).status_code == 204
        checked(await real.get("/raise/bug"), 500)
        checked(await real.get("/raise/surrogate"), 400)
        checked(await real.post("/raw", content=b"x" * (LIMIT + 1)), 413)

        async def dripping() -> AsyncIterator[bytes]:
            for _ in range(LIMIT // 100 + 2):
                yield b"x" * 100

        checked(await real.post("/raw", content=dripping()), 413)
        assert (await real.get("/text")).json() == {"hello": "world"}
