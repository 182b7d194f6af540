"""The newest forecast of a series, and how likely it crosses a threshold, through the API."""

from datetime import datetime

import httpx
import numpy as np
import pytest

from service.domain.series import FORECAST, FORECAST_LOWER, FORECAST_UPPER, Series
from service.wiring import Wiring
from tests.support.seed import Seed, ahead, times

DISK = Series.of("disk_used_percent", {"host": "a"})
HOUR = 3600.0
PATH = f"/analytics/series/{DISK.hex}/forecast"
WIDTH = 5.0


@pytest.fixture
async def seed(parts: Wiring) -> Seed:
    """Two days, and the 24 hours after the last of them: 81, 82, …, of which one is over."""
    shards = parts.settings.log_shards
    seed = Seed(parts.redis, parts.database, parts.clock.now(), shards=shards)
    t, f = times(seed.now - HOUR, 48, HOUR), ahead(seed.now - HOUR, 24, HOUR) + 1
    middle = 80.0 + np.arange(1, 25)
    await seed.put_all(
        [
            (DISK, t, np.full(len(t), 80.0)),
            (DISK.derived(FORECAST), f, middle),
            (DISK.derived(FORECAST_LOWER), f, middle - WIDTH),
            (DISK.derived(FORECAST_UPPER), f, middle + WIDTH),
        ]
    )
    quality = {
        "forecaster": "autoregressive",
        "forecast_weights": {"autoregressive": 0.9, "naive": 0.1},
        "forecast_errors": {"autoregressive": 1.5, "naive": 4.0},
        "forecast_error": 1.4,
        "forecast_coverage": 0.91,
        "forecast_fell_back": False,
    }
    await seed.model(DISK, "ready", quality=quality)
    return seed


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_the_newest_forecast_and_who_made_it(
    client: httpx.AsyncClient, operator: dict[str, str], seed: Seed
) -> None:
    told = (await client.get(PATH, headers=operator)).json()
    assert told["series"] == DISK.hex
    assert told["value"] == list(range(81, 105))
    assert told["lower"][0] == 76.0
    assert (told["step_seconds"], told["level"]) == (HOUR, 0.9)
    assert moment(told["made_from"]) == pytest.approx(seed.now - HOUR, abs=1)
    assert moment(told["ends_at"]) * 1000 == pytest.approx(told["t"][-1], abs=1000)
    assert told["model"]["heaviest"] == "autoregressive"
    assert told["model"]["weights"] == {"autoregressive": 0.9, "naive": 0.1}
    assert (told["model"]["coverage"], told["model"]["fell_back"]) == (0.91, False)
    assert told["crossing"] is None
    # what models wrote leads to the same
    derived = f"/analytics/series/{DISK.derived(FORECAST).hex}/forecast"
    assert (await client.get(derived, headers=operator)).json() == told


async def test_how_likely_a_threshold_is_crossed(
    client: httpx.AsyncClient, operator: dict[str, str], seed: Seed
) -> None:
    params = {"threshold": 90, "horizon": "12h"}
    told = (await client.get(PATH, headers=operator, params=params)).json()
    assert len(told["t"]) == len(told["crossing"]["probability"]) == 12
    crossed = told["crossing"]["probability"]
    assert crossed == sorted(crossed)
    assert 0.5 < crossed[9] < 0.75  # where the middle is there
    early, likely, late = (told["crossing"][f"{x}_at"] for x in ("early", "likely", "late"))
    assert moment(early) < moment(likely) <= told["t"][9] / 1000 + 1
    assert late is None or moment(likely) < moment(late)
    below = await client.get(PATH, headers=operator, params={"threshold": 70, "above": "false"})
    assert max(below.json()["crossing"]["probability"]) < 0.01


async def test_intervals_of_another_level(
    client: httpx.AsyncClient, operator: dict[str, str], seed: Seed
) -> None:
    told = (await client.get(PATH, headers=operator, params={"level": 0.5})).json()
    assert told["upper"][0] - told["value"][0] == pytest.approx(WIDTH * 0.67449 / 1.64485, 1e-4)


async def test_says_what_is_wrong_or_missing(
    client: httpx.AsyncClient, operator: dict[str, str], seed: Seed
) -> None:
    young = await seed.put(Series.of("young"), [seed.now], [1.0])
    for path, params, status, reason in (
        (f"/analytics/series/{young.hex}/forecast", {}, 404, "nothing is forecast"),
        ("/analytics/series/0123456789abcdef/forecast", {}, 404, "no series"),
        (PATH, {"horizon": "soon"}, 400, "horizon"),
        (PATH, {"horizon": "0s"}, 400, "longer than 0"),
        (PATH, {"horizon": "90d"}, 400, "at most 30d"),
        (PATH, {"horizon": "500ms"}, 400, "before the first step"),
        (PATH, {"threshold": "nan"}, 422, "threshold"),
        (PATH, {"level": 1}, 422, "level"),
    ):
        refused = await client.get(path, headers=operator, params=params)
        assert refused.status_code == status, (params, refused.text)
        assert refused.headers["content-type"] == "application/problem+json"
        assert reason in refused.text
