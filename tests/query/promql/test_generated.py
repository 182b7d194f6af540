"""Properties of any expression: of generated ones, over series of every kind."""

import re
from functools import cache
from random import Random

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from service.domain.errors import Unprocessable
from service.domain.series import LabelPairs
from service.query.promql.evaluate import Result, evaluate
from service.query.promql.expressions import Aggregate, Binary, Call, Expr, children
from service.query.promql.functions import FUNCTIONS
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps, Vector
from service.storage.columns import Columns
from tests.support.literal import Literal
from tests.support.promql.answers import Answer, difference, of_ours
from tests.support.promql.comparison import queries
from tests.support.promql.generate import Generator
from tests.support.promql.vocabulary import Exact
from tests.support.promql.world import BASE_S, SPAN_S, world

SEEDS = st.integers(0, 2**32 - 1)
#: What Prometheus has had since 3, or has for native histograms only.
NEW_OR_NATIVE = frozenset(
    (
        *(
            "info",
            "max_of",
            "min_of",
            "start",
            "end",
            "step",
            "range",
            "sort_by_label",
            "sort_by_label_desc",
        ),
        *("first_over_time", "mad_over_time", "ts_of_first_over_time", "ts_of_last_over_time"),
        *("ts_of_max_over_time", "ts_of_min_over_time", "histogram_fraction"),
        *("histogram_quantiles", "histogram_avg", "histogram_count", "histogram_sum"),
        *("histogram_stddev", "histogram_stdvar"),
    )
)
RANKED = re.compile(r"\b(topk|bottomk|sort|sort_desc)\b")

a_few = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def source() -> Literal:
    return world()


def generated(seed: int) -> tuple[str, Random]:
    """An expression whose steps do not depend on the whole query."""
    random = Random(seed)
    return Generator(random, BASE_S, SPAN_S, pins=False, new=True).expression().text, random


def steps_of(random: Random) -> Steps:
    begin = BASE_S * 1000 + random.randrange(SPAN_S) * 1000 + random.choice((0, 500))
    step, number = random.choice((1, 15, 60, 77)) * 1000, random.randrange(1, 8)
    return Steps(begin, begin + number * step, step)


def asked(text: str, steps: Steps, of: Literal | None = None) -> Result | None:
    """None where it is refused over these series."""
    try:
        return evaluate(parse(text), of or source(), steps)
    except Unprocessable:
        return None


@a_few
@given(SEEDS)
def test_a_range_query_is_the_instant_queries_at_its_steps(seed: int) -> None:
    text, random = generated(seed)
    steps = steps_of(random)
    whole = asked(text, steps)
    parts = [asked(text, Steps(t, t)) for t in steps.times.tolist()]
    if whole is None:
        assert None in parts, text
        return
    together: dict[frozenset[tuple[str, str]], dict[int, float]] = {}
    for part in parts:
        assert part is not None, text
        for labels, points in (of_ours(part).series or {}).items():
            together.setdefault(labels, {}).update(points)
    # An instant query puts what it ranks in order, and so adds it in another.
    exact = Exact.ROUGH if RANKED.search(text) else Exact.SAME
    said = difference(of_ours(whole), Answer(str(whole.type), together), exact)
    assert not said, f"{text} at {steps}: {said}"


@a_few
@given(SEEDS)
def test_a_subquery_is_the_range_query_at_its_steps(seed: int) -> None:
    random = Random(seed)
    inner = Generator(random, BASE_S, SPAN_S, pins=False, new=True).instant_vector().text
    outer, range_s, step_s, offset_s = (
        random.choice(("sum", "count", "min", "max", "last", "stddev", "quantile")),
        random.choice((60, 150, 301)),
        random.choice((7, 30, 60)),
        random.choice((0, 45, -30)),
    )
    call = "quantile_over_time(0.4, " if outer == "quantile" else f"{outer}_over_time("
    end_ms = BASE_S * 1000 + random.randrange(SPAN_S) * 1000
    text = f"{call}({inner})[{range_s}s:{step_s}s] offset {offset_s}s)"
    if offset_s == 0:
        text = f"{call}({inner})[{range_s}s:{step_s}s])"
    # From the first multiple of the step behind the left end, which is not in.
    last = end_ms - offset_s * 1000
    first = ((last - range_s * 1000) // (step_s * 1000) + 1) * step_s * 1000
    assume(first <= last)
    unrolled = asked(inner, Steps(first, last, step_s * 1000))
    whole = asked(text, Steps(end_ms, end_ms))
    if unrolled is None:
        assert whole is None, text
        return
    assume(whole is not None)  # series that only names tell apart
    assert whole is not None
    kept = Literal(_as_series(unrolled))
    plain = asked(f'{call}{{unrolled="1"}}[{range_s}s])', Steps(last, last), kept)
    assert plain is not None
    said = difference(_bare(whole, end_ms), _bare(plain, end_ms), Exact.SAME)
    assert not said, f"{text} at {end_ms}: {said}"


def _as_series(result: Result) -> dict[LabelPairs, Columns]:
    """What an expression gave, as samples."""
    assert isinstance(result.value, Vector)
    times = result.steps.times
    return {
        tuple(sorted([*pairs, ("unrolled", "1")])): Columns(times[there], values[there])
        for pairs, values, there in zip(
            result.value.labels, result.value.values, result.value.present, strict=True
        )
    }


def _bare(result: Result, at_ms: int) -> Answer:
    """Without what a plain selector adds, at one time."""
    assert isinstance(result.value, Vector)
    found = {
        frozenset(pair for pair in pairs if pair[0] != "unrolled"): {at_ms: float(values[0])}
        for pairs, values in zip(result.value.labels, result.value.values, strict=True)
    }
    return Answer("vector", found)


def test_generated_queries_call_everything_that_both_know() -> None:
    ours_alone = {
        name
        for name, known in FUNCTIONS.items()
        if not known.call.__module__.startswith("service.query.promql.")
    }
    called: set[str] = set()
    for query in queries(seed=3, count=2_500):
        _collect(parse(query.made.text), called)
    assert called >= FUNCTIONS.keys() - NEW_OR_NATIVE - ours_alone
    assert called >= {
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "atan2",
        "==",
        "!=",
        ">",
        "<",
        ">=",
        "<=",
        "and",
        "or",
        "unless",
    }
    assert called >= {
        "sum",
        "avg",
        "min",
        "max",
        "count",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "quantile",
        "count_values",
    }
    assert called >= {"one-to-one", "many-to-one", "one-to-many", "many-to-many"}


def _collect(expr: Expr, into: set[str]) -> None:
    if isinstance(expr, Call):
        into.add(expr.name)
    elif isinstance(expr, Aggregate):
        into.add(expr.op)
    elif isinstance(expr, Binary):
        into.update((expr.op, str(expr.matching.cardinality)))
    for below in children(expr):
        _collect(below, into)
