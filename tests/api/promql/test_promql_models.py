"""What models say, asked for over HTTP."""

from typing import Any

import httpx
import numpy as np
import pytest

from service.domain.series import Series
from tests.api.promql.conftest import NOW
from tests.support.seed import Seed

Headers = dict[str, str]


@pytest.fixture(autouse=True)
async def disk(seed: Seed) -> None:
    """A disk that fills up within six hours, and was full unexpectedly just now."""
    t = NOW - 3600 + 60 * np.arange(61)
    level = np.linspace(60.0, 70.0, 61)
    ahead = NOW + 3600 * np.arange(1, 7)
    await seed.modelled(
        Series.of("disk", {"host": "a"}),
        t,
        np.where(t == NOW, 90.0, level),
        level,
        width=1.0,
        unusual=t == NOW,
        forecast=(ahead, np.linspace(72.0, 97.0, 6)),
    )


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("anomaly_score(disk)", 0.9995),
        ("disk > expected_upper(disk)", 90.0),
        ("anomalous(disk)", 90.0),
        ("forecast(disk, 90m)", 74.5),
        ("crosses_in(disk, 95)", 6 * 3600.0),
        ('will_cross(disk, ">=", 95, 6h)', 90.0),
        ("disk:anomaly_score > 0.999", 0.9995),
    ],
)
async def test_at_one_time(
    client: httpx.AsyncClient, reader: Headers, query: str, value: float
) -> None:
    asked: Any = {"query": query, "time": NOW}
    answer = await client.get("/api/v1/query", params=asked, headers=reader)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["data"]["result"]
    assert found["metric"]["host"] == "a"
    assert float(found["value"][1]) == pytest.approx(value)


async def test_at_many_times(client: httpx.AsyncClient, reader: Headers) -> None:
    asked: Any = {"query": "anomalous(disk)", "start": NOW - 120, "end": NOW, "step": 60}
    answer = await client.get("/api/v1/query_range", params=asked, headers=reader)
    (found,) = answer.json()["data"]["result"]
    assert found["values"] == [[NOW, "90"]]


async def test_a_call_that_cannot_be_says_why(client: httpx.AsyncClient, reader: Headers) -> None:
    asked: Any = {"query": "forecast(rate(disk[5m]), 6h)", "time": NOW}
    answer = await client.get("/api/v1/query", params=asked, headers=reader)
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
    assert "forecast takes a metric" in answer.json()["error"]
