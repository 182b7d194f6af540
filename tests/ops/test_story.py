"""The demo's data: files, rows and the story's ends agree, and something really happens."""

import csv
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from service.domain.series import MetricType, Series
from service.domain.tenants import TENANT_ID

FOLDER = Path(__file__).parents[2] / "service" / "demo" / "data"
STORY: dict[str, Any] = YAML(typ="safe").load(FOLDER / "story.yaml")
SIX_HOURS = 72


def rows(item: dict[str, Any]) -> tuple[list[datetime], np.ndarray[Any, np.dtype[np.float64]]]:
    with (FOLDER / item["file"]).open(newline="") as file:
        reader = csv.reader(file)
        assert next(reader) == ["timestamp", "value"]
        found = [(datetime.fromisoformat(t), float(v)) for t, v in reader]
    return [t for t, _ in found], np.array([v for _, v in found])


def test_every_file_is_told_and_every_told_file_exists() -> None:
    told = [item["file"] for item in STORY["series"]]
    assert sorted(told) == sorted(path.name for path in FOLDER.glob("*.csv"))
    assert len(told) >= 10
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_900_000


def test_the_tenants_are_those_of_the_series() -> None:
    tenants = {tenant["id"] for tenant in STORY["tenants"]}
    assert {item["tenant"] for item in STORY["series"]} == tenants
    assert all(TENANT_ID.fullmatch(tenant) for tenant in tenants)


def test_no_two_series_are_the_same() -> None:
    ids = {(i["tenant"], Series.of(i["metric"], i["labels"]).id) for i in STORY["series"]}
    assert len(ids) == len(STORY["series"])


@pytest.mark.parametrize("item", STORY["series"], ids=lambda item: item["file"])
def test_a_series_is_whole(item: dict[str, Any]) -> None:
    times, values = rows(item)
    assert all(a < b for a, b in pairwise(times)), "timestamps ascend"
    assert np.isfinite(values).all()
    assert 2 <= len(item["labels"]) <= 3
    assert MetricType(item["metric_type"]) is MetricType.GAUGE
    assert (times[item["end_row"]] - times[0]).days >= 10
    assert item["end_row"] + 200 <= len(values), "something follows when the story has ended"
    assert item["notes"]


@pytest.mark.parametrize(
    "item", [i for i in STORY["series"] if i["anomaly"]], ids=lambda item: item["file"]
)
def test_something_happens_in_the_last_six_hours(item: dict[str, Any]) -> None:
    _, values = rows(item)
    end = item["end_row"] + 1
    before, last = values[end - 1000 : end - SIX_HOURS], values[end - SIX_HOURS : end]
    low, high = np.quantile(before, [0.002, 0.998])
    margin = high - low
    outside = np.flatnonzero((last > high + margin / 3) | (last < low - margin / 3))
    assert len(outside), "the last six hours look like the days before"
    hours = (SIX_HOURS - outside[0]) * 5 / 60
    assert 1 <= hours <= 4.5


def test_at_least_four_series_break_and_at_least_as_many_stay_calm() -> None:
    broken = [item["anomaly"] for item in STORY["series"]]
    assert broken.count(True) >= 4
    assert broken.count(False) >= 4


def test_the_licence_of_the_data_is_there() -> None:
    assert "Numenta" in (FOLDER / "LICENSE.txt").read_text()
    readme = (FOLDER / "README.md").read_text()
    for item in STORY["series"]:
        assert f"`{item['file']}`" in readme
