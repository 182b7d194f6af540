"""The joint score of an entity, through the API."""

import httpx
import numpy as np
import pytest

from service.domain.series import SCORE, Series
from service.domain.tenants import Role
from service.wiring import Wiring
from tests.support.seed import Seed, times
from tests.support.whole import key_of


@pytest.fixture
def seed(parts: Wiring) -> Seed:
    return Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)


async def test_metrics_of_a_host_are_judged_together(
    client: httpx.AsyncClient, parts: Wiring, seed: Seed
) -> None:
    key = {"X-API-Key": await key_of(parts, "acme", Role.READER)}
    stranger = {"X-API-Key": await key_of(parts, "other", Role.OPERATOR)}
    t, rng = times(seed.now, 48), np.random.default_rng(2)
    made = [Series.of(name, {"host": "web-1"}) for name in ("cpu", "disk", "errors", "memory")]
    for series in made:
        scores = rng.random(len(t)) * 0.998
        scores[-1] = 0.99
        await seed.put(series, t, np.ones(len(t)))
        await seed.put(series.derived(SCORE), t, scores)
    await seed.put(Series.of("cpu", {"host": "web-2"}), t, np.ones(len(t)))
    answer = await client.get(f"/analytics/series/{made[0].hex}/entity", headers=key)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["labels"] == {"host": "web-1"}
    assert [m["name"] for m in shown["metrics"]] == ["cpu", "disk", "errors", "memory"]
    assert {m["score"] for m in shown["metrics"]} == {0.99}
    assert shown["score"] >= 0.999
    assert shown["rows"] == len(shown["t"]) == len(shown["scores"]) == len(t)
    assert shown["scores"][-1] == shown["score"]
    assert float(np.mean(np.array(shown["scores"][100:]) >= 0.99)) < 0.03

    alone = Series.of("cpu", {"host": "web-2"})
    shown = (await client.get(f"/analytics/series/{alone.hex}/entity", headers=key)).json()
    assert (shown["score"], shown["at"], shown["rows"]) == (None, None, 0)
    assert [m["series"] for m in shown["metrics"]] == [alone.hex]
    for name in (made[0].hex, "0" * 16, "nonsense"):
        refused = await client.get(f"/analytics/series/{name}/entity", headers=stranger)
        assert refused.status_code == 404
