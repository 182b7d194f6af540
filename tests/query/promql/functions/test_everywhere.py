"""What holds for every function: at many steps as at each, over a subquery as over its samples."""

import math
import random

import numpy as np
import pytest

from service.query.promql.functions import FUNCTIONS
from service.query.promql.vectors import Vector
from service.storage.columns import Columns
from tests.support.literal import STALE, Literal, alike, ask, every, labels, table


def _words(text: str) -> list[str]:
    return text.split()


#: One call of each function; `{m}` is the selector, `{r}` the range.
CALLS = [
    *(
        f"{name}({{m}}[{{r}}])"
        for name in _words("""
            rate increase delta irate idelta deriv changes resets avg_over_time min_over_time
            max_over_time sum_over_time count_over_time last_over_time first_over_time
            present_over_time absent_over_time stddev_over_time stdvar_over_time mad_over_time
            ts_of_first_over_time ts_of_last_over_time ts_of_min_over_time ts_of_max_over_time
        """)
    ),
    *(
        f"{name}({{m}})"
        for name in _words("""
            abs ceil floor round exp ln log2 log10 sqrt sgn sin cos tan asin acos atan sinh cosh
            tanh asinh acosh atanh deg rad timestamp minute hour day_of_week day_of_month
            day_of_year days_in_month month year absent scalar sort sort_desc histogram_avg
            histogram_count histogram_sum histogram_stddev histogram_stdvar
        """)
    ),
    "quantile_over_time(0.3, {m}[{r}])",
    "quantile_over_time(scalar(h_count) / 40, {m}[{r}])",
    "predict_linear({m}[{r}], 90)",
    "double_exponential_smoothing({m}[{r}], 0.3, 0.6)",
    "round({m}, 0.1)",
    "clamp({m}, -3, 12)",
    "clamp_min({m}, scalar(h_count))",
    "clamp_max({m}, scalar(h_count))",
    "time()",
    "pi()",
    "max_of(time(), 400)",
    "min_of(time(), scalar({m}))",
    "hour()",
    "vector(time())",
    "sum_over_time({m}[{r}] @ 300)",
    "predict_linear({m}[{r}] @ 300, 60)",
    "quantile_over_time(0.7, {m}[{r}] @ 300)",
    "max_over_time({m}[{r}] @ 300)",
    "rate({m}[{r}] offset 1m)",
    'sort_by_label({m}, "a")',
    'sort_by_label_desc({m}, "a")',
    'label_replace({m}, "b", "$1", "a", "(.).*")',
    'label_join({m}, "b", "-", "a", "a")',
    "histogram_quantile(0.5, h_bucket)",
    "histogram_quantile(scalar(h_count) / 60, rate(h_bucket[{r}]))",
    'histogram_quantiles(h_bucket, "q", 0.5, 0.9)',
    "histogram_fraction(0.2, 2, h_bucket)",
    "info({m})",
    'info({m}, {{__name__="about"}})',
]
#: Of these the answer depends on what was asked for as a whole.
WHOLE = ["start()", "end()", "range()", "step()"]


def _series(chance: random.Random, count: int) -> Columns:
    odd = [math.nan, math.inf, -math.inf, STALE, None, None, 1e100, -1e100, 0.0]
    values = [
        chance.choice(odd) if chance.random() < 0.2 else round(chance.uniform(-40, 60), 3)
        for _ in range(count)
    ]
    return every(15, values)


@pytest.fixture(scope="module")
def source() -> Literal:
    chance = random.Random(11)
    series = {labels("m", a=name): _series(chance, 50) for name in ("x1", "x10", "y2")}
    total = 0.0
    counts = []
    for _ in range(50):
        total = total + chance.choice([0, 1, 2.5]) if chance.random() > 0.1 else 0.5
        counts.append(total)
    series[labels("h_count")] = every(15, counts)
    for share, bound in ((0.2, "0.1"), (0.9, "1"), (0.8, "2.5"), (1, "+Inf")):
        series[labels("h_bucket", le=bound)] = every(15, [round(c * share, 2) for c in counts])
    series[labels("h_bucket", le="?")] = every(15, counts)
    series[labels("m", instance="i")] = _series(chance, 50)
    series[labels("target_info", instance="i", kind="k")] = every(15, [1] * 20 + [STALE])
    series[labels("about", instance="i", kind="old")] = every(15, [1] * 20)
    series[labels("about", instance="i", kind="new")] = every(15, [1] * 9, start=240.5)
    return Literal(series)


def test_there_is_a_call_of_each_function() -> None:
    ours = {
        name
        for name, known in FUNCTIONS.items()
        if known.call.__module__.startswith("service.query.promql.functions.")
    }
    assert ours == {call.partition("(")[0] for call in CALLS + WHOLE}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("window", ["20s", "3m"])
def test_a_range_query_is_its_instant_queries(source: Literal, call: str, window: str) -> None:
    if "{r}" not in call and window == "3m":
        return
    text = call.format(m="m", r=window)
    times = [float(t) for t in range(31, 800, 47)]
    whole = table(ask(text, source, times[0], times[-1], 47))
    for step, time in enumerate(times):
        once = table(ask(text, source, time))
        at = {name: [row[step]] for name, row in whole.items() if row[step] is not None}
        assert alike(at, once), (text, time)


@pytest.mark.parametrize("call", [c for c in CALLS if "{m}[{r}]" in c and "absent" not in c])
def test_a_subquery_is_its_samples(source: Literal, call: str) -> None:
    found = ask("m + 1", source, 0, 780, 13).value
    assert isinstance(found, Vector)
    times = 13_000 * np.arange(61)
    unrolled = {
        (("__name__", "u"), *pairs): Columns(times[there], values[there])
        for pairs, values, there in zip(found.labels, found.values, found.present, strict=True)
    }
    flat = Literal({**source.series, **unrolled})
    for time in (100, 390, 777):
        nested = table(ask(call.format(m="(m + 1)", r="2m:13s"), source, time))
        direct = table(ask(call.format(m="u", r="2m"), flat, time))
        if "last_over_time" in call or "first_over_time" in call:
            direct = {pairs[1:]: row for pairs, row in direct.items()}
            if call.startswith("ts_"):
                continue
        assert alike(nested, direct), (call, time)


@pytest.mark.parametrize("call", CALLS)
def test_of_nothing_there_is_nothing_or_what_there_always_is(call: str) -> None:
    found = table(ask(call.format(m="m", r="1m"), Literal({}), 0, 300))
    always = call.startswith(
        ("time()", "pi", "max_of", "min_of", "hour()", "vector", "scalar", "absent")
    )
    assert bool(found) is always


def test_what_depends_on_the_whole_query() -> None:
    nothing = Literal({})
    for text, expected in (("start()", 60.0), ("end()", 300.0), ("range()", 240.0), ("step()", 30)):
        assert table(ask(text, nothing, 60, 300, 30)) == {(): [expected] * 9}
    assert table(ask("step()", nothing, 60)) == {(): [0.0]}
    assert table(ask("sum_over_time(vector(end())[1m:30s])", nothing, 60, 120)) == {(): [240] * 2}
