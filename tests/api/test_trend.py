"""Where a slow metric goes in weeks, through the API."""

import httpx
import numpy as np

from service.domain.series import EXPECTED, Series
from service.wiring import Wiring
from tests.support.seed import Seed, times

REVENUE = Series.of("revenue", {"country": "se"})
PATH = f"/analytics/series/{REVENUE.hex}/trend"
DAY = 86_400.0


async def test_a_trend_with_the_change_that_it_assumes(
    client: httpx.AsyncClient, parts: Wiring, operator: dict[str, str]
) -> None:
    now = parts.clock.now()
    seed = Seed(parts.redis, parts.database, now, shards=parts.settings.log_shards)
    t = times(now - now % DAY - 1, 120 * 24, 4 * 3600.0)
    rng = np.random.default_rng(2)
    days = (t - t[0]) / DAY
    v = 500 * np.exp(0.006 * np.maximum(days - 60, 0) + 0.02 * rng.normal(size=len(t)))
    await seed.put_all([(REVENUE, t, v), (REVENUE.derived(EXPECTED), t[-5:], v[-5:])])
    young = await seed.put(Series.of("young"), t[-60:], v[-60:])

    told = (await client.get(PATH, headers=operator)).json()
    assert told["series"] == REVENUE.hex
    assert 115 <= told["days"] <= 120
    assert len(told["t"]) == len(told["value"]) == 28
    assert 0.03 < told["growth"] < 0.055
    assert [change["kind"] for change in told["changes"]] == ["slope"]
    assert told["since"] == told["changes"][0]["at"]
    assert told["lower"][-1] < told["value"][-1] < told["upper"][-1]
    assert len(told["past_t"]) == len(told["trend"]) == told["days"]
    derived = f"/analytics/series/{REVENUE.derived(EXPECTED).hex}/trend"
    assert (await client.get(derived, headers=operator)).json() == told
    wide = (await client.get(PATH, headers=operator, params={"weeks": 1})).json()
    assert len(wide["t"]) == 7

    for path, params, status, reason in (
        (f"/analytics/series/{young.hex}/trend", {}, 404, "28 whole days"),
        ("/analytics/series/0123456789abcdef/trend", {}, 404, "no series"),
        (PATH, {"weeks": 13}, 422, "weeks"),
    ):
        refused = await client.get(path, headers=operator, params=params)
        assert refused.status_code == status, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
        assert reason in refused.text
