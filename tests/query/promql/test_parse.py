"""Texts become nodes; what the parser cannot bear is refused like anything else that is wrong."""

import re

import pytest

from service.domain.errors import InvalidInput
from service.query.promql.expressions import Aggregate, Range, Select, Subquery
from service.query.promql.parse import parse, prettified


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("m[1e300]", "duration out of range"),
        ("m offset -1e300", "duration out of range"),
        ("m offset 9999999y", "duration out of range"),
        ("m[5m:9999999y]", "duration out of range"),
        ("m @ 1e300", "timestamp out of bounds for @ modifier"),
        ("m @ -1e300", "timestamp out of bounds for @ modifier"),
    ],
)
def test_lengths_and_times_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)):
        parse(text)


@pytest.mark.parametrize(
    ("time", "at"),
    [("0", 0), ("17.25", 17_250), ("-5.5", -5500), ("2.5e11", 250 * 10**12), ("start()", "start")],
)
def test_a_time_is_of_any_year(time: str, at: int | str) -> None:
    select, samples = parse(f"m @ {time}"), parse(f"m[5m] @ {time}")
    assert isinstance(select, Select)
    assert isinstance(samples, Range)
    assert select.at == samples.select.at == at


def test_a_time_is_the_one_of_its_own_selector() -> None:
    quoted = parse('m{a="tv_sec: -5, tv_nsec: 0"} @ 100')
    assert isinstance(quoted, Select)
    assert quoted.at == 100_000
    outer = parse("sum(m @ -3)[5m:1m] @ 100")
    assert isinstance(outer, Subquery)
    assert outer.at == 100_000
    assert isinstance(outer.expr, Aggregate)
    assert isinstance(outer.expr.expr, Select)
    assert outer.expr.expr.at == -3000


def test_an_expression_is_formatted_as_it_is_parsed() -> None:
    assert prettified(r"sum(m{a=`\d`}) by (x)") == r'sum by (x) (m{a="\\d"})'
