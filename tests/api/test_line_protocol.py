"""`POST /api/v2/write` and `POST /write` on the whole application, as InfluxDB's clients call."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.app import create_api
from service.domain.clock import ManualClock
from service.domain.tenants import PLATFORM, Role
from service.settings import Settings
from service.storage import keys
from service.storage.columns import Batch
from service.storage.log import START, LogReader
from service.wiring import Wiring, wired
from tests.support.whole import calling

V2 = "/api/v2/write?org=o&bucket=b"
V1 = "/write?db=d&rp=r"
LINE = b"plays,region=eu value=3"
GZIP = {"Content-Encoding": "gzip"}
BOMB = gzip.compress(b"x" * (33 << 20), mtime=0)


async def key_of(parts: Wiring, role: Role = Role.WRITER, tenant: str = "acme") -> str:
    _, made = await parts.keys.create(tenant, role, "test", "test")
    return made


async def token(parts: Wiring, role: Role = Role.WRITER, tenant: str = "acme") -> dict[str, str]:
    return {"Authorization": f"Token {await key_of(parts, role, tenant)}"}


async def kept(parts: Wiring, tenant: str = "acme") -> list[tuple[str, int, float]]:
    """What stands in the log for a tenant."""
    shard = keys.shard_of(tenant, parts.settings.log_shards)
    found = await LogReader(parts.redis).read(shard, START, count=100, block_ms=10)
    whole = Batch.join([e.batch for e in found if e.tenant == tenant])
    known = await parts.registry.all(tenant)
    return [
        (str(known[i]), t, v)
        for i, t, v in zip(whole.id.tolist(), whole.t.tolist(), whole.v.tolist(), strict=True)
    ]


@pytest.mark.parametrize("path", [V2, V1])
async def test_lines_are_kept_and_the_answer_is_empty(
    client: httpx.AsyncClient, parts: Wiring, clock: ManualClock, path: str
) -> None:
    now = round(clock.now())
    body = f"disk,host=a free=5i,used=0.5 {now}\nplays value=3\n# that is all\n"
    answer = await client.post(f"{path}&precision=s", content=body, headers=await token(parts))
    assert (answer.status_code, answer.content) == (204, b"")
    assert await kept(parts) == [
        ('disk_free{host="a"}', now * 1000, 5.0),
        ('disk_used{host="a"}', now * 1000, 0.5),
        ("plays", round(clock.now() * 1000), 3.0),
    ]


async def test_text_is_left_out_without_an_error(client: httpx.AsyncClient, parts: Wiring) -> None:
    body = b'system,host=a uptime_format="2 days",load1=0.3\nlog,host=a message="started"\n'
    answer = await client.post(V2, content=body, headers=await token(parts))
    assert (answer.status_code, answer.headers["x-ignored-fields"]) == (204, "2")
    assert [name for name, _, _ in await kept(parts)] == ['system_load1{host="a"}']


async def test_bad_lines_are_named_and_good_ones_kept(
    client: httpx.AsyncClient, parts: Wiring
) -> None:
    body = b"plays value=1\nplays value=\nplays value=1 5\nplays:expected value=1\nskips value=2\n"
    answer = await client.post(V2, content=body, headers=await token(parts))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["code"] == "invalid"
    assert said["message"] == said["error"] == said["detail"]
    assert said["detail"].startswith("2 samples are kept, 3 are not (timestamps were read as ns): ")
    assert said["errors"] == [
        {"where": "line 2", "reason": "field 'value': it has no value"},
        {"where": "line 3: plays", "reason": said["errors"][1]["reason"]},
        {
            "where": "line 4: plays:expected",
            "reason": "name 'plays:expected' ends with what only models write",
        },
    ]
    assert "1970-01-01T00:00:00Z is too old" in said["errors"][1]["reason"]
    assert [v for _, _, v in await kept(parts)] == [1.0, 2.0]


async def test_bodies_may_be_gzip(client: httpx.AsyncClient, parts: Wiring) -> None:
    headers = await token(parts)
    for encoding in ("gzip", "GZIP", "x-gzip"):
        zipped = headers | {"Content-Encoding": encoding}
        answer = await client.post(V2, content=gzip.compress(LINE), headers=zipped)
        assert answer.status_code == 204
    plain = await client.post(V2, content=LINE, headers=headers | {"Content-Encoding": "identity"})
    assert plain.status_code == 204
    assert len(await kept(parts)) == 4


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code", "detail"),
    [
        (V2, BOMB, GZIP, 413, "request too large", "10 MiB"),
        (V2, b" " * (10 << 20) + b"#", {}, 413, None, "10 MiB"),
        (V2, b"\n" * 200_001, {}, 413, "request too large", "200000 samples"),
        (V2, LINE, GZIP, 400, "invalid", "not valid gzip"),
        (
            V2,
            LINE,
            {"Content-Encoding": "br"},
            415,
            "unsupported media type",
            "send the body as gzip",
        ),
        (V2 + "&precision=m", LINE, {}, 400, "invalid", "'m' is none of ns, us, ms, s"),
        (V1 + "&precision=x", LINE, {}, 400, "invalid", "'x' is none of ns, us, ms, s, m, h"),
    ],
)
async def test_what_cannot_be_read_says_so(
    client: httpx.AsyncClient,
    parts: Wiring,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str | None,
    detail: str,
) -> None:
    answer = await client.post(path, content=body, headers=await token(parts) | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("code") == code
    assert detail in answer.json()["detail"]
    assert await kept(parts) == []


def basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


async def test_a_key_is_found_wherever_clients_put_it(
    client: httpx.AsyncClient, parts: Wiring
) -> None:
    key = await key_of(parts)
    for path, headers in (
        (V2, {"Authorization": f"Token {key}"}),
        (V2, {"Authorization": f"token  {key} "}),
        (V2, {"Authorization": f"Bearer {key}"}),
        (V2, {"X-API-Key": key}),
        (V2, {"Authorization": f"Token {key}", "X-API-Key": key}),
        (V1, {"Authorization": f"Token {key}"}),
        (V1, {"Authorization": f"Token telegraf:{key}"}),
        (V1, basic("telegraf", key)),
        (V1, basic("", key)),
        (f"{V1}&u=telegraf&p={key}", {}),
        (f"{V1}&u=telegraf&p={key}", basic("telegraf", key)),
    ):
        answer = await client.post(path, content=LINE, headers=headers)
        assert answer.status_code == 204, (path, headers, answer.text)


async def test_a_request_without_a_good_key_keeps_nothing(
    client: httpx.AsyncClient, parts: Wiring
) -> None:
    key, other = await key_of(parts), await key_of(parts)
    for path, headers in (
        (V2, {}),
        (V2, {"Authorization": "Token"}),
        (V2, {"Authorization": "Token " + key[:-1]}),
        (V2, {"Authorization": "Token " + key, "X-API-Key": other}),
        (V2, {"Authorization": "Digest " + key}),
        (V2, {"Authorization": "Basic %%%"}),
        (V2, {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}),
        (f"{V2}&u=x&p={key}", {}),
        (V1, basic("telegraf", "secret")),
        (V1, basic(key, "")),
        (f"{V1}&u={key}", {}),
        (f"{V1}&u=telegraf&p={key}", basic("telegraf", other)),
    ):
        answer = await client.post(path, content=LINE, headers=headers)
        assert answer.status_code == 401, (path, headers, answer.text)
        assert answer.json()["code"] == "unauthorized"
        assert answer.json()["message"]
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await kept(parts) == []


@pytest.mark.parametrize("path", [V2, V1])
async def test_role_and_tenant_are_those_of_the_key(
    client: httpx.AsyncClient, parts: Wiring, path: str
) -> None:
    reader = await client.post(path, content=LINE, headers=await token(parts, Role.READER))
    assert (reader.status_code, reader.json()["code"]) == (403, "forbidden")
    writer = await token(parts)
    theirs = await client.post(path, content=LINE, headers=writer | {"X-Tenant-ID": "other"})
    nobody = await client.post(path, content=LINE, headers=writer | {"X-Tenant-ID": "nobody"})
    assert theirs.status_code == nobody.status_code == 404
    assert theirs.text.replace("other", "x") == nobody.text.replace("nobody", "x")
    admin = await token(parts, Role.ADMIN, PLATFORM)
    assert (await client.post(path, content=LINE, headers=admin)).status_code == 400
    for_other = await client.post(path, content=LINE, headers=admin | {"X-Tenant-ID": "other"})
    assert for_other.status_code == 204
    assert (len(await kept(parts)), len(await kept(parts, "other"))) == (0, 1)


async def test_a_store_that_is_down_answers_503_with_retry_after(
    settings: Settings, parts: Wiring
) -> None:
    headers = await token(parts)
    down = settings.model_copy(update={"redis_url": "unix:///nowhere/store.sock"})
    async with wired(down) as broken, calling(broken) as client:
        answer = await client.post(V2, content=LINE, headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["code"] == "unavailable"
    assert json.loads(answer.content)["message"]


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"#" * (1 << 20)


async def test_the_framework_would_answer_alike(client: httpx.AsyncClient, parts: Wiring) -> None:
    writer, reader = await token(parts), await token(parts, Role.READER)
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/v2/write", {"content": LINE, "headers": writer}),
        ("POST", V2 + "&precision=", {"content": LINE, "headers": writer}),
        ("POST", V2 + "&precision=x&precision=s", {"content": LINE, "headers": writer}),
        ("POST", V2 + "&precision=s&precision=x", {"content": LINE, "headers": writer}),
        ("POST", V2 + "&precision=%F0%9F%98%FF", {"content": LINE, "headers": writer}),
        ("POST", V2 + "&p=x", {"content": LINE, "headers": writer}),
        ("POST", V1 + "&p=", {"content": LINE, "headers": writer}),
        ("POST", V1 + "&p=x", {"content": LINE, "headers": writer}),
        ("POST", V1 + "&p=x", {"content": LINE}),
        ("POST", V1, {"content": b'a t="x"', "headers": writer}),
        ("POST", V1, {"content": b"a", "headers": writer}),
        ("POST", V1, {"content": b"", "headers": writer}),
        ("POST", V1, {"content": LINE, "headers": reader}),
        ("POST", V2, {"content": LINE, "headers": writer | {"X-Tenant-ID": "nobody"}}),
        ("POST", V2, {"content": LINE}),
        *((method, V2, {"headers": writer}) for method in ("GET", "HEAD", "OPTIONS", "PUT")),
    ]
    transport = httpx.ASGITransport(create_api(parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://offbeat.test") as framework:
        for method, path, request in asked:
            direct = await client.request(method, path, **request)
            expected = await framework.request(method, path, **request)
            for answer in (direct, expected):
                del answer.headers["x-request-id"]
            assert direct.status_code == expected.status_code, (method, path)
            assert sorted(direct.headers.multi_items()) == sorted(expected.headers.multi_items())
            assert direct.content == expected.content, (method, path)
        # A body of a length that nobody declared.
        for asked_of in (client, framework):
            answer = await asked_of.post(V2, content=pieces(11), headers=writer)
            assert (answer.status_code, answer.json()["code"]) == (413, "request too large")
