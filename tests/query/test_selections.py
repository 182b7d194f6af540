"""Selections are those of the matchers, found again without a look, and bounded."""

import itertools

import pytest

from service.domain.series import Series
from service.query import selections
from service.query.matchers import select
from service.query.selections import Known, Selections
from service.query.selector import parse_selector

SERIES = {
    series.id: series
    for series in (
        Series.of(name, {"region": region, "host": host})
        for name, region, host in itertools.product(
            ("load", "load:expected", "up"), ("", "eu", "us"), ("a", "b", "ab")
        )
    )
}


@pytest.mark.parametrize(
    "text",
    [
        "load",
        'load{region="eu"}',
        'load{region=""}',
        'load{region!=""}',
        'load{region!="eu",host=~"a.*"}',
        'load{host!~"a|b"}',
        '{region="us"}',
        '{__name__=~"load.*",host="b"}',
        '{__name__!="load",region=~"|eu",host=~"a|b"}',
        'load{other=""}',
        'load{other=~".+"}',
        "nothing",
    ],
)
def test_they_are_those_of_the_matchers(text: str) -> None:
    selector = parse_selector(text)
    known = Known(SERIES)
    assert known.recall(selector) is None
    found = known.select(selector)
    assert found.series == select(SERIES.values(), selector)
    assert found.ids == [series.id for series in found.series]
    assert found.labels == [series.labels for series in found.series]
    assert known.recall(selector) is known.select(selector) is found


def test_of_other_series_nothing_is_remembered() -> None:
    found, selector = Selections(), parse_selector("load")
    known = found.of("acme", SERIES)
    known.select(selector)
    assert found.of("acme", SERIES).recall(selector)
    assert found.of("other", SERIES).recall(selector) is None
    assert found.of("acme", dict(SERIES)).recall(selector) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selections, "_TENANTS_MAX", 2)
    found = Selections()
    first = found.of("a", SERIES)
    for tenant in ("b", "a", "c"):
        found.of(tenant, SERIES)
    assert found.of("a", SERIES) is first
    monkeypatch.setattr(selections, "_MORE", 2)
    monkeypatch.setattr(selections, "_TIMES", 1)
    known, every = Known(SERIES), parse_selector('{__name__!=""}')
    assert len(known.select(every).series) == len(SERIES)
    none, load = parse_selector("none"), parse_selector("load")
    known.select(none)
    assert known.recall(every)
    known.select(load)
    assert known.recall(load)
    assert known.recall(every) is None
