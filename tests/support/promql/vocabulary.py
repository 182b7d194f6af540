"""What generated expressions are made of, and how exact that is."""

from dataclasses import dataclass
from enum import IntEnum


class Exact(IntEnum):
    """How far two implementations must agree on a value."""

    ROUGH = 0  # but for some of its last bits
    SAME = 1  # to the last bit
    SUMMABLE = 2  # and sums are too, for they need no rounding


@dataclass(frozen=True)
class Made:
    """An expression.

    `key` are labels that tell its series apart. `distinct`: no two of its values are equal at one
    time. `ordered`: its values come in order.
    """

    text: str
    exact: Exact
    key: frozenset[str] = frozenset()
    distinct: bool = False
    ordered: bool = False


@dataclass(frozen=True)
class Metric:
    name: str
    key: tuple[str, ...]
    matchers: tuple[str, ...] = ()
    counter: bool = False
    distinct: bool = False
    finite: bool = True


METRICS = (
    Metric(
        "requests_total",
        ("job", "instance", "code"),
        ('code="200"', 'code!="500"', 'code=~"4.*|5.."', 'instance!~"a|b"', 'job="web"', 'x=""'),
        counter=True,
        distinct=True,
    ),
    Metric(
        "bytes_total",
        ("job", "instance"),
        ('job="api"', 'instance=~"[ab]"', 'instance="d"'),
        counter=True,
        distinct=True,
    ),
    Metric("limit", ("job", "instance"), ('job="api"', 'instance!="a"'), distinct=True),
    Metric("up", ("job", "instance"), ('job="web"', 'instance=~".+"')),
    Metric("build_info", ("job",), ('version=~"1.*"', 'job="api"')),
    Metric("temperature", ("room", "floor"), ('room="north"', 'floor=~"1|3"', 'floor!="2"')),
    Metric("strange", ("kind",), ('kind=~".*inf"', 'kind!="nan"', 'kind="mixed"'), finite=False),
    Metric("flapping", ("n",), ('n!="0"', 'n=~"1|2"')),
    Metric("clock_seconds", ("zone",), ('zone="now"', 'zone!="old"'), distinct=True),
    Metric("late", ("job",), ("", 'job="api"')),
    Metric("nothing", ("job",), ('job="api"',)),
    Metric("latency_seconds_bucket", ("job", "le"), ('job="api"', 'le!="+Inf"'), counter=True),
)
WEIGHTS = (4, 3, 2, 2, 1, 4, 2, 2, 1, 1, 1, 2)

RANGES = ("30s", "45s", "1m", "90s", "3m", "5m", "8m", "20m")
NUMBERS = ("0", "1", "2", "3", "0.5", "-1", "-2.5", "7", "100", "1e3")
ODD_NUMBERS = ("Inf", "-Inf", "NaN", "-0.0", "1e300")
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
#: A function of each value, the exactness of what it gives for exact ones.
MATHS: dict[str, Exact] = {
    "abs": Exact.SUMMABLE,
    "ceil": Exact.SUMMABLE,
    "floor": Exact.SUMMABLE,
    "sgn": Exact.SUMMABLE,
    "round": Exact.SUMMABLE,
    "sqrt": Exact.SAME,
    "exp": Exact.ROUGH,
    "ln": Exact.ROUGH,
    "log2": Exact.ROUGH,
    "log10": Exact.ROUGH,
    "deg": Exact.SAME,
    "rad": Exact.SAME,
    **dict.fromkeys(
        (
            *("sin", "cos", "tan", "asin", "acos", "atan"),
            *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
        ),
        Exact.ROUGH,
    ),
}
#: Those that jump: a difference in the last bit may become one of 1.
JUMPING = frozenset({"ceil", "floor", "sgn", "round"})
DATES = (
    *("minute", "hour", "month", "year", "days_in_month"),
    *("day_of_week", "day_of_month", "day_of_year"),
)
#: A function of a window: how exact at most, and how exact its samples must be.
WINDOWS: dict[str, tuple[Exact, Exact]] = {
    "min_over_time": (Exact.SUMMABLE, Exact.ROUGH),
    "max_over_time": (Exact.SUMMABLE, Exact.ROUGH),
    "last_over_time": (Exact.SUMMABLE, Exact.ROUGH),
    "count_over_time": (Exact.SUMMABLE, Exact.ROUGH),
    "present_over_time": (Exact.SUMMABLE, Exact.ROUGH),
    "sum_over_time": (Exact.SUMMABLE, Exact.SUMMABLE),
    "avg_over_time": (Exact.ROUGH, Exact.SUMMABLE),
    "stddev_over_time": (Exact.ROUGH, Exact.SUMMABLE),
    "stdvar_over_time": (Exact.ROUGH, Exact.SUMMABLE),
    "changes": (Exact.SUMMABLE, Exact.SAME),
    "resets": (Exact.SUMMABLE, Exact.SAME),
    "delta": (Exact.SAME, Exact.SAME),
    "idelta": (Exact.SAME, Exact.SAME),
    "deriv": (Exact.ROUGH, Exact.SUMMABLE),
}
NEW_WINDOWS = [
    "first_over_time",
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
]
COUNTERS = ("rate", "increase", "irate")
AGGREGATIONS: dict[str, tuple[Exact, Exact]] = {
    "sum": (Exact.SUMMABLE, Exact.SUMMABLE),
    "avg": (Exact.ROUGH, Exact.SUMMABLE),
    "min": (Exact.SUMMABLE, Exact.ROUGH),
    "max": (Exact.SUMMABLE, Exact.ROUGH),
    "count": (Exact.SUMMABLE, Exact.ROUGH),
    "group": (Exact.SUMMABLE, Exact.ROUGH),
    "stddev": (Exact.ROUGH, Exact.SUMMABLE),
    "stdvar": (Exact.ROUGH, Exact.SUMMABLE),
}
