"""From requests to an alert: samples and a rule through the API, a worker that compares."""

import numpy as np

from service.domain.clock import SystemClock
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support import whole

REGIONS = ("ap-south", "eu-north", "eu-west", "us-east", "us-west")
RULE = {
    "name": "A region unlike the others",
    "query": "error_rate",
    "condition": "peers",
    "peers_by": "job",
    "window": "20m",
}


async def test_an_alert_names_the_peers_of_the_odd_one(parts: Wiring) -> None:
    headers = await whole.headers_of(parts, Role.OPERATOR)
    rng, now = np.random.default_rng(1), SystemClock().now()
    samples = [
        {
            "name": "error_rate",
            "labels": {"region": name, "job": "web"},
            "timestamp": now - 60 * i,
            "value": 0.31 if name == "eu-west" and i < 15 else 0.03 + 0.002 * rng.normal(),
        }
        for name in REGIONS
        for i in range(180)
    ]
    async with whole.calling(parts, headers) as client, whole.working(parts):
        sent = await client.post("/analytics/metrics", json=samples)
        assert sent.status_code in (200, 202), sent.text
        made = await client.post("/alerts/rules", json=RULE)
        assert made.status_code == 201, made.text
        assert (made.json()["peers_by"], made.json()["window"]) == (["job"], "20m")
        fields = {k: v for k, v in made.json().items() if k in RULE}
        again = await client.put(made.headers["Location"], json=fields)
        assert again.status_code == 200, again.text
        await whole.until_true(lambda: parts.engine.open("acme"), seconds=60)
        (alert,) = (await client.get("/alerts/active/acme")).json()["items"]
    assert alert["labels"]["region"] == "eu-west"
    assert alert["value"] == 0.31
    assert alert["expectation"].startswith("its 4 peers are between 0.0")
    assert alert["expectation"].endswith("(ap-south, eu-north, …)")
