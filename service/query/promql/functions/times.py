"""Times: of the evaluation, of samples, and the parts of a date in UTC."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from service.query.promql.expressions import Select
from service.query.promql.functions.maths import mapped
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.vectors import Array, Places, Vector, without_names

_DAY = 86_400
#: Go counts seconds from here on without a sign, so those before come after all others.
_EARLIEST = -9_223_371_966_579_724_800
#: 1 March of the year 0, in days of 1970: years that end with February have their leap day last.
_ERA = 719_468


@function("time")
def _time(asked: Asked, args: Sequence[Value]) -> Value:
    return asked.times / 1000


@function("start")
def _start(asked: Asked, args: Sequence[Value]) -> Value:
    return np.full(asked.steps.count, asked.whole.start_ms / 1000)


@function("end")
def _end(asked: Asked, args: Sequence[Value]) -> Value:
    return np.full(asked.steps.count, asked.whole.end_ms / 1000)


@function("range")
def _range(asked: Asked, args: Sequence[Value]) -> Value:
    return np.full(asked.steps.count, (asked.whole.end_ms - asked.whole.start_ms) / 1000)


@function("step")
def _step(asked: Asked, args: Sequence[Value]) -> Value:
    # A query of one time has no step.
    once = asked.whole.start_ms == asked.whole.end_ms
    return np.full(asked.steps.count, 0.0 if once else asked.whole.step_ms / 1000)


@function("timestamp", lazy=True)
def _timestamp(asked: Asked, args: Sequence[Value]) -> Value:
    arg = asked.node.args[0]
    if isinstance(arg, Select):
        vector, times = asked.newest(arg)
    else:
        vector, times = asked.vector(arg), asked.times
    seconds = np.broadcast_to(times / 1000, vector.values.shape)
    return without_names(Vector(vector.labels, seconds, vector.present))


def _enter(name: str, part: Callable[[Places, Places], Places]) -> None:
    """A part of a date, by day since 1970 and second of the day; of now without an argument."""

    @function(name)
    def call(asked: Asked, args: Sequence[Value]) -> Value:
        if not args:
            now = np.trunc(asked.times / 1000)[None, :]
            args = [Vector([()], now, np.ones(now.shape, np.bool_))]
        return mapped(cast(Vector, args[0]), lambda x: part(*_day(x)).astype(np.float64))


def _day(seconds: Array) -> tuple[Places, Places]:
    """Days since 1970 and seconds of the day of times as Go reads them."""
    # What is not a time, or beyond all times, is the earliest integer.
    fits = np.abs(seconds) < 2.0**63
    whole = np.where(fits, seconds, 0).astype(np.int64)
    whole[~fits] = np.iinfo(np.int64).min
    day, second = np.divmod(whole, _DAY)
    late = whole < _EARLIEST
    if late.any():
        far_day, far_second = np.divmod(whole.view(np.uint64), np.uint64(_DAY))
        day[late], second[late] = far_day[late], far_second[late]
    return day, second


def _date(day: Places) -> tuple[Places, Places, Places]:
    """Year, month and day of the month of days since 1970 in the Gregorian calendar.

    By eras of 400 years: H. Hinnant, "chrono-compatible low-level date algorithms".
    """
    era, of_era = np.divmod(day + _ERA, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    of_month = of_year - (153 * month + 2) // 5 + 1
    month = np.where(month < 10, month + 3, month - 9)
    return year + era * 400 + (month <= 2), month, of_month


def _first_of(year: Places, month: Places) -> Places:
    """The day since 1970 with which a month begins; the month may be the thirteenth."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    year = year - (month <= 2)
    era, of_era = np.divmod(year, 400)
    of_year = (153 * np.where(month > 2, month - 3, month + 9) + 2) // 5
    first: Places = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _ERA
    return first


def _day_of_year(day: Places) -> Places:
    year = _date(day)[0]
    return day - _first_of(year, np.ones_like(year)) + 1


def _days_in_month(day: Places) -> Places:
    year, month, _ = _date(day)
    return _first_of(year, month + 1) - _first_of(year, month)


_enter("minute", lambda day, second: second % 3600 // 60)
_enter("hour", lambda day, second: second // 3600)
_enter("day_of_week", lambda day, second: (day + 4) % 7)
_enter("day_of_month", lambda day, second: _date(day)[2])
_enter("day_of_year", lambda day, second: _day_of_year(day))
_enter("days_in_month", lambda day, second: _days_in_month(day))
_enter("month", lambda day, second: _date(day)[1])
_enter("year", lambda day, second: _date(day)[0])
