"""The reading side of the API, on real stores."""

import math

import httpx
import numpy as np
import pytest

from service.domain.clock import iso
from service.domain.series import SCORE, Series
from service.domain.tenants import Role
from service.storage.sealing import Sealer
from service.wiring import Wiring
from tests.support.seed import BUCKET_MS, Seed, ahead, times
from tests.support.whole import key_of


@pytest.fixture
def seed(parts: Wiring) -> Seed:
    return Seed(parts.redis, parts.database, parts.clock.now(), shards=parts.settings.log_shards)


@pytest.fixture
async def reader(parts: Wiring, seed: Seed) -> dict[str, str]:
    return {"X-API-Key": await key_of(parts, "acme", Role.READER)}


@pytest.fixture
async def stranger(parts: Wiring, seed: Seed) -> dict[str, str]:
    return {"X-API-Key": await key_of(parts, "other", Role.OPERATOR)}


async def drop(seed: Seed) -> Series:
    """A series that fell under its expectation a quarter of an hour ago."""
    t = times(seed.now)
    late = t > seed.now - 900
    usual = np.full(len(t), 1000.0)
    f = ahead(seed.now)
    return await seed.modelled(
        Series.of("play_starts", {"region": "eu"}),
        t,
        np.where(late, 500.0, usual),
        usual,
        unusual=late,
        forecast=(f, np.full(len(f), 990.0)),
    )


async def test_the_dashboard_says_who_is_needed_and_why(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    series = await drop(seed)
    alert = await seed.alert("Play starts far below expectation", series)
    await seed.notified(alert, "slack", seed.now - 780)
    await seed.timer(
        alert,
        seed.now + 120,
        {"step": 2, "channels": ["sms"]},
    )
    answer = await client.get("/analytics/dashboard/acme", headers=reader)
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["state"]["lead"] == "1\u00a0alert needs you."
    assert "50\u00a0% under expectation" in shown["state"]["text"]
    assert shown["state"]["text"].endswith("Everything else is normal.")
    (card,) = shown["alerts"]
    assert (card["alert"]["id"], card["alert"]["series"]) == (alert, series.hex)
    why = {reason["head"]: reason["text"] for reason in card["why"]}
    assert why["Who"].replace("\u00a0", " ") == "slack was told 13 minutes ago; sms in 2 minutes"
    assert why["Next"].startswith("forecast 990 in 2\u00a0hours")
    chart = card["chart"]
    assert len(chart["t"]) == len(chart["v"]) == len(chart["lower"]) > 200
    assert [chart["v"][i] for i in chart["anomalies"]] == [500.0] * 3
    assert len(chart["forecast_t"]) == 24
    (tile,) = shown["tiles"]
    assert tile["warn"] is True
    assert tile["note"].replace("\u00a0", " ") == "−50 %, unusual"
    assert tile["spark"].startswith("M")
    assert shown["counts"]["models_ready"] == 1
    assert shown["usage"]["series"] == 1


async def test_an_empty_tenant_is_told_how_to_begin(
    client: httpx.AsyncClient, reader: dict[str, str]
) -> None:
    shown = (await client.get("/analytics/dashboard/acme", headers=reader)).json()
    assert shown["state"]["level"] == "empty"
    assert shown["alerts"] == shown["tiles"] == shown["findings"] == []


async def test_insights_are_ranked_findings_with_evidence(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    await drop(seed)
    shown = (await client.get("/analytics/insights/acme", headers=reader)).json()
    (finding,) = shown["findings"]
    assert finding["kind"] == "unusual"
    assert finding["evidence"]["share"] == pytest.approx(-0.5)
    assert finding["since"] == iso(seed.now - 600)


async def test_series_are_listed_by_page_and_by_selector(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    await drop(seed)
    t = times(seed.now, hours=1)
    for host in ("a", "b"):
        await seed.put(Series.of("cpu", {"host": host}), t, np.ones(len(t)))
    names: list[str] = []
    cursor = ""
    while True:
        address = f"/analytics/series?limit=2{f'&cursor={cursor}' if cursor else ''}"
        page = (await client.get(address, headers=reader)).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert names == ["cpu", "cpu", "play_starts"]
    found = await client.get(
        "/analytics/series", params={"match": '{__name__=~".*:anomaly_score"}'}, headers=reader
    )
    assert [item["name"] for item in found.json()["items"]] == ["play_starts:anomaly_score"]
    (host,) = (
        await client.get("/analytics/series", params={"match": 'cpu{host="b"}'}, headers=reader)
    ).json()["items"]
    assert host["labels"] == {"host": "b"}
    assert (host["last_value"], host["last_at"]) == (1.0, iso(seed.now))
    assert (host["model_state"], host["confidence"]) == ("cold", 0.086)
    assert {item["model_state"] for item in found.json()["items"]} == {"none"}


@pytest.mark.parametrize(
    "query", ["match=rate(x[5m])", "match=%00", "cursor=zz", "limit=0", "limit=9999", "match="]
)
async def test_a_bad_list_request_is_explained(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str], query: str
) -> None:
    answer = await client.get(f"/analytics/series?{query}", headers=reader)
    assert answer.status_code in (400, 422)
    assert len(answer.json()["detail"]) > 10


async def test_a_series_card_shows_its_model(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    series = await drop(seed)
    shown = (await client.get(f"/analytics/series/{series.hex}", headers=reader)).json()
    assert shown["model_state"] == "ready"
    assert 0.5 < shown["confidence"] < 0.8
    assert shown["model"]["quality"] == {"mase": 0.71, "coverage": 0.9}
    assert shown["model"]["trained_from"] == iso(seed.now - 14 * 86400)
    assert shown["change_points"] == []


async def test_a_series_card_shows_since_when_its_level_holds(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    series = Series.of("cpu", {"host": "web-3"})
    await seed.put(series, times(seed.now), np.full(len(times(seed.now)), 62.0))
    point = {"at": seed.now - 7200, "kind": "level", "from": 40.0, "to": 62.0, "strength": 31.5}
    await seed.model(series, "ready", quality={"coverage": 0.9, "change_points": [point]})
    shown = (await client.get(f"/analytics/series/{series.hex}", headers=reader)).json()
    assert shown["change_points"] == [{**point, "at": iso(seed.now - 7200)}]
    assert shown["model"]["quality"] == {"coverage": 0.9}


async def test_a_series_without_a_model_stands_alone_or_beside_its_peers(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    t = times(seed.now, hours=1, step=60)
    new = await seed.put(Series.of("cpu", {"host": "new"}), t, np.ones(len(t)))
    shown = (await client.get(f"/analytics/series/{new.hex}", headers=reader)).json()
    alone = shown["confidence"]
    assert (shown["model_state"], shown["model"]) == ("cold", None)
    assert 0.1 < alone < 0.3
    for host in "abc":
        peer = await seed.put(Series.of("cpu", {"host": host}), t, np.ones(len(t)))
        await seed.model(peer, "ready")
    shown = (await client.get(f"/analytics/series/{new.hex}", headers=reader)).json()
    assert shown["model_state"] == "peers"
    assert alone < shown["confidence"] < 0.5
    failed = await seed.put(Series.of("disk"), t, np.ones(len(t)))
    await seed.model(failed, "failed", version=0, error="no")
    shown = (await client.get(f"/analytics/series/{failed.hex}", headers=reader)).json()
    assert (shown["model_state"], shown["confidence"]) == ("failed", alone)


async def test_samples_come_in_columns_between_the_times_asked_for(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    t = times(seed.now, hours=2, step=60)
    v = np.arange(len(t), dtype=float)
    v[-1], v[-2] = math.nan, math.inf
    series = await seed.put(Series.of("x"), t, v)
    path = f"/analytics/series/{series.hex}/samples"
    everything = (await client.get(f"{path}?start=0&end={seed.now}", headers=reader)).json()
    assert everything["t"] == [round(x * 1000) for x in t.tolist()]
    assert everything["v"][-3:] == [float(len(t) - 3), None, None]
    assert everything["truncated"] is False
    for start, end in (
        (str(seed.now - 600), str(seed.now - 300)),
        (iso(seed.now - 600), iso(seed.now - 300)),
    ):
        some = await client.get(path, params={"start": start, "end": end}, headers=reader)
        assert some.json()["v"] == v[-11:-5].tolist()
    assert (await client.get(path, headers=reader)).json()["t"] == everything["t"]


async def test_too_many_samples_are_cut_to_the_newest_and_it_says_so(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    t = times(seed.now, hours=15, step=1)
    series = await seed.put(Series.of("fast"), t, np.arange(len(t), dtype=float))
    answer = await client.get(f"/analytics/series/{series.hex}/samples?start=0", headers=reader)
    shown = answer.json()
    assert shown["truncated"] is True
    assert len(shown["t"]) == 50_000
    assert shown["v"][-1] == len(t) - 1


@pytest.mark.parametrize(
    "query",
    ["start=yesterday", "start=2024-01-01T00:00:00", "start=9&end=3", "end=1e400", "end=nan"],
)
async def test_a_bad_time_is_explained(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str], query: str
) -> None:
    series = await seed.put(Series.of("x"), [seed.now], [1.0])
    answer = await client.get(f"/analytics/series/{series.hex}/samples?{query}", headers=reader)
    assert answer.status_code == 400
    assert answer.json()["where"] in ("start", "end")


async def test_a_step_sums_samples_up_from_roll_ups_and_what_is_not_sealed(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    t = times(seed.now, hours=30, step=60)
    v = np.arange(len(t), dtype=float)
    v[5] = math.nan
    series = await seed.put(Series.of("x"), t, v)
    path = f"/analytics/series/{series.hex}/samples"
    query = {"start": str(t[0]), "end": str(seed.now), "step": "1h"}
    fresh = (await client.get(path, params=query, headers=reader)).json()
    sealer = Sealer(seed.redis, BUCKET_MS, 100 * 365 * 86_400_000)
    assert await sealer.seal_due(seed.shard, 1, round(seed.now * 1000) + 60_000, 100) >= 4
    sealed = (await client.get(path, params=query, headers=reader)).json()
    assert (fresh.pop("resolution"), sealed.pop("resolution")) == ("raw", "5m")
    assert fresh == sealed
    assert sealed["t"] == sorted({int(x // 3600) * 3_600_000 for x in t})
    assert sum(sealed["count"]) == len(t) - 1
    hour = (t // 3600 == t[200] // 3600).nonzero()[0]
    row = sealed["t"].index(int(t[200] // 3600) * 3_600_000)
    assert [sealed[name][row] for name in ("min", "max", "mean", "count")] == [
        v[hour].min(),
        v[hour].max(),
        v[hour].mean(),
        60,
    ]
    assert sealed["step"] == 3_600_000
    fine = (await client.get(path, params={**query, "step": "90"}, headers=reader)).json()
    assert (fine["resolution"], sum(fine["count"])) == ("raw", len(t) - 1)


async def test_roll_ups_answer_when_the_samples_are_gone(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str]
) -> None:
    long_ago = seed.now - 200 * 86400
    series = await seed.put(Series.of("x"), times(long_ago, hours=1), np.ones(12))
    sealer = Sealer(seed.redis, BUCKET_MS, 100 * 365 * 86_400_000)
    assert await sealer.seal_due(seed.shard, 1, round(seed.now * 1000) + 60_000, 100)
    for name in await seed.redis.keys("*chunk*"):
        await seed.redis.delete(name)
    path = f"/analytics/series/{series.hex}/samples"
    query = {"start": str(long_ago - 86400), "end": str(seed.now), "step": "1d"}
    shown = (await client.get(path, params=query, headers=reader)).json()
    assert (sum(shown["count"]), shown["resolution"]) == (12, "5m")
    assert shown["mean"] == [1.0] * len(shown["t"])
    late = await client.get(path, params={**query, "step": "90s"}, headers=reader)
    assert late.status_code == 400
    assert "a multiple of 5m" in late.json()["detail"]
    many = await client.get(path, params={**query, "step": "5m"}, headers=reader)
    assert many.status_code == 400
    least = many.json()["detail"].rpartition(" ")[2]
    some = await client.get(path, params={**query, "step": least}, headers=reader)
    assert sum(some.json()["count"]) == 12


@pytest.mark.parametrize("step", ["soon", "0", "-5", "0.0001", "40d", "1h ago", "nan", "[5m]"])
async def test_a_bad_step_is_explained(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str], step: str
) -> None:
    series = await seed.put(Series.of("x"), [seed.now], [1.0])
    answer = await client.get(
        f"/analytics/series/{series.hex}/samples", params={"step": step}, headers=reader
    )
    assert (answer.status_code, answer.json()["where"]) == (400, "step")
    assert len(answer.json()["detail"]) > 20


async def test_another_tenants_things_look_like_missing_ones(
    client: httpx.AsyncClient, seed: Seed, reader: dict[str, str], stranger: dict[str, str]
) -> None:
    series = await drop(seed)
    missing = "0" * 16
    for path in ("/analytics/dashboard/{}", "/analytics/insights/{}"):
        foreign = await client.get(path.format("acme"), headers=stranger)
        absent = await client.get(path.format("nobody"), headers=stranger)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.json()["detail"].replace("acme", "nobody") == absent.json()["detail"]
    for path in ("/analytics/series/{}", "/analytics/series/{}/samples"):
        foreign = await client.get(path.format(series.hex), headers=stranger)
        absent = await client.get(path.format(missing), headers=stranger)
        assert foreign.status_code == absent.status_code == 404
        assert foreign.json()["detail"].replace(series.hex, missing) == absent.json()["detail"]
    score = series.derived(SCORE).hex
    assert (await client.get(f"/analytics/series/{score}", headers=stranger)).status_code == 404
    listed = (await client.get("/analytics/series", headers=stranger)).json()
    assert listed["items"] == []
    assert (await client.post("/dashboard/acme/link", headers=stranger)).status_code == 404


async def test_a_writer_may_not_read(client: httpx.AsyncClient, seed: Seed, parts: Wiring) -> None:
    writer = {"X-API-Key": await key_of(parts, "acme", Role.WRITER)}
    assert (await client.get("/analytics/dashboard/acme", headers=writer)).status_code == 403


async def test_a_link_logs_in_once(
    client: httpx.AsyncClient, seed: Seed, parts: Wiring, reader: dict[str, str]
) -> None:
    answer = await client.post("/dashboard/acme/link", headers=reader)
    url = answer.json()["url"]
    assert url.startswith("http://offbeat.test/login/")
    principal = await parts.sessions.redeem(url.rsplit("/", 1)[1])
    assert (principal.role, principal.tenant) == (Role.READER, "acme")
