"""Every route there is, against every role: who may, who may not, and what strangers learn."""

import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import service.api
from service.api import middleware, problems
from service.api.deps import SESSION_COOKIE
from service.domain.tenants import ALLOWED, PLATFORM, Permission, Principal, Role
from service.wiring import Wiring
from tests.support.whole import calling, key_of

#: Routes that need no key, on purpose.
PUBLIC = {"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"}

#: Routes that change nothing of the tenant's though they are no GET: a login link for oneself, and
#: questions that may be asked by a form.
HARMLESS = {
    ("POST", "/dashboard/{tenant_id}/link"),
    ("POST", "/api/v1/query"),
    ("POST", "/api/v1/query_range"),
    ("POST", "/api/v1/query_exemplars"),
    ("POST", "/api/v1/format_query"),
    ("POST", "/api/v1/series"),
    ("POST", "/api/v1/labels"),
}

#: Who may call what, as docs/api.md says.
TABLE = {
    ("POST", "/tenants"): Permission.ADMINISTER,
    ("GET", "/tenants"): Permission.ADMINISTER,
    ("GET", "/tenants/{tenant_id}"): Permission.CONFIGURE,
    ("PATCH", "/tenants/{tenant_id}"): Permission.ADMINISTER,
    ("DELETE", "/tenants/{tenant_id}"): Permission.ADMINISTER,
    ("PUT", "/tenants/{tenant_id}/quota"): Permission.ADMINISTER,
    ("GET", "/tenants/{tenant_id}/usage"): Permission.CONFIGURE,
    ("POST", "/tenants/{tenant_id}/keys"): Permission.CONFIGURE,
    ("GET", "/tenants/{tenant_id}/keys"): Permission.CONFIGURE,
    ("GET", "/tenants/{tenant_id}/keys/{key_id}"): Permission.CONFIGURE,
    ("DELETE", "/tenants/{tenant_id}/keys/{key_id}"): Permission.CONFIGURE,
    ("GET", "/audit"): Permission.CONFIGURE,
}


@pytest.fixture
def whole(parts: Wiring) -> FastAPI:
    """Every route of the API, those to come included."""
    app = FastAPI(docs_url=None, redoc_url=None, responses=problems.RESPONSES)
    app.state.wiring = parts
    problems.install(app)
    middleware.install(app, parts.settings)
    for info in pkgutil.iter_modules(service.api.__path__):
        module = importlib.import_module(f"service.api.{info.name}")
        if isinstance(getattr(module, "router", None), APIRouter):
            app.include_router(module.router)
    return app


@pytest.fixture
async def whole_client(whole: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Calls `whole` without a key."""
    transport = httpx.ASGITransport(whole)
    async with httpx.AsyncClient(transport=transport, base_url="http://offbeat.test") as client:
        yield client


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path template of every route that needs a key."""
    for route in iter_route_contexts(app.routes):
        for method in sorted(route.methods or ()):
            if route.path not in PUBLIC and method != "HEAD" and route.path is not None:
                yield method, route.path


def _filled(path: str) -> str:
    path = re.sub(r"\{\w+:uuid\}", "00000000-0000-0000-0000-000000000001", path)
    return re.sub(r"\{[^}]+\}", "x1", path.replace("{tenant_id}", "acme"))


async def _status(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> int:
    return (await client.request(method, _filled(path), headers=headers)).status_code


async def test_no_route_answers_without_a_key(
    whole: FastAPI, whole_client: httpx.AsyncClient
) -> None:
    asked = list(operations(whole))
    assert len(asked) >= len(TABLE)
    for method, path in asked:
        answer = await whole_client.request(method, _filled(path))
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        plain = path.startswith("/api/v1/") and path != "/api/v1/write"  # as Prometheus tells it
        kind = "application/json" if plain else "application/problem+json"
        assert answer.headers["content-type"] == kind, (method, path)


async def test_no_reader_changes_anything_and_no_writer_reads(
    whole: FastAPI, whole_client: httpx.AsyncClient, parts: Wiring
) -> None:
    reader = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
    writer = {"X-API-Key": await key_of(parts, "acme", Role.WRITER)}
    for method, path in operations(whole):
        if method == "GET":
            assert await _status(whole_client, method, path, writer) == 403, (method, path)
        elif (method, path) not in HARMLESS:
            assert await _status(whole_client, method, path, reader) == 403, (method, path)


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_what_the_table_says(
    client: httpx.AsyncClient, parts: Wiring, role: Role
) -> None:
    tenant = PLATFORM if role is Role.ADMIN else "acme"
    for (method, path), permission in TABLE.items():
        headers = {"X-API-Key": await key_of(parts, tenant, role)}
        status = await _status(client, method, path, headers)
        if permission in ALLOWED[role]:
            assert status not in (401, 403), (method, path)
        else:
            assert status == 403, (method, path)
        if method == "DELETE" and path == "/tenants/{tenant_id}" and status == 204:
            await parts.tenants.create("acme", "Acme", "test")


def test_the_documented_roles_are_the_real_ones() -> None:
    columns = ("record", "read", "respond", "configure", "administer")
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for role in Role:
        cells = re.search(rf"^\| {role} \|(.*)\|$", page, re.M)
        assert cells is not None, role
        said = [cell.strip() == "yes" for cell in cells[1].split("|")]
        assert said == [Permission(name) in ALLOWED[role] for name in columns], role


async def test_a_refusal_names_what_is_needed_and_what_is_held(
    client: httpx.AsyncClient, parts: Wiring
) -> None:
    headers = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
    detail = (await client.get("/audit", headers=headers)).json()["detail"]
    assert "configure" in detail
    assert "reader" in detail


async def test_a_foreign_tenant_looks_exactly_like_a_missing_one(
    whole: FastAPI, whole_client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str]
) -> None:
    async def answers() -> list[tuple[int, bytes, dict[str, str]]]:
        found = []
        for method, path in operations(whole):
            calls = [(path.replace("{tenant_id}", "ghost"), {})] if "{tenant_id}" in path else []
            calls.append((path, {"X-Tenant-ID": "ghost"}))
            for where, extra in calls:
                answer = await whole_client.request(
                    method, _filled(where), headers=operator | extra
                )
                headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
                found.append((answer.status_code, answer.content, headers))
        return found

    missing = await answers()
    await parts.tenants.create("ghost", "Ghost", "test")
    await key_of(parts, "ghost", Role.OPERATOR)
    assert await answers() == missing
    assert {status for status, _, _ in missing} == {403, 404}
    assert (await whole_client.get("/tenants/ghost", headers=operator)).status_code == 404


async def test_an_admin_acts_for_the_tenant_it_names(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    ok = await client.get("/audit", headers=admin | {"X-Tenant-ID": "acme"})
    assert ok.status_code == 200
    for unknown in ("nobody", "-", "A B", "../x", "é".encode(), b"\x00"):
        answer = await client.get("/audit", headers=admin | {"X-Tenant-ID": unknown})
        assert answer.status_code == 404, unknown
    crossed = await client.get("/tenants/other", headers=admin | {"X-Tenant-ID": "acme"})
    assert crossed.status_code == 404


async def test_a_mistyped_key_is_told_apart(client: httpx.AsyncClient, parts: Wiring) -> None:
    key = await key_of(parts, "acme", Role.OPERATOR)
    typo = key[:20] + ("A" if key[20] != "A" else "B") + key[21:]
    said = (await client.get("/audit", headers={"X-API-Key": typo})).json()["detail"]
    assert "checksum" in said
    for headers in (
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {key}", "X-API-Key": typo},
    ):
        assert (await client.get("/audit", headers=headers)).status_code == 401
    both = {"Authorization": f"bearer  {key}", "X-API-Key": key}
    assert (await client.get("/audit", headers=both)).status_code == 200


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["Authorization", "X-API-Key", "X-Tenant-ID", "Cookie", "X-Request-ID"]),
    value=st.binary(max_size=80).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")),
    prefix=st.sampled_from([b"", b"Bearer ", b"ob_", b"offbeat_session="]),
)
def test_no_header_value_breaks_anything(
    parts: Wiring, fuzz_loop, name: str, value: bytes, prefix: bytes
) -> None:
    async def call() -> httpx.Response:
        async with calling(parts) as client:
            return await client.get("/audit", headers={name: prefix + value})

    answer = fuzz_loop(call())
    assert answer.status_code == 401
    assert answer.json()["status"] == 401


@pytest.fixture
def fuzz_loop():
    """Runs a coroutine from within hypothesis' synchronous test."""
    import asyncio

    with asyncio.Runner() as runner:
        yield runner.run


class TestSessions:
    """The dashboard's cookie."""

    async def _cookie(
        self, parts: Wiring, role: Role = Role.OPERATOR
    ) -> tuple[str, dict[str, str]]:
        tenant = PLATFORM if role is Role.ADMIN else "acme"
        key_id, _ = await parts.keys.create(tenant, role, "ann", "test")
        principal = Principal(key_id, "ann", role, "acme")
        return key_id, {"Cookie": f"{SESSION_COOKIE}={parts.sessions.issue(principal, 60)}"}

    async def test_it_reads(self, client: httpx.AsyncClient, parts: Wiring) -> None:
        _, cookie = await self._cookie(parts)
        assert (await client.get("/audit", headers=cookie)).status_code == 200

    async def test_it_changes_only_with_the_header(
        self, client: httpx.AsyncClient, parts: Wiring
    ) -> None:
        _, cookie = await self._cookie(parts)
        body = {"role": "reader", "name": "x"}
        refused = await client.post("/tenants/acme/keys", headers=cookie, json=body)
        assert refused.status_code == 403
        assert "X-Requested-With" in refused.json()["detail"]
        cookie["X-Requested-With"] = "offbeat"
        done = await client.post("/tenants/acme/keys", headers=cookie, json=body)
        assert done.status_code == 201

    async def test_it_expires(self, client: httpx.AsyncClient, parts: Wiring) -> None:
        _, cookie = await self._cookie(parts)
        await parts.clock.advance(60)
        assert (await client.get("/audit", headers=cookie)).status_code == 401

    async def test_it_ends_with_its_key(self, client: httpx.AsyncClient, parts: Wiring) -> None:
        key_id, cookie = await self._cookie(parts)
        await parts.keys.revoke("acme", key_id, "test")
        answer = await client.get("/audit", headers=cookie)
        assert answer.status_code == 401
        assert "revoked" in answer.json()["detail"]

    async def test_an_admins_acts_for_its_tenant(
        self, client: httpx.AsyncClient, parts: Wiring
    ) -> None:
        _, cookie = await self._cookie(parts, Role.ADMIN)
        entries = (await client.get("/audit", headers=cookie)).json()["items"]
        assert all(entry["action"] != "tenant.created" for entry in entries)
        moved = await client.get("/tenants/other", headers=cookie)
        assert moved.json()["id"] == "other"
