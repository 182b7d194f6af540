"""Keys over HTTP."""

import httpx
import pytest

from service.domain.tenants import Role
from service.wiring import Wiring


async def test_a_keys_life(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    url = "/tenants/acme/keys"
    made = await client.post(url, headers=operator, json={"role": "reader", "name": "wall"})
    assert made.status_code == 201
    assert set(made.json()) == {"id", "key"}
    assert made.headers["cache-control"] == "no-store"
    key_id, key = made.json()["id"], made.json()["key"]
    assert made.headers["location"] == f"{url}/{key_id}"
    listed = await client.get(url, headers=operator)
    shown = next(item for item in listed.json()["items"] if item["id"] == key_id)
    assert shown == {
        "id": key_id,
        "name": "wall",
        "role": "reader",
        "created_at": "2023-11-14T22:13:20Z",
        "revoked_at": None,
    }
    assert (await client.get(f"{url}/{key_id}", headers=operator)).json() == shown
    assert key.split("_")[2] not in listed.text
    reader = {"X-API-Key": key}
    assert (await client.get(url, headers=reader)).status_code == 403
    assert (await client.delete(f"{url}/{key_id}", headers=operator)).status_code == 204
    assert (await client.get(url, headers=reader)).status_code == 401
    assert (await client.delete(f"{url}/{key_id}", headers=operator)).status_code == 404
    assert (await client.get(f"{url}/{key_id}", headers=operator)).json()["revoked_at"]


async def test_a_foreign_key_looks_missing(
    client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str]
) -> None:
    foreign, _ = await parts.keys.create("other", Role.READER, "theirs", "test")
    for method in ("GET", "DELETE"):
        there = await client.request(method, f"/tenants/acme/keys/{foreign}", headers=operator)
        nowhere = await client.request(method, "/tenants/acme/keys/zzzzzzzz", headers=operator)
        assert there.status_code == nowhere.status_code == 404
        assert there.text.replace(foreign, "zzzzzzzz") == nowhere.text
    assert await parts.keys.live(foreign)


@pytest.mark.parametrize("key_id", ["%00", "%ed%a0%80", "x" * 500, "%F0%9F%92%A9"])
async def test_odd_key_ids_are_missing(
    client: httpx.AsyncClient, operator: dict[str, str], key_id: str
) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"/tenants/acme/keys/{key_id}", headers=operator)
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"role": "admin", "name": "x"},
        {"role": "king", "name": "x"},
        {"role": "reader", "name": " "},
        {"role": "reader", "name": "a\nb"},
        {"role": "reader"},
        {"role": "reader", "name": "x", "tenant": "other"},
    ],
)
async def test_bad_keys_are_422(
    client: httpx.AsyncClient, operator: dict[str, str], body: dict[str, str]
) -> None:
    answer = await client.post("/tenants/acme/keys", headers=operator, json=body)
    assert answer.status_code == 422, answer.text


async def test_admin_keys_are_the_platforms(
    client: httpx.AsyncClient, admin: dict[str, str], operator: dict[str, str]
) -> None:
    url = "/tenants/-/keys"
    assert (await client.get(url, headers=operator)).status_code == 404
    own = (await client.get(url, headers=admin)).json()["items"]
    assert [item["role"] for item in own] == ["admin"]
    last = await client.delete(f"{url}/{own[0]['id']}", headers=admin)
    assert last.status_code == 409
    second = await client.post(url, headers=admin, json={"role": "admin", "name": "second"})
    assert second.status_code == 201
    other = {"X-API-Key": second.json()["key"]}
    assert (await client.delete(f"{url}/{own[0]['id']}", headers=other)).status_code == 204
    assert (await client.get(url, headers=admin)).status_code == 401
    wrong = await client.post(url, headers=other, json={"role": "reader", "name": "x"})
    assert wrong.status_code == 422


async def test_an_admin_makes_a_tenants_first_operator(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    body = {"role": "operator", "name": "first"}
    made = await client.post("/tenants/other/keys", headers=admin, json=body)
    headers = {"X-API-Key": made.json()["key"]}
    assert (await client.get("/tenants/other", headers=headers)).status_code == 200
    assert (await client.get("/tenants/acme", headers=headers)).status_code == 404
    assert (await client.post("/tenants/nobody/keys", headers=admin, json=body)).status_code == 404
