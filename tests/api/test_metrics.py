"""`POST /analytics/metrics` on the whole application, as a tenant's program meets it."""

import json

import httpx
import pytest

from service.domain.clock import ManualClock
from service.domain.tenants import Role
from service.settings import Settings
from service.storage import keys
from service.storage.log import START, LogReader
from service.wiring import Wiring, wired
from tests.support.whole import calling, headers_of

PATH = "/analytics/metrics"
GOOD = {"name": "plays", "value": 3, "labels": {"region": "eu"}}


async def key(parts: Wiring, role: Role = Role.WRITER) -> dict[str, str]:
    return await headers_of(parts, role)


async def logged(parts: Wiring, tenant: str) -> list[int]:
    """Samples in each log entry of a tenant."""
    shard = keys.shard_of(tenant, parts.settings.log_shards)
    found = await LogReader(parts.redis).read(shard, START, count=100, block_ms=10)
    return [len(e.batch.id) for e in found if e.tenant == tenant]


async def test_good_samples_are_kept_and_bad_ones_named(
    client: httpx.AsyncClient, parts: Wiring
) -> None:
    headers = await key(parts)
    whole = await client.post(PATH, json=GOOD, headers=headers)
    assert (whole.status_code, whole.json()) == (200, {"accepted": 1})
    partly = await client.post(PATH, json=[GOOD, {"name": "plays"}, GOOD], headers=headers)
    assert partly.status_code == 200
    assert partly.json() == {
        "accepted": 2,
        "rejected_count": 1,
        "rejected": [
            {"index": 1, "name": "plays", "reason": "Object missing required field value"}
        ],
    }
    none = await client.post(PATH, json=[{"name": "plays"}], headers=headers)
    assert none.status_code == 422
    assert none.json()["errors"] == [
        {"where": "0: plays", "reason": "Object missing required field value"}
    ]
    assert await logged(parts, "acme") == [1, 2]  # one append a request, none for the last


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (b"{", {}, 400, "the body is not valid JSON"),
        (b"", {}, 400, "a metric or an array of metrics"),
        (b"name=plays", {"Content-Type": "text/plain"}, 415, "'text/plain' is not taken here"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "uncompressed"),
        (b" " * (10 << 20) + b"{}", {}, 413, "10 MiB"),
    ],
)
async def test_a_body_that_is_none_says_so(
    client: httpx.AsyncClient,
    parts: Wiring,
    body: bytes,
    headers: dict[str, str],
    status: int,
    detail: str,
) -> None:
    answer = await client.post(PATH, content=body, headers=await key(parts) | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


async def test_the_key_decides_the_tenant(client: httpx.AsyncClient, parts: Wiring) -> None:
    writer = await key(parts)
    for tenant_id, status in (("acme", 200), ("other", 422), ("nobody", 422)):
        answer = await client.post(PATH, json=GOOD | {"tenant_id": tenant_id}, headers=writer)
        assert answer.status_code == status
    other = await client.post(PATH, json=GOOD, headers=writer | {"X-Tenant-ID": "other"})
    nobody = await client.post(PATH, json=GOOD, headers=writer | {"X-Tenant-ID": "nobody"})
    assert other.status_code == nobody.status_code == 404
    assert other.text.replace("other", "x") == nobody.text.replace("nobody", "x")
    admin = await key(parts, Role.ADMIN)
    assert (await client.post(PATH, json=GOOD, headers=admin)).status_code == 400
    as_other = await client.post(PATH, json=GOOD, headers=admin | {"X-Tenant-ID": "other"})
    assert as_other.json() == {"accepted": 1}
    reader = await key(parts, Role.READER)
    assert (await client.post(PATH, json=GOOD, headers=reader)).status_code == 403
    assert (await logged(parts, "acme"), await logged(parts, "other")) == ([1], [1])


async def test_a_quota_lets_history_in_as_far_as_it_would_be_kept(
    client: httpx.AsyncClient, parts: Wiring, clock: ManualClock
) -> None:
    headers = await key(parts)
    day = 86400.0

    async def send(age: float) -> int:
        sample = GOOD | {"timestamp": clock.now() - age}
        return (await client.post(PATH, json=sample, headers=headers)).status_code

    assert [await send(3599), await send(3601)] == [200, 422]
    await parts.tenants.set_quota("acme", {"sample_age_seconds": 90 * day}, "test")
    await clock.advance(3)  # what is remembered of a quota is that old at most
    assert await send(30 * day) == 200
    # Older than the retention, it would be acknowledged and gone.
    assert await send(40 * day) == 422


async def test_a_store_that_is_down_answers_503_with_retry_after(
    settings: Settings, parts: Wiring
) -> None:
    headers = await key(parts)
    down = settings.model_copy(update={"redis_url": "unix:///nowhere/store.sock"})
    async with wired(down) as broken, calling(broken) as client:
        answer = await client.post(PATH, content=json.dumps(GOOD), headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["detail"] == "the store does not answer; try again"
