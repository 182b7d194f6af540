"""Series as unit tests write them."""

import math

import numpy as np
import pytest

from service.domain.errors import InvalidInput
from service.query.promql.vectors import is_stale
from service.rules.unit_tests.notation import labels_of, values_of

_ = None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("1 2 3", [1, 2, 3]),
        ("  1\n2  ", [1, 2]),
        ("_ 1 _x3 2", [_, 1, _, _, _, 2]),
        ("_x0 1", [1]),
        ("1+2x3", [1, 3, 5, 7]),
        ("1-2x3", [1, -1, -3, -5]),
        ("1x3", [1, 1, 1, 1]),
        ("1x0", [1]),
        ("-1-2x1", [-1, -3]),
        ("0x3", [0, 0, 0, 0]),  # a repetition, no hexadecimal number
        ("1e3 -2.5E-1 .5 5. +7", [1000, -0.25, 0.5, 5, 7]),
        ("1e3+1e2x2", [1000, 1100, 1200]),
        ("Inf -Inf +Inf inf", [math.inf, -math.inf, math.inf, math.inf]),
        ("010 08", [8, 8]),  # what can be octal is
    ],
)
def test_values_stand_one_an_interval(text: str, values: list[float | None]) -> None:
    found, there = values_of(text)
    assert [v if t else None for v, t in zip(found.tolist(), there.tolist(), strict=True)] == values


def test_steps_add_up_with_their_roundings() -> None:
    found, _there = values_of("0+0.1x10")
    total, expected = 0.0, []
    for _i in range(11):
        expected.append(total)
        total += 0.1
    assert found.tolist() == expected
    assert found[10] != 1.0


def test_nan_is_a_value_and_stale_a_marker() -> None:
    found, there = values_of("NaN stale -NaN")
    assert there.all()
    assert np.isnan(found).all()
    assert is_stale(found).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 two", "unexpected 'two'"),
        ("1+2", "unexpected '1+2'"),
        ("1x", "unexpected '1x'"),
        ("stalex2", "unexpected 'stalex2'"),
        ("NaNx", "unexpected"),
        ("{{schema:0 count:1}}", "native histograms"),
        ("1x99999999999", "may have 10,000,000 values"),
        (f"_x{'9' * 5000}", "may have 10,000,000 values"),
    ],
)
def test_what_is_no_value_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        values_of(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("{}", {}),
        ("up", {"__name__": "up"}),
        ("job:up:rate5m", {"__name__": "job:up:rate5m"}),
        ('up{a="b"}', {"__name__": "up", "a": "b"}),
        ("up { a = 'b' , c=`d\\n` , }", {"__name__": "up", "a": "b", "c": "d\\n"}),
        ('{a="x\\"y\\n\\u00e9}",b=""}', {"a": 'x"y\né}'}),
        ('{"my metric", "my label"="v"}', {"__name__": "my metric", "my label": "v"}),
        ('sum{a="1"}', {"__name__": "sum", "a": "1"}),
    ],
)
def test_labels_are_those_of_a_selector(text: str, labels: dict[str, str]) -> None:
    assert labels_of(text) == tuple(sorted(labels.items()))


@pytest.mark.parametrize(
    "text", ["5", 'up{a=~"b"}', "up{a=b}", 'up{a="b"', 'up{a="b" c="d"}', "up{} x", 'up{a="\\z"}']
)
def test_what_is_no_series_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        labels_of(text)
