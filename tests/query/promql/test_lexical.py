"""What Prometheus reads and the parser alone does not; and what looks like it and is not."""

import time

import pytest

from service.domain.errors import InvalidInput
from service.query.promql.expressions import Number, Range, Select, Subquery
from service.query.promql.parse import TEXT_MAX, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2_500", 2500),
        ("-12_345.6_7", -12345.67),
        ("3e1_0", 3e10),
        (".2_5", 0.25),
        ("0x_aB", 171),
        ("0X1_0", 16),
        ("0_17", 15),
        ("017", 15),
        ("018", 18),
        ("0e7", 0),
        ("0.5e1", 5),
        ("00", 0),
        ("01777777777777777777777", 1777777777777777777777),
        ("9223372036854775808", 2.0**63),
        ("0h", 0),
        ("0d0h0ms", 0),
        ("0d2m", 120),
    ],
)
def test_numbers_of_all_forms(text: str, value: float) -> None:
    assert parse(text) == Number(float(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1__0", "bad number or duration syntax"),
        ("1_", "bad number or duration syntax"),
        ("1_.5", "bad number or duration syntax"),
        ("1_0s", "bad number or duration syntax"),
        ("2e308", 'error parsing number: strconv.ParseFloat: parsing "2e308": value out of range'),
        ("m > -1e9_99", 'parsing "1e9_99": value out of range'),
        ("0x8000000000000000", 'parsing "0x8000000000000000": invalid syntax'),
        ("m[0]", "duration must be greater than 0"),
        ("m[0ms]", "duration must be greater than 0"),
        ("m[1m:0]", "duration must be greater than 0"),
        ("m or fill(1) n", "filling in missing series not allowed for set operators"),
        ("2 * fill(1) m", "filling in missing series only allowed between instant vectors"),
        ("m > bool fill_left(1) 2", "filling in missing series only allowed between instant"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert said in str(refused.value)


def test_what_looks_like_a_number_is_left_alone() -> None:
    names = ("m_1_000", "_1_0", ":1_0", "a:1_0", "inf_1", "m0s", "a:0s")
    for name in names:
        found = parse(name)
        assert isinstance(found, Select)
        assert found.selector.name == name
    found = parse("""m{a_1_0="1_0 0s", b='2_0', c=`3_0`} # 4_0""")
    assert isinstance(found, Select)
    assert [m.value for m in found.selector.matchers] == ["m", "1_0 0s", "2_0", "3_0"]


@pytest.mark.parametrize(
    "part",
    ['\\"', "\\'", "'\"", '"\\\n', "`", "1_", "1m", "0x_f", "1 ", ", {", "1e", ".", "#"],
)
def test_nonsense_is_refused_at_once(part: str) -> None:
    text = (part * TEXT_MAX)[: TEXT_MAX - 1] + "_"
    begun = time.process_time()
    with pytest.raises(InvalidInput):
        parse(text)
    assert time.process_time() - begun < 1


def test_lengths_are_numbers_of_seconds() -> None:
    found = parse("m[1_200:6_0] offset -1_0 @ 1_000")
    assert isinstance(found, Subquery)
    assert (found.range_ms, found.step_ms) == (1_200_000, 60_000)
    assert (found.offset_ms, found.at) == (-10_000, 1_000_000)
    assert parse("m offset 0s") == parse("m offset 0")


def test_what_is_shorter_than_a_millisecond_is_cut_off() -> None:
    for text, range_ms, offset_ms in (
        ("m[2.0029] offset 1.0019", 2002, 1001),
        ("m[0.0019] offset -1.0019", 1, -1001),
    ):
        found = parse(text)
        assert isinstance(found, Range)
        assert (found.range_ms, found.select.offset_ms) == (range_ms, offset_ms)
