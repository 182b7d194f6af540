"""What a query may cost, and that nobody waits for one that costs more."""

import asyncio
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from service.app import create_app
from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.query.promql.budget import Limits
from service.query.queries import Queries
from service.settings import Settings
from service.wiring import Wiring, wired
from tests.support.seed import Seed
from tests.support.whole import calling, key_of, until_true

NOW = 1_700_000_000
MATRIX = {"start": NOW - 120, "end": NOW, "step": "1m"}

Headers = dict[str, str]


@pytest.mark.parametrize(
    ("limits", "status", "kind", "said"),
    [
        (Limits(samples=100), 422, "execution", "too many samples into memory: over 100"),
        (Limits(series=1), 422, "execution", "accepts 2 series; 1 are possible"),
        (Limits(points=5), 422, "execution", "would hold 2 series at 3 steps; 5 values"),
        (Limits(seconds=0.0), 503, "timeout", "query timed out"),
    ],
)
async def test_a_query_over_a_bound_is_refused(
    parts: Wiring, reader: Headers, limits: Limits, status: int, kind: str, said: str
) -> None:
    queries = Queries(parts.stored, limits, at_once=2, each=1)
    bounded = replace(parts, queries=queries)
    async with calling(bounded, reader) as client:
        query: Any = {**MATRIX, "query": "rate(plays[1h])"}
        answer = await client.get("/api/v1/query_range", params=query)
        told = answer.json()
        assert (answer.status_code, told["errorType"]) == (status, kind), told
        assert said in told["error"]
        fine = await client.get("/api/v1/labels")
        assert fine.status_code == 200
    queries.close()


async def test_bounds_are_settings(seed: Seed, settings: Settings, clock: ManualClock) -> None:
    bounds = {"query_steps_max": 2, "query_samples_max": 20, "query_seconds_max": 7.0}
    query: Any = {**MATRIX, "query": "plays"}
    async with wired(settings.model_copy(update=bounds), clock) as parts:
        headers = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
        async with calling(parts, headers) as client:
            fine = await client.get("/api/v1/query_range", params=query)
            assert fine.status_code == 200
            finer = await client.get("/api/v1/query_range", params={**query, "step": "30s"})
            assert "maximum resolution of 2 points" in finer.json()["error"]
            wider = await client.get("/api/v1/query", params={"query": "plays[30m]"})
            assert "too many samples into memory: over 20" in wider.json()["error"]


#: Works for seconds; the time is looked at before each sine.
LONG = " + ".join(
    ["count_over_time(" + "sin(" * 30 + "vector(1)" + ")" * 30 + "[1h:1ms])"] * 5,
)


async def test_a_query_that_takes_long_stalls_nobody(parts: Wiring, reader: Headers) -> None:
    """While one tenant's queries work until they are stopped, another's are answered at once."""
    stranger = {"X-API-Key": await key_of(parts, "other", Role.READER)}
    query = {"query": LONG, "timeout": "1.2"}
    async with calling(parts) as client:
        slow = [
            asyncio.create_task(client.get("/api/v1/query", params=query, headers=reader))
            for _ in range(6)
        ]
        quick = 0
        while not all(task.done() for task in slow):
            answer = await client.get("/api/v1/query", params={"query": "1"}, headers=stranger)
            assert answer.status_code == 200
            quick += 1
        assert quick >= 3
        for task in slow:
            answer = await task
            assert (answer.status_code, answer.json()["errorType"]) == (503, "timeout")
            assert "it may take 1.2 s" in answer.json()["error"]


async def test_a_query_whose_asker_has_gone_gives_its_turn_back(
    parts: Wiring, reader: Headers
) -> None:
    queries = Queries(parts.stored, Limits(), at_once=1, each=1)
    app = create_app(replace(parts, queries=queries))
    closed = asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await closed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"an answer to nobody: {message}")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/v1/query",
        "raw_path": b"/api/v1/query",
        "query_string": urlencode({"query": LONG}).encode(),
        "headers": [(b"x-api-key", reader["X-API-Key"].encode())],
        "server": ("offbeat.test", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    asked = asyncio.create_task(cast(Any, app)(scope, receive, send))
    await until_true(lambda: queries.running)
    closed.set()
    await asyncio.wait_for(asked, 10)
    async with calling(replace(parts, queries=queries), reader) as client:
        answer = await client.get("/api/v1/query", params={"query": "1", "timeout": "10"})
        assert answer.status_code == 200
    queries.close()
