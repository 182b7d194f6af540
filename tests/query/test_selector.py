"""Selectors read PromQL's grammar and match as Prometheus does."""

import pytest

from service.domain.errors import InvalidInput
from service.domain.series import Series
from service.query.matchers import matches, select
from service.query.selector import parse_selector

EU = Series.of("plays", {"region": "eu-west", "cdn": "edge-7"})
US = Series.of("plays", {"region": "us-east"})
SKIPS = Series.of("skips")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plays", [EU, US]),
        ('plays{region="eu-west"}', [EU]),
        ('plays{region!="eu-west"}', [US]),
        ('plays{region=~"eu.*|us"}', [EU]),
        ('plays{region!~"eu"}', [EU, US]),  # anchored
        ('plays{cdn=""}', [US]),
        ('plays{cdn=~".*"}', [EU, US]),
        ('{__name__=~"plays|skips"}', [EU, US, SKIPS]),
        ('{region="us-east"}', [US]),
        ("nothing", []),
    ],
)
def test_matching(text: str, found: list[Series]) -> None:
    assert select([SKIPS, US, EU], parse_selector(text)) == sorted(found, key=lambda s: s.labels)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names a metric"),
        ("rate(plays[5m])", "is an expression"),
        ("plays offset 5m", "takes no offset"),
        ("plays{", "is not a metric selector"),
        ('plays{a=~"("}', "illegal regex"),
        ("x" * 3000, "2048 characters"),
        ('plays{a="1" or b="2"}', "`or` between matchers is not PromQL"),
        ("\ud800", "is not a metric selector"),
    ],
)
def test_what_is_no_selector_says_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason.replace("`", ".")):
        parse_selector(text)


def test_a_hostile_regular_expression_costs_linear_time() -> None:
    selector = parse_selector('plays{region=~"(a+)+$"}')
    assert not matches(selector, Series.of("plays", {"region": "a" * 1000 + "b"}))


def test_derived_series_carry_the_same_labels() -> None:
    score = EU.derived(":anomaly_score")
    assert score.is_derived
    assert score.tags == EU.tags
    assert select([EU, score], parse_selector('plays{cdn="edge-7"}').derived(":anomaly_score")) == [
        score
    ]
