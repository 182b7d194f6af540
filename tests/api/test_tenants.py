"""Tenants over HTTP."""

import httpx
import pytest

from service.domain.series import Series
from service.wiring import Wiring

SHIPPED = {
    "samples_per_second": 10_000,
    "requests_per_second": 1000,
    "series": 10_000,
    "new_series_per_minute": 1000,
    "rules": 500,
    "active_alerts": 10_000,
    "sample_age_seconds": 3600,
}


async def test_a_tenants_life(
    client: httpx.AsyncClient, parts: Wiring, admin: dict[str, str]
) -> None:
    made = await client.post("/tenants", headers=admin, json={"id": "new", "name": "New"})
    assert made.status_code == 201
    assert made.headers["location"] == "/tenants/new"
    assert made.json() == {
        "id": "new",
        "name": "New",
        "created_at": "2023-11-14T22:13:20Z",
        "quota": SHIPPED,
    }
    assert (await client.get("/tenants/new", headers=admin)).json() == made.json()
    again = await client.post("/tenants", headers=admin, json={"id": "new", "name": "New"})
    assert again.status_code == 409
    await parts.registry.register("new", [Series.of("plays")])
    renamed = await client.patch("/tenants/new", headers=admin, json={"name": "Newer"})
    assert renamed.json()["name"] == "Newer"
    assert (await client.delete("/tenants/new", headers=admin)).status_code == 204
    assert await parts.registry.all("new") == {}
    for method in ("GET", "DELETE"):
        assert (await client.request(method, "/tenants/new", headers=admin)).status_code == 404


async def test_a_deleted_tenants_keys_end_at_once(
    client: httpx.AsyncClient, admin: dict[str, str], operator: dict[str, str]
) -> None:
    assert (await client.get("/tenants/acme", headers=operator)).status_code == 200
    await client.delete("/tenants/acme", headers=admin)
    assert (await client.get("/tenants/acme", headers=operator)).status_code == 401


async def test_pages(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    seen, cursor = [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/tenants", headers=admin, params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["acme", "other"]
    for params in ({"limit": 0}, {"limit": "x"}, {"limit": 10**30}):
        assert (await client.get("/tenants", headers=admin, params=params)).status_code == 422
    wrong = await client.get("/tenants", headers=admin, params={"cursor": "\x00"})
    assert wrong.status_code == 400


async def test_a_quota_sets_what_is_sent(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    url = "/tenants/acme/quota"
    set_ = await client.put(url, headers=admin, json={"series": 7})
    assert set_.json()["quota"]["series"] == 7
    both = await client.put(url, headers=admin, json={"sample_age_seconds": 86400})
    assert both.json()["quota"] == SHIPPED | {"sample_age_seconds": 86400, "series": 7}
    reset = await client.put(url, headers=admin, json={"series": None})
    assert reset.json()["quota"]["series"] == 10_000


@pytest.mark.parametrize(
    "body",
    [
        {"id": "UPPER", "name": "x"},
        {"id": "-", "name": "x"},
        {"id": "ok", "name": ""},
        {"id": "ok", "name": "  "},
        {"id": "ok", "name": "a\x00b"},
        {"id": "ok", "name": "x" * 201},
        {"id": "ok", "name": "x", "extra": 1},
        {"id": 5, "name": "x"},
        {"id": "ok"},
        [],
    ],
)
async def test_bad_tenants_are_422(
    client: httpx.AsyncClient, admin: dict[str, str], body: object
) -> None:
    answer = await client.post("/tenants", headers=admin, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"samples": 5}',
        b'{"samples": {"a": [1]}, "series": 5}',
        b'{"samples_per_second": 0.5}',
        b'{"requests_per_second": "1000"}',
        b'{"new_series_per_minute": 1.5}',
        b'{"rules": 100000}',
        b'{"active_alerts": 0}',
        b'{"series": 0}',
        b'{"series": -1}',
        b'{"series": 1.5}',
        b'{"series": "5"}',
        b'{"series": true}',
        b'{"series": 1e400}',
        b'{"series": 99999999999999999999}',
        b'{"sample_age_seconds": NaN}',
        b'{"sample_age_seconds": 1e400}',
        b'{"sample_age_seconds": ' + b"9" * 400 + b"}",
        b'{"\\ud800": 1}',
    ],
)
async def test_bad_quotas_are_422(
    client: httpx.AsyncClient, admin: dict[str, str], content: bytes
) -> None:
    headers = admin | {"Content-Type": "application/json"}
    answer = await client.put("/tenants/acme/quota", headers=headers, content=content)
    assert answer.status_code == 422, answer.text
    if b'"samples"' in content:
        assert "samples_per_second, requests_per_second, series" in answer.json()["detail"]
