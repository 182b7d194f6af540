"""The audit log over HTTP."""

import httpx


async def test_an_operator_sees_its_tenants_entries(
    client: httpx.AsyncClient, admin: dict[str, str], operator: dict[str, str]
) -> None:
    body = {"role": "reader", "name": "wall"}
    made = (await client.post("/tenants/acme/keys", headers=operator, json=body)).json()
    await client.post("/tenants/other/keys", headers=admin, json=body)
    answer = await client.get("/audit", headers=operator)
    newest = answer.json()["items"][0]
    assert newest == {
        "id": newest["id"],
        "at": "2023-11-14T22:13:20Z",
        "actor": "operator:operator of acme",
        "action": "key.created",
        "subject": made["id"],
        "detail": {"name": "wall", "role": "reader"},
    }
    assert made["key"] not in answer.text
    other = await client.get("/audit", headers=admin | {"X-Tenant-ID": "other"})
    actors = {item["actor"] for item in other.json()["items"]}
    assert actors == {"admin:admin of -"}


async def test_an_admin_sees_the_platforms_own(
    client: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    await client.delete("/tenants/other", headers=admin)
    items = (await client.get("/audit", headers=admin)).json()["items"]
    assert (items[0]["action"], items[0]["subject"]) == ("tenant.deleted", "other")
    assert {"tenant.created", "key.created"} <= {item["action"] for item in items}


async def test_pages(client: httpx.AsyncClient, operator: dict[str, str]) -> None:
    for n in range(5):
        body = {"role": "reader", "name": f"k{n}"}
        await client.post("/tenants/acme/keys", headers=operator, json=body)
    first = (await client.get("/audit", headers=operator, params={"limit": 4})).json()
    rest = (await client.get("/audit", headers=operator, params={"cursor": first["next"]})).json()
    names = [item["detail"]["name"] for item in first["items"] + rest["items"]]
    assert names == ["k4", "k3", "k2", "k1", "k0", "operator of acme"]
    assert rest["next"] is None
    for cursor in ("x", "-1", "\x00", "9" * 40):
        answer = await client.get("/audit", headers=operator, params={"cursor": cursor})
        assert answer.status_code == 400
