"""Functions of windows against plain loops that say what they are."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import Unprocessable
from service.query.promql.budget import Budget, Limits, QueryTimeout
from service.query.promql.sums import along
from service.query.promql.vectors import Samples
from service.query.promql.windows import windows
from service.storage.columns import Columns
from tests.support.literal import STALE, Literal, ask, every, labels, same, table
from tests.support.plain_promql import plus

NAN, INF = math.nan, math.inf
VALUES = st.one_of(
    st.floats(allow_subnormal=False),
    st.floats(-100, 100).map(lambda x: round(x, 2)),
    st.integers(-5, 5).map(float),
)


def _sum(values: list[float]) -> float:
    total = lost = 0.0
    for x in values:
        total, lost = plus(total, lost, x)
    return total if math.isinf(total) else total + lost


def _average(values: list[float]) -> float:
    total, lost, mean = values[0], 0.0, 0.0
    incremental = False
    for count, x in enumerate(values[1:], 2):
        if not incremental:
            after = plus(total, lost, x)
            if not math.isinf(after[0]):
                total, lost = after
                continue
            incremental = True
            mean, lost = total / (count - 1), lost / (count - 1)
        share = (count - 1) / count
        mean, lost = plus(share * mean, share * lost, x / count)
    return mean + lost if incremental else total / len(values) + lost / len(values)


def _variance(values: list[float]) -> float:
    mean = mean_lost = total = lost = 0.0
    for count, x in enumerate(values, 1):
        distance = x - (mean + mean_lost)
        mean, mean_lost = plus(mean, mean_lost, distance / count)
        total, lost = plus(total, lost, distance * (x - (mean + mean_lost)))
    return (total + lost) / len(values)


def _quantile(q: float, values: list[float]) -> float:
    order = sorted(values, key=lambda x: (not math.isnan(x), x if x == x else 0.0))
    rank = q * (len(order) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(order) - 1)
    weight = rank - low
    return order[low] * (1 - weight) + order[high] * weight


def _extreme(more: Callable[[float, float], bool]) -> Callable[[list[float]], float]:
    def found(values: list[float]) -> float:
        most = values[0]
        for x in values:
            if more(x, most) or math.isnan(most):
                most = x
        return most

    return found


def _deviation(values: list[float]) -> float:
    middle = _quantile(0.5, values)
    return _quantile(0.5, [abs(x - middle) for x in values])


PLAIN: dict[str, Callable[[list[float]], float]] = {
    "sum_over_time(m[{r}])": _sum,
    "avg_over_time(m[{r}])": _average,
    "stdvar_over_time(m[{r}])": _variance,
    "stddev_over_time(m[{r}])": lambda values: float(np.sqrt(_variance(values))),
    "max_over_time(m[{r}])": _extreme(lambda a, b: a > b),
    "min_over_time(m[{r}])": _extreme(lambda a, b: a < b),
    "mad_over_time(m[{r}])": _deviation,
    "quantile_over_time(0.83, m[{r}])": lambda values: _quantile(0.83, values),
    "count_over_time(m[{r}])": lambda values: float(len(values)),
    "last_over_time(m[{r}])": lambda values: values[-1],
    "first_over_time(m[{r}])": lambda values: values[0],
    "changes(m[{r}])": lambda values: float(sum(not same(a, b) for a, b in pairwise(values))),
    "resets(m[{r}])": lambda values: float(sum(b < a for a, b in pairwise(values))),
}


@pytest.mark.parametrize("call", PLAIN)
@given(values=st.lists(VALUES, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_window_is_what_a_loop_over_it_says(call: str, values: list[float]) -> None:
    source = Literal({labels("m"): every(10, values)})
    with np.errstate(all="ignore"):
        expected = PLAIN[call](values)
    [[found]] = table(ask(call.format(r="10m"), source, 200)).values()
    assert found is not None
    assert same(found, expected), (found, expected)


@pytest.mark.parametrize("call", PLAIN)
def test_many_windows_and_long_ones_are_what_loops_say(call: str) -> None:
    # Enough series that they are computed beside each other, and one that is long by itself.
    rng = np.random.default_rng(5)
    series = {
        labels("m", a=str(i)): Columns(
            5000 * np.arange(40 + i), rng.normal(0, 10 ** (i % 7), 40 + i).round(2)
        )
        for i in range(60)
    }
    series[labels("m", a="long")] = Columns(50 * np.arange(4000), rng.normal(1e6, 3, 4000))
    found = table(ask(call.format(r="3m"), Literal(series), 180, 200, 20))
    for pairs, columns in series.items():
        key = pairs if "last" in call or "first" in call else pairs[1:]
        for step, end in enumerate((180_000, 200_000)):
            inside = columns.v[(columns.t > end - 180_000) & (columns.t <= end)].tolist()
            value = found[key][step]
            assert value is not None
            assert same(value, PLAIN[call](inside)), (pairs, end)


@given(rows=st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=1, max_size=4))
def test_sums_of_rows_are_sums_of_terms(rows: list[list[float]]) -> None:
    with np.errstate(all="ignore"):
        total, lost = along(np.array(rows))
    for row, t, c in zip(rows, total.tolist(), lost.tolist(), strict=True):
        expected, taken = row[0], 0.0
        for x in row[1:]:
            expected, taken = plus(expected, taken, x)
        assert same(t, expected)
        assert not math.isfinite(t) or same(c, taken)


def _one(values: list[float | None], call: str, at: float = 60) -> float | None:
    rows = list(table(ask(call, Literal({labels("m"): every(10, values)}), at)).values())
    return rows[0][0] if rows else None


def test_compensation_keeps_what_plain_sums_lose() -> None:
    values: list[float | None] = [3, 1e90, 4, -1e90]
    assert _one(values, "sum_over_time(m[2m])") == 7
    assert _one(values, "avg_over_time(m[2m])") == 1.75
    tenths = [0.1] * 10
    total = _one([*tenths], "sum_over_time(m[10m])", 100)
    assert total == float(sum(map(Fraction, tenths)))


@pytest.mark.parametrize(
    ("values", "average"),
    [
        ([1, 2, INF], INF),
        ([1, -INF, -INF], -INF),
        ([INF, 0, INF], INF),
        ([INF, INF, -INF], NAN),
        ([1e308, 1e308], 1e308),
        ([-1e308, -1e308, -1e308], -1e308),
        ([1e308, 1e308, -INF], -INF),
        ([1, 2, NAN], NAN),
    ],
)
def test_means_beyond_all_numbers(values: list[float | None], average: float) -> None:
    found = _one(values, "avg_over_time(m[2m])")
    assert found is not None
    assert same(found, average)


def test_windows_are_open_to_the_left_and_end_with_a_marker_only_there() -> None:
    source = Literal({labels("m"): every(10, [1, 2, 3, STALE, 5, 6])})
    assert table(ask("count_over_time(m[20s])", source, 20, 50, 10)) == {(): [2, 1, 1, 2]}
    assert table(ask("count_over_time(m[9s])", source, 30)) == {}


def test_when_extremes_were() -> None:
    values: list[float | None] = [3, 7, 1, 7, 1, NAN]
    assert _one(values, "ts_of_max_over_time(m[2m])") == 30
    assert _one(values, "ts_of_min_over_time(m[2m])") == 40
    assert _one([NAN, NAN, None], "ts_of_max_over_time(m[2m])") == 10
    assert _one([None, 2, 3, None], "ts_of_first_over_time(m[2m])") == 10
    assert _one([None, 2, 3, None], "ts_of_last_over_time(m[2m])") == 20


def test_quantiles_that_are_none_are_infinite_and_warned_of() -> None:
    source = Literal({labels("m"): every(10, [1, 2, 3])})
    for q, value, text in (("-0.1", -INF, "-0.1"), ("1e7", INF, "1e+07"), ("NaN", NAN, "NaN")):
        result = ask(f"quantile_over_time({q}, m[1m])", source, 30)
        [[found]] = table(result).values()
        assert found is not None
        assert same(found, value)
        assert result.warnings == (
            f"PromQL warning: quantile value should be between 0 and 1, got {text}",
        )
    assert ask("quantile_over_time(7, m[1m])", source, 900).warnings == ()


def test_smoothing_follows_level_and_trend() -> None:
    values: list[float | None] = [1, 3, 2, 6]
    level, trend = 0.25, 0.5
    now, slope = 1.0, 2.0
    now, before = level * 3 + (1 - level) * (now + slope), now
    slope = trend * (now - before) + (1 - trend) * slope
    now, before = level * 2 + (1 - level) * (now + slope), now
    slope = trend * (now - before) + (1 - trend) * slope
    now = level * 6 + (1 - level) * (now + slope)
    assert _one(values, "double_exponential_smoothing(m[2m], 0.25, 0.5)") == now
    assert _one([1, None, None, None], "double_exponential_smoothing(m[2m], 0.5, 0.5)") is None
    many = Literal({labels("m", a=str(i)): every(10, values) for i in range(99)})
    rows = table(ask("double_exponential_smoothing(m[2m], 0.25, 0.5)", many, 60))
    assert set(map(tuple, rows.values())) == {(now,)}


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ("0, 0.5", "invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000"),
        ("0.5, 1.5", "invalid trend factor. Expected: 0 < tf < 1, got: 1.500000"),
    ],
)
def test_smoothing_by_no_factor_is_refused(factors: str, text: str) -> None:
    source = Literal({labels("m"): every(10, [1, 2, 3])})
    call = f"double_exponential_smoothing(m[1m], {factors})"
    with pytest.raises(Unprocessable, match=text):
        ask(call, source, 30)
    assert table(ask(call, source, 900)) == {}


def test_names_are_dropped_but_by_the_first_and_the_last() -> None:
    source = Literal({labels("m"): every(10, [1, 2]), labels("n"): every(10, [3, 4])})
    for kept in ("first_over_time", "last_over_time"):
        assert len(table(ask(f'{kept}({{__name__=~"m|n"}}[1m])', source, 10))) == 2
    with pytest.raises(Unprocessable, match="same labelset"):
        ask('max_over_time({__name__=~"m|n"}[1m])', source, 10)


def test_time_that_is_over_ends_the_work() -> None:
    samples = Samples.of([(labels("m"), every(1, [0.5] * 100))])
    ends = 1000 * np.arange(50, 100)
    made = windows(samples, ends, 50_000, ends)
    over = Budget(Limits(seconds=-1.0))
    with pytest.raises(QueryTimeout):
        made.each(over, lambda rows: rows.values().sum(axis=1))
