"""Rates: extrapolated to the ends of their windows, over resets, as Prometheus 3 rounds them."""

import math
from itertools import pairwise

import numpy as np
import pytest

from service.storage.columns import Columns
from tests.support.literal import STALE, Literal, ask, every, labels, table


def _one(values: list[float | None], call: str, at: float, every_seconds: float = 60) -> float:
    rows = table(ask(call, Literal({labels("c_total"): every(every_seconds, values)}), at))
    [[found]] = rows.values()
    assert found is not None
    return found


def _plain(t: list[int], v: list[float], end: int, length: int, *, counter: bool) -> float:
    """The increase that a window of `length` milliseconds shows, step by step."""
    grown = v[-1] - v[0]
    if counter:
        for before, now in pairwise(v):
            if now < before:
                grown += before
    to_start, to_end = (t[0] - (end - length)) / 1000, (end - t[-1]) / 1000
    sampled = (t[-1] - t[0]) / 1000
    spacing = sampled / (len(t) - 1)
    if to_start >= spacing * 1.1:
        to_start = spacing / 2
    if counter and grown > 0 and v[0] >= 0:
        to_start = min(to_start, sampled * (v[0] / grown))
    if to_end >= spacing * 1.1:
        to_end = spacing / 2
    return grown * ((sampled + to_start + to_end) / sampled)


@pytest.mark.parametrize("call", ["increase", "delta"])
@pytest.mark.parametrize("resets", [0.02, 0.4])
def test_growth_is_what_the_steps_say(call: str, resets: float) -> None:
    rng = np.random.default_rng(3)
    series = {}
    for i in range(20):
        t = np.cumsum(rng.integers(500, 9000, 150))
        v = np.empty(150)
        total = 0.0
        for j in range(150):
            total = rng.uniform(0, 3) if rng.random() < resets else total + rng.exponential(2.5)
            v[j] = total
        series[labels("c_total", a=str(i))] = Columns(t, v)
    found = table(ask(f"{call}(c_total[7m])", Literal(series), 60, 600, 30))
    for pairs, columns in series.items():
        for step, end in enumerate(range(60_000, 600_001, 30_000)):
            inside = (columns.t > end - 420_000) & (columns.t <= end)
            value = found[pairs[1:]][step]
            if inside.sum() < 2:
                assert value is None
                continue
            t, v = columns.t[inside].tolist(), columns.v[inside].tolist()
            assert value == _plain(t, v, end, 420_000, counter=call == "increase")


def test_a_rate_is_the_increase_by_second() -> None:
    values: list[float | None] = [3, 8, 20, 1, 5, 9]
    assert _one(values, "rate(c_total[150s])", 300) == pytest.approx(
        _one(values, "increase(c_total[150s])", 300) / 150, rel=1e-15
    )
    assert _one(values, "rate(c_total[150500ms])", 300) > 0


@pytest.mark.parametrize(
    ("begin", "increase"),
    # Zero is reached at once, within half a spacing, or not before it.
    [(0.0, 60.0), (1.0, 61.0), (2.5, 62.5), (7.0, 63.0), (500.0, 63.0)],
)
def test_a_counter_was_not_below_zero_before(begin: float, increase: float) -> None:
    values: list[float | None] = [begin + 6 * i for i in range(11)]
    assert _one(values, "increase(c_total[20m])", 600) == pytest.approx(increase, rel=1e-14)


def test_a_window_of_one_sample_shows_no_growth() -> None:
    source = Literal({labels("c_total"): every(60, [1, STALE, 3])})
    for call in ("rate", "increase", "delta", "irate", "idelta", "deriv"):
        assert table(ask(f"{call}(c_total[1m])", source, 120)) == {}
        assert table(ask(f"{call}(c_total[5m])", source, 120)) != {}


def test_after_a_reset_a_counter_began_at_zero() -> None:
    assert _one([5, 9, 3], "irate(c_total[5m])", 120) == 3 / 60
    assert _one([5, 9, 3], "idelta(c_total[5m])", 120) == -6
    assert _one([5, 9, 12], "irate(c_total[5m])", 120) == 3 / 60
    assert math.isnan(_one([5, 9, math.nan], "irate(c_total[5m])", 120))
    assert _one([3, 2, 2, 5, 1], "resets(c_total[5m])", 240) == 2


def test_changes_are_between_samples_and_nan_is_like_nan() -> None:
    nan = math.nan
    assert _one([1, 1, 2, nan, nan, 2], "changes(c_total[6m])", 300) == 3
    assert _one([1, 5, 5], "changes(c_total[119s])", 120) == 0


def test_growth_beyond_numbers_is_none() -> None:
    assert math.isnan(_one([1, math.nan, 3, math.nan], "rate(c_total[5m])", 180))
    assert math.isnan(_one([math.inf, math.inf], "increase(c_total[5m])", 60))


def test_what_may_be_no_counter_is_said_once_each() -> None:
    series = {
        labels(name, a=a): every(60, [1, 2, 3])
        for name in ("up", "x_total", "x_sum", "x_count", "x_bucket")
        for a in "12"
    }
    text = (
        "PromQL info: metric might not be a counter, name does not end in "
        '_total/_sum/_count/_bucket: "up"'
    )
    source = Literal(series)
    for call in ("rate", "increase"):
        assert ask(f"{call}(up[5m])", source, 120).infos == (text,)
        assert ask(f"{call}(up[5m])", source, 0).infos == ()
        assert ask(f'{call}({{__name__=~"x_.*"}}[5m:])', Literal({}), 120).infos == ()
        for name in ("x_total", "x_sum", "x_count", "x_bucket"):
            assert ask(f"{call}({name}[5m])", source, 120).infos == ()
    assert ask("irate(up[5m])", source, 120).infos == ()


def test_lines_through_samples() -> None:
    values: list[float | None] = [1, 3, 2, 6, 7.5, 8, 12]
    seconds = 300 * np.arange(7)
    slope, value = np.polyfit(seconds, np.array(values, float), 1)
    assert _one(values, "deriv(c_total[40m])", 1800, 300) == pytest.approx(slope, rel=1e-13)
    assert _one(values, "predict_linear(c_total[40m], 700)", 1800, 300) == pytest.approx(
        value + slope * 2500, rel=1e-13
    )
    # A level line is level to the last bit, and what is infinite has no line.
    tenths: list[float | None] = [0.1] * 7
    assert _one(tenths, "deriv(c_total[7m])", 360) == 0
    assert _one(tenths, "predict_linear(c_total[7m], 1e6)", 360) == 0.1
    assert math.isnan(_one([math.inf, math.inf], "deriv(c_total[7m])", 60))
    assert math.isnan(_one([1, math.inf, 2], "predict_linear(c_total[7m], 1)", 120))


def test_a_line_is_of_the_window_and_told_from_the_time_of_evaluation() -> None:
    source = Literal({labels("m"): every(60, [float(i) for i in range(60)])})
    found = table(ask("predict_linear(m[10m] offset 5m, 60)", source, 1200, 1320, 60))
    expected = [20 + 1, 21 + 1, 22 + 1]
    [row] = found.values()
    assert row == pytest.approx(expected, rel=1e-12)
    fixed = table(ask("predict_linear(m[10m] @ 900, 60)", source, 1200, 1320, 60))
    assert next(iter(fixed.values())) == pytest.approx(expected, rel=1e-12)
