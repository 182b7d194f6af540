"""Probes, metrics and the reference page."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.api import health
from service.app import create_api
from service.storage.redis import connect
from service.storage.sql.engine import Database
from service.wiring import Wiring


@pytest.fixture
def app(parts: Wiring) -> FastAPI:
    return create_api(parts)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Calls `app`, whose stores a test may change."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://offbeat.test") as client:
        yield client


async def test_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "redis": "ok", "database": "ok"}


async def test_a_dead_store_is_named(
    client: httpx.AsyncClient, app: FastAPI, parts: Wiring
) -> None:
    app.state.wiring = replace(parts, redis=connect("redis://:hunter2@127.0.0.1:1"))
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert [item["where"] for item in answer.json()["errors"]] == ["redis"]
    assert "hunter2" not in answer.text
    assert "127.0.0.1" not in answer.text
    app.state.wiring = replace(parts, database=Database("sqlite:////nowhere/at/all.db"))
    answer = await client.get("/readyz")
    assert [item["where"] for item in answer.json()["errors"]] == ["database"]
    assert (await client.get("/healthz")).status_code == 200


async def test_a_store_that_hangs_fails_the_check_in_time(
    client: httpx.AsyncClient, app: FastAPI, parts: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    done = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    hanging = connect(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    app.state.wiring = replace(parts, redis=hanging)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "no answer within 0.1 s" in answer.text
    await hanging.aclose()
    done.set()
    silent.close()
    await silent.wait_closed()


async def test_metrics_count_requests_by_route_and_not_by_address(
    client: httpx.AsyncClient, operator: dict[str, str]
) -> None:
    await client.get("/tenants/acme/keys/zzzzzzzz", headers=operator)
    await client.get("/nowhere/canary-4711", headers=operator)
    await client.request("BREW", "/healthz")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text
    assert (
        'offbeat_http_requests_total{method="GET",'
        'route="/tenants/{tenant_id}/keys/{key_id}",status="404"}' in lines
    )
    assert 'route="none",status="404"' in lines
    assert 'method="OTHER"' in lines
    for absent in ("canary-4711", "acme", "BREW"):
        assert absent not in lines
    for name in ("samples_accepted_total", "outbox_pending", "rules_file_ok", "model_age_seconds"):
        assert f"# HELP offbeat_{name}" in lines


def test_processes_add_up_through_the_shared_folder(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        count = "from service import telemetry; telemetry.SAMPLES_ACCEPTED.inc(21)"
        subprocess.run([sys.executable, "-c", count], env=environment, check=True)
    show = "from service.api.health import metrics; print(metrics().body.decode())"
    shown = subprocess.run(
        [sys.executable, "-c", show], env=environment, check=True, capture_output=True, text=True
    )
    assert "offbeat_samples_accepted_total 42.0" in shown.stdout


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


async def test_the_reference_lists_every_operation_without_scripts(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/docs")
    assert answer.status_code == 200
    page = _Page()
    page.feed(answer.text)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [a for a in page.attributes if a.startswith("on") or a == "style"]
    policy = answer.headers["content-security-policy"]
    assert "'sha256-" in policy
    assert "unsafe" not in policy
    for path, item in app.openapi()["paths"].items():
        assert f"<code>{path}</code>" in answer.text
        assert all(f"<b>{method.upper()}</b>" in answer.text for method in item)
    assert "Authorization: Bearer" in answer.text


async def test_the_document_declares_both_ways_to_send_a_key(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["apiKey"]["name"] == "X-API-Key"
    assert document["paths"]["/audit"]["get"]["security"] == [{"bearer": []}, {"apiKey": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]
