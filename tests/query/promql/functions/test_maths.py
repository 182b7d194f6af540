"""Functions of one number, and of times."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import Unprocessable
from tests.support.literal import Literal, ask, every, labels, same, table

INF, NAN = math.inf, math.nan


def _of(call: str, value: float, at: float = 0) -> float | None:
    rows = list(table(ask(call, Literal({labels("m"): every(60, [value])}), at)).values())
    return rows[0][0] if rows else None


@pytest.mark.parametrize(
    ("call", "value", "result"),
    [
        ("abs(m)", -2.5, 2.5), ("abs(m)", -INF, INF), ("ceil(m)", -2.5, -2), ("floor(m)", -2.5, -3),
        ("sgn(m)", -7, -1), ("sgn(m)", INF, 1), ("sgn(m)", 0, 0), ("sgn(m)", NAN, NAN),
        ("round(m)", 2.5, 3), ("round(m)", -2.5, -2), ("round(m, 0.1)", 0.25, 0.3),
        ("round(m, 10)", 15, 20), ("round(m, 0)", 15, NAN), ("round(m)", -INF, -INF),
        ("sqrt(m)", -1, NAN), ("ln(m)", 0, -INF), ("ln(m)", -1, NAN), ("log2(m)", 8, 3),
        ("log2(m)", 2.0**-1074, -1074), ("log2(m)", 0, -INF), ("log2(m)", INF, INF),
        ("log10(m)", 100, 2), ("log10(m)", -1, NAN), ("exp(m)", -INF, 0), ("exp(m)", 1000, INF),
        ("acos(m)", 2, NAN), ("atanh(m)", 1, INF), ("deg(m)", math.pi, 180),
        ("rad(m)", 180, math.pi),
        ("clamp(m, 1, 3)", 5, 3), ("clamp(m, 1, 3)", -5, 1), ("clamp(m, 3, 1)", 2, None),
        ("clamp(m, 0, NaN)", 1, NAN), ("clamp(m, NaN, 0)", 1, NAN), ("clamp(m, 0, 1)", NAN, NAN),
        ("clamp_min(m, 2)", -INF, 2), ("clamp_max(m, 2)", INF, 2),
        ("clamp_max(m, -Inf)", NAN, -INF),
        ("clamp_min(m, Inf)", NAN, INF), ("clamp_min(m, 2)", NAN, NAN),
        ("clamp_max(m, NaN)", 1, NAN), ("scalar(m)", 4, 4),
        ("max_of(3, scalar(m))", 7, 7), ("min_of(3, scalar(m))", 7, 3), ("max_of(3, NaN)", 0, NAN),
        ("max_of(Inf, NaN)", 0, INF), ("min_of(NaN, -Inf)", 0, -INF), ("vector(scalar(m))", 4, 4),
    ],
)  # fmt: skip
def test_numbers(call: str, value: float, result: float | None) -> None:
    assert same(_of(call, value), result)


def test_names_go_and_equal_labels_are_refused() -> None:
    source = Literal({labels(name, a="1"): every(60, [2.0]) for name in ("x", "y")})
    assert table(ask("abs(x)", source, 0)) == {labels(a="1"): [2]}
    for call in ("abs({__name__=~'x|y'})", "clamp_min({a='1'}, 1)", "timestamp({a='1'})"):
        with pytest.raises(Unprocessable, match="same labelset"):
            ask(call, source, 0)


def test_a_scalar_is_of_one_series() -> None:
    source = Literal({labels("m", a="1"): every(60, [1, None]), labels("m", a="2"): every(60, [3])})
    [[first, later]] = table(ask("scalar(m)", source, 0, 400, 400)).values()
    assert first is not None
    assert math.isnan(first)
    assert later is not None
    assert math.isnan(later)
    assert table(ask('scalar(m{a="1"})', source, 0)) == {(): [1]}


def test_times_of_samples_and_of_evaluation() -> None:
    source = Literal({labels("m"): every(60, [1, 2], start=0.5)})
    assert table(ask("timestamp(m)", source, 1, 121, 60)) == {(): [0.5, 60.5, 60.5]}
    assert table(ask("timestamp((m))", source, 1)) == {(): [0.5]}
    assert table(ask("timestamp(m offset 1m)", source, 61)) == {(): [0.5]}
    assert table(ask("timestamp(m @ 61)", source, 1, 61)) == {(): [60.5, 60.5]}
    assert table(ask("timestamp(-m)", source, 1, 61)) == {(): [1, 61]}
    assert table(ask("time()", source, 0.25)) == {(): [0.25]}


#: Go's year of a time that is none: as many seconds after 1970 as its smallest integer is before.
_ODD_YEAR = 292_277_026_596


@pytest.mark.parametrize(
    ("value", "parts"),
    # year, month, day, day of the week, day of the year, days in the month, hour, minute
    [
        (0, (1970, 1, 1, 4, 1, 31, 0, 0)),
        (-1, (1969, 12, 31, 3, 365, 31, 23, 59)),
        (-0.9, (1970, 1, 1, 4, 1, 31, 0, 0)),
        (951_827_696, (2000, 2, 29, 2, 60, 29, 12, 34)),
        (4_107_542_399, (2100, 2, 28, 0, 59, 28, 23, 59)),
        (-62_167_219_200, (0, 1, 1, 6, 1, 31, 0, 0)),
        (-62_167_219_201, (-1, 12, 31, 5, 365, 31, 23, 59)),
        (NAN, (_ODD_YEAR, 12, 4, 0, 339, 31, 15, 30)),
        (INF, (_ODD_YEAR, 12, 4, 0, 339, 31, 15, 30)),
        (-1e300, (_ODD_YEAR, 12, 4, 0, 339, 31, 15, 30)),
    ],
)
def test_parts_of_dates(value: float, parts: tuple[int, ...]) -> None:
    names = (
        "year", "month", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour",
        "minute",
    )  # fmt: skip
    assert tuple(_of(f"{name}(m)", value) for name in names) == parts


@given(st.datetimes(datetime(1, 1, 2), datetime(9990, 1, 1)))
def test_dates_are_those_of_the_calendar(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
    following = (moment.replace(day=1) + timedelta(days=32)).replace(day=1)
    expected = {
        "year": moment.year,
        "month": moment.month,
        "day_of_month": moment.day,
        "day_of_week": moment.isoweekday() % 7,
        "day_of_year": moment.timetuple().tm_yday,
        "days_in_month": (following - timedelta(days=1)).day,
        "hour": moment.hour,
        "minute": moment.minute,
    }
    assert {name: _of(f"{name}(m)", seconds) for name in expected} == expected


def test_dates_without_an_argument_are_of_now() -> None:
    assert table(ask("hour()", Literal({}), 7199.9, 7200.9, 1)) == {(): [1, 2]}
    assert table(ask("day_of_year()", Literal({}), -0.5)) == {(): [1]}
