"""Labels replaced and joined, series in order, and where there is nothing."""

import pytest

from service.domain.errors import Unprocessable
from service.query.promql.budget import QueryTooDear
from tests.support.literal import STALE, Literal, ask, every, labels, table

ONE = Literal({labels("m", host="web-7.example", zone="eu"): every(60, [1])})


@pytest.mark.parametrize(
    ("template", "pattern", "value"),
    [
        ("$1", "(.*)-.*", "web"),
        ("$2/$1", "([a-z]+)-([0-9]+)[.].*", "7/web"),
        ("${1}x", "(.*)-.*", "webx"),
        ("$1x", "(.*)-.*", ""),  # the group named 1x
        ("$name", "(?P<name>.*)-.*", "web"),
        ("${name}s", "(?P<name>.*)-.*", "webs"),
        ("$$1", "(.*)-.*", "$1"),
        ("$", ".*", "$"),
        ("a$-b", ".*", "a$-b"),
        ("${1", "(.*)", "${1"),
        ("$9", "(.*)", ""),
        ("$0", ".*", "web-7.example"),
        ("$01", "(.*)", ""),
        (f"${'9' * 5000}", "(.*)", ""),
        ("[$2]", "(.*)|(x)", "[]"),  # the group that did not take part
        ("plain", "web.*", "plain"),
    ],
)
def test_labels_are_replaced_by_templates(template: str, pattern: str, value: str) -> None:
    call = f"label_replace(m, 'to', '{template}', 'host', `{pattern}`)"
    expected = {"to": value} if value else {}
    assert table(ask(call, ONE, 0)) == {
        labels("m", host="web-7.example", zone="eu", **expected): [1]
    }


@pytest.mark.parametrize("pattern", ["web", "eb-7.*", "WEB.*", "x"])
def test_what_does_not_match_as_a_whole_stays(pattern: str) -> None:
    call = f"label_replace(m, 'host', 'gone', 'host', '{pattern}')"
    assert list(table(ask(call, ONE, 0))) == [labels("m", host="web-7.example", zone="eu")]


def test_an_absent_label_is_empty_and_an_empty_one_is_absent() -> None:
    assert list(table(ask("label_replace(m, 'zone', '', 'nope', '')", ONE, 0))) == [
        labels("m", host="web-7.example")
    ]
    assert list(table(ask("label_replace(m, '__name__', 'n', '', '')", ONE, 0))) == [
        labels("n", host="web-7.example", zone="eu")
    ]
    lines = Literal({labels("m", a="x\ny"): every(60, [1])})
    assert list(table(ask("label_replace(m, 'a', '$1', 'a', '(.*)y')", lines, 0))) == [
        labels("m", a="x\n")
    ]


def test_labels_are_joined() -> None:
    call = "label_join(m, 'to', '/', 'zone', 'nope', 'host')"
    assert list(table(ask(call, ONE, 0))) == [
        labels("m", host="web-7.example", zone="eu", to="eu//web-7.example")
    ]
    assert list(table(ask("label_join(m, 'zone', '-')", ONE, 0))) == [
        labels("m", host="web-7.example")
    ]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("label_replace(m, 'a', '', 'b', '(')", "invalid regular expression in label_replace"),
        ("label_replace(m, '', 'x', 'b', '')", "invalid destination label name in label_replace"),
        ("label_join(m, '', '-', 'b')", "invalid destination label name in label_join"),
        ("label_join(m, 'a', '-', '')", "invalid source label name in label_join"),
    ],
)
def test_what_is_no_label_or_no_pattern_is_refused(call: str, text: str) -> None:
    with pytest.raises(Unprocessable, match=text):
        ask(call, ONE, 0)


@pytest.mark.parametrize(
    "call", ["label_replace(m, 'a', 'x', 'a', '.*')", "label_join(m, 'a', '')"]
)
def test_series_that_become_the_same_are_one_unless_they_meet(call: str) -> None:
    apart = Literal(
        {
            labels("m", a="1"): every(60, [1, STALE]),
            labels("m", a="2"): every(60, [None, 2]),
        }
    )
    assert list(table(ask(call, apart, 0, 60)).values()) == [[1, 2]]
    meeting = Literal({labels("m", a="1"): every(60, [1]), labels("m", a="2"): every(60, [2])})
    with pytest.raises(Unprocessable, match="same labelset"):
        ask(call, meeting, 0)


_LONG = "$1" * 900
_REPLACED = f"label_replace(m, 'a', '{_LONG}', 'host', '(.*)')"
_MANY = ", ".join(["'a'"] * 9)


@pytest.mark.parametrize(
    "call",
    [
        f"label_replace({_REPLACED}, 'a', '{_LONG}', 'a', '(.*)')",
        f"label_join({_REPLACED}, 'a', '', {_MANY})",
    ],
)
def test_labels_do_not_grow_without_end(call: str) -> None:
    with pytest.raises(QueryTooDear, match="labels would be too long: 65,536 characters"):
        ask(call, ONE, 0)


def _order(call: str, *values: str) -> list[str]:
    source = Literal({labels("m", v=v): every(60, [float(i)]) for i, v in enumerate(values)})
    return [dict(pairs).get("v", "") for pairs in table(ask(call, source, 0))]


def test_numbers_within_labels_are_in_their_order() -> None:
    order = ["", "1", "2", "10", "10a", "10a2", "10a10", "9223372036854775808", "a", "a2", "a10"]
    mixed = [order[i] for i in (4, 9, 1, 0, 10, 7, 2, 8, 6, 3, 5)]
    assert _order('sort_by_label(m, "v")', *mixed) == order
    assert _order('sort_by_label_desc(m, "v")', *mixed) == order[::-1]
    long = "9" * 5000
    assert _order('sort_by_label(m, "v")', f"{long}9", "²", long, "10", "³") == [
        *("10", long, f"{long}9", "²", "³")
    ]
    assert _order('sort_by_label(m, "nope")', "b", "a", "c") == ["a", "b", "c"]


def test_series_are_in_order_of_their_values_with_nan_last() -> None:
    nan = float("nan")
    source = Literal(
        {labels("m", v=str(i)): every(60, [v]) for i, v in enumerate([2, nan, -1, float("inf")])}
    )

    def order(call: str) -> list[str]:
        return [dict(pairs)["v"] for pairs in table(ask(call, source, 0))]

    assert order("sort(m)") == ["2", "0", "3", "1"]
    assert order("sort_desc(m)") == ["3", "0", "2", "1"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("nope", {}),
        ('nope{a="1", b=~"x", c!="y"}', {"a": "1"}),
        ('nope{a="1", a="2", b="3"}', {"b": "3"}),
        ('nope{a="1", a=~"2", b="3"}', {"b": "3"}),
        ('nope{a=~"2", a="1"}', {"a": "1"}),
        ('nope{a=""}', {}),
        ('{__name__="nope", a="1"}', {"a": "1"}),
    ],
)
def test_absence_has_the_labels_that_are_asked_for(selector: str, expected: dict[str, str]) -> None:
    for call in (f"absent({selector})", f"absent_over_time({selector}[5m])"):
        assert table(ask(call, ONE, 0)) == {labels(**expected): [1]}


def test_absence_is_where_no_series_is() -> None:
    source = Literal(
        {
            labels("m", a="1"): every(60, [1, STALE, None]),
            labels("m", a="2"): every(60, [None, None, 2]),
        }
    )
    assert table(ask('absent({a=~"."})', source, 0, 120)) == {(): [None, 1, None]}
    assert table(ask("absent_over_time(m[1m])", source, 0, 180)) == {(): [None, 1, None, 1]}
    assert table(ask('absent(sum(nope{a="1"}))', source, 0)) == {(): [1]}
    assert table(ask("absent(m)", source, 0)) == {}
    assert table(ask("present_over_time(m[1m])", source, 0, 120)) == {
        labels(a="1"): [1, None, None],
        labels(a="2"): [None, None, 1],
    }
