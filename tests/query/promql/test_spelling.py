"""Numbers, texts and lengths of time are read as Prometheus reads them."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidInput
from service.query.promql.expressions import Number, Range, Select, String, Subquery
from service.query.promql.parse import TEXT_MAX, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12_500", 12_500.0),
        ("1_2.5_0e0_1", 125.0),
        (".2_5", 0.25),
        ("0x_Ff", 255.0),
        ("0x1_0", 16.0),
        ("010", 8.0),
        ("0_1_0", 8.0),
        ("0_9", 9.0),
        ("0e3", 0.0),
        ("03e2", 300.0),
        ("02.50", 2.5),
        ("0700000000000000000000000", 7e23),  # too long for octal digits
        ("18446744073709551616", 2.0**64),
        ("1e-999", 0.0),
        ("-3_0", -30.0),
    ],
)
def test_a_number_is_read_as_go_reads_it(text: str, value: float) -> None:
    assert parse(text) == Number(value)


@pytest.mark.parametrize(
    "text", ["1__0", "1_", "_1 2", "1_.5", "1._5", "1e_5", "0x", "0b1", "0o7", "2_0s", "0x1_p1"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_names_texts_and_comments_keep_their_digits() -> None:
    found = parse('jobs_1_0{"2_0"="3_0",x=~"0e1"} # 1e999')

    assert isinstance(found, Select)
    assert [(m.name, m.value) for m in found.selector.matchers] == [
        ("__name__", "jobs_1_0"),
        ("2_0", "3_0"),
        ("x", "0e1"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"gr\xc3\xbc\xc3\x9fe"', "grüße"),
        (r"'\342\202\254 5'", "€ 5"),
        (r'"\xe2\x82\xac\x22\x5c\x0a\101"', '€"\\\nA'),
        (r'"\\xc3\\xbc"', r"\xc3\xbc"),
        (r'"\u00fc\U0001f600\t"', "ü😀\t"),
        (r'`\xc3\xbc "x"`', r'\xc3\xbc "x"'),
    ],
)
def test_escaped_bytes_are_utf_8(text: str, value: str) -> None:
    assert parse(text) == String(value)


@pytest.mark.parametrize("text", [r'"\xff"', r"jobs{x='\xc3'}", r'label_join(m, "\377", "-")'])
def test_a_text_that_is_not_utf_8_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1e999", 'parsing "1e999": value out of range'),
        ("m[1e999]", "value out of range"),
        ("9" * 400, "value out of range"),
        ("m offset Inf", "duration out of range"),
        ("m offset -NaN", "duration out of range"),
        ("m offset 1e300", "duration out of range"),
        ("m offset -293y", "duration out of range"),
        ("m offset -1e18", "duration out of range"),
        ("m[1e300]", "duration out of range"),
        ("m[1e19]", "duration out of range"),
        ("m[99999999999999]", "duration out of range"),
        ("m[293y]", "duration out of range"),
        ("m[5m:1e10]", "duration out of range"),
        ("m[0]", "duration must be greater than 0"),
        ("m[0:1m]", "duration must be greater than 0"),
        ("m[5m:0]", "duration must be greater than 0"),
        ("m @ 1e12", "timestamp out of bounds for @ modifier"),
        ("m @ 1e16", "timestamp out of bounds for @ modifier"),
        ("m @ 1e300", "timestamp out of bounds for @ modifier"),
        ("m @ -1e16", "timestamp out of bounds for @ modifier"),
        ("a and fill(1) b", "filling in missing series not allowed for set operators"),
        ("a or on(x) fill_left(1) b", "not allowed for set operators"),
        ("a + fill(1) 2", "only allowed between instant vectors"),
        ("2 > bool fill_right(1) a", "only allowed between instant vectors"),
        ('info(a, target_info{x="y"})', "expected label selectors only, got vector selector"),
        ('info(a, {x="y"} > 1)', "expected label selectors only"),
        ('info(a, ({x="y"}))', "expected label selectors only"),
    ],
)
def test_what_cannot_be_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("m[2_0]", 20_000),
        ("m[4.018]", 4018),
        ("m[1.0009]", 1000),
        ("m[292y]", 292 * 31_536_000_000),
    ],
)
def test_a_range_is_whole_milliseconds(text: str, milliseconds: int) -> None:
    found = parse(text)

    assert isinstance(found, Range)
    assert found.range_ms == milliseconds


def test_lengths_and_times_at_their_bounds() -> None:
    select, subquery = parse("m @ 253402300799 offset -292y"), parse("m[1w:2_0] @ -1e11")

    assert isinstance(select, Select)
    assert (select.at, select.offset_ms) == (253_402_300_799_000, -292 * 31_536_000_000)
    assert isinstance(subquery, Subquery)
    assert (subquery.step_ms, subquery.at) == (20_000, -100_000_000_000_000)


@pytest.mark.parametrize("begin", ['"', "'", "`"])
def test_a_text_without_an_end_is_refused_at_once(begin: str) -> None:
    text = begin + "\\" + ("\\" + begin) * (TEXT_MAX // 2 - 2)
    started = time.process_time()

    with pytest.raises(InvalidInput):
        parse(text)

    assert (
        time.process_time() - started < 1
    )  # each character is looked at once, not thousands of times


_PIECES = (
    "m", '{a="b"}', "(", ")", "[5m]", "[5m:", "[", "]", "offset", "@", "-", "+", "*", "== bool",
    "1e300", "-1e300", "1e19", "9.3e18", "1e10", "0", "5m", "293y", "99999999999999999999y", "Inf",
    "NaN", "1_0", "0x1F", "0e5", "1e-9", "start()", "sum by (a)", "rate", "on(a)", "group_left",
    "fill(1)", "and", "info", "time()", '"\\xff"', '"\\xc3\\xa9', "`x`", "'y'", "#c\n", "é", "\0",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=8).map(" ".join))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        parse(text)
