"""What is fetched for an expression: all that its evaluation asks for, and no more than it may."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from service.domain.clock import ManualClock
from service.domain.series import SCORE, Selector, Series
from service.query.promql.budget import Budget, Limits, QueryTimeout, QueryTooDear
from service.query.promql.evaluate import Result, Settings, evaluate
from service.query.promql.expressions import Aggregate, Call, Select, ValueType
from service.query.promql.fetch import Fetched, Part, Rolled, Span, joined, plan, wanted
from service.query.promql.functions.registry import Asked, Function, Reach, Value
from service.query.promql.parse import parse
from service.query.promql.source import Source
from service.query.promql.stored import Stored
from service.query.promql.vectors import STALE_BITS, Samples, Steps, Vector
from service.query.promql.windows import Windows
from service.query.queries import Queries, Query
from service.storage.rollups import STEP_MS
from service.storage.sealing import Sealer
from service.storage.sql.engine import Database
from tests.support.seed import BUCKET_MS, Seed
from tests.support.whole import until_true

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_700_000_000_000
#: A chunk's border, some weeks before.
BORDER = (NOW - 40 * DAY) // BUCKET_MS * BUCKET_MS


def _counted(asked: Asked, values: Sequence[Value]) -> Value:
    (windows,) = values
    assert isinstance(windows, Windows)
    return windows.vector(windows.counts.astype(np.float64))


def _total(asked: Asked, values: Sequence[Value]) -> Value:
    (windows,) = values
    assert isinstance(windows, Windows)
    sums = np.concatenate([[0.0], np.cumsum(windows.v)])
    return windows.vector(sums[windows.last] - sums[windows.first])


def _first(asked: Asked, values: Sequence[Value]) -> Value:
    (value,) = values
    return value


def _scores(asked: Asked, values: Sequence[Value]) -> Value:
    asked.source.select(_selector("m:anomaly_score"), *_scored(asked.steps))
    return values[0]


def _scored(steps: Steps) -> tuple[int, int]:
    return steps.start_ms - HOUR, int(steps.times[-1]) + 5_000


def _selector(text: str) -> Selector:
    found = parse(text)
    assert isinstance(found, Select)
    return found.selector


SETTINGS = Settings(
    functions={
        "sum_over_time": Function("sum_over_time", _total),
        "count_over_time": Function("count_over_time", _counted),
        "abs": Function("abs", _first),
        "ceil": Function(
            "ceil", _scores, also=lambda call: [Reach(_selector("m:anomaly_score"), HOUR, 5_000)]
        ),
    }
)


class Asking(Source):
    """Has nothing, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Span] = []

    def select(self, selector: Selector, start_ms: int, end_ms: int) -> Samples:
        self.asked.append(Span(selector, start_ms, end_ms))
        return Samples.of([])


def _selectors() -> st.SearchStrategy[str]:
    names = st.sampled_from(["m", 'm{a="b"}', "n"])
    modifiers = st.sampled_from(
        ["", " offset 5m", " offset -7m", " @ 1699990000", " @ start()", " @ end() offset 1h"]
    )
    return st.builds(lambda name, modifier: name + modifier, names, modifiers)


def _windows(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    plain = st.builds(
        lambda name, window, rest: f"{name}[{window}]{rest}",
        st.sampled_from(["m", "n"]),
        st.sampled_from(["1m", "2h"]),
        st.sampled_from(["", " offset 5m", " @ end()"]),
    )
    nested = st.builds(
        lambda expr, window, rest: f"({expr})[{window}]{rest}",
        inner,
        st.sampled_from(["10m:1m", "1h:7m", "3h:", "30s:1m"]),
        st.sampled_from(["", " offset 11m", " @ start()", " @ 1699990000"]),
    )
    return plain | nested


EXPRESSIONS = st.recursive(
    _selectors(),
    lambda inner: st.one_of(
        st.builds("count_over_time({})".format, _windows(inner)),
        st.builds("abs({})".format, inner),
        st.builds("ceil({})".format, inner),
        st.builds("-({})".format, inner),
    ),
    max_leaves=4,
)


@given(EXPRESSIONS, st.integers(0, 7), st.sampled_from([1000, 60_000, 77_777]))
def test_what_is_wanted_is_what_is_asked(text: str, more: int, step: int) -> None:
    steps = Steps(NOW, NOW + more * step + step // 2, step)
    source, expr = Asking(), parse(text)
    evaluate(expr, source, steps, SETTINGS)
    assert set(joined(source.asked)) == set(wanted(expr, steps, SETTINGS))


def test_both_sides_and_parameters_are_wanted() -> None:
    expr = parse("topk(scalar(k), m + n) / on () group_left () (o and p)")
    names = [span.selector.name for span in wanted(expr, Steps(NOW, NOW), SETTINGS)]
    assert names == ["k", "m", "n", "o", "p"]


def test_spans_that_touch_are_one_and_others_are_not() -> None:
    m, n = _selector("m"), _selector("n")
    spans = [Span(m, 5, 9), Span(n, 0, 9), Span(m, 10, 12), Span(m, 14, 20), Span(m, 0, 7)]
    assert joined(spans) == [Span(m, 0, 12), Span(m, 14, 20), Span(n, 0, 9)]


def test_what_was_fetched_is_cut_and_nothing_else_is_there() -> None:
    m = _selector("m")
    t = np.array([1, 5, 9, 2, 3, 30])
    samples = Samples([(("a", "b"),), (("a", "c"),)], np.array([0, 3, 6]), t, t * 1.0)
    source = Fetched([(Span(m, 0, 40), samples)])
    assert source.select(m, 0, 40) is samples
    cut = source.select(m, 3, 9)
    assert (cut.bounds.tolist(), cut.t.tolist()) == ([0, 2, 3], [5, 9, 3])
    with pytest.raises(LookupError, match="was not fetched"):
        source.select(m, 0, 41)


def test_figures_take_the_place_of_samples_that_are_gone() -> None:
    steps = Steps(NOW, NOW)
    expr = parse("abs(avg_over_time(m[40d])) + count_over_time(m[1h])")
    planned = plan(expr, steps, SETTINGS, BORDER)
    assert planned.expr == expr  # BORDER is older still
    planned = plan(expr, steps, SETTINGS, NOW - 35 * DAY)
    assert planned.expr != expr
    parts = {getattr(span.selector, "part", None) for span in planned.spans}
    assert parts == {Part.SUM, Part.COUNT, None}
    # A subquery asks for what is gone at some of its steps only; all of them get figures then.
    inner = plan(parse("max_over_time(m[1h])[40d:1h]"), steps, SETTINGS, NOW - 35 * DAY)
    assert [type(span.selector) for span in inner.spans] == [Rolled]


@pytest.fixture
def seed(redis: Redis, sqlite: Database) -> Seed:
    return Seed(redis, sqlite, NOW / 1000)


def stored_of(seed: Seed, *, retention_ms: int = 35 * DAY) -> Stored:
    return Stored(
        seed.source,
        ManualClock(seed.now),
        bucket_ms=BUCKET_MS,
        retention_ms=retention_ms,
        rollup_retention_ms=400 * DAY,
    )


async def fetched(stored: Stored, *spans: Span, limits: Limits | None = None) -> Fetched:
    return await stored.fetch("acme", spans, stored.raw_from_ms(), Budget(limits or Limits()))


async def test_samples_are_read_as_they_are(seed: Seed) -> None:
    t = NOW / 1000 - 15 * np.arange(4000)[::-1]
    v = np.random.default_rng(1).normal(size=4000)
    v[[7, 3000]] = np.nan, np.int64(STALE_BITS).view(np.float64)
    await seed.put(Series.of("m", {"a": "b"}), t, v)
    await seed.put(Series.of("n"), t, v)
    span = Span(_selector("m"), NOW - 10 * HOUR, NOW - 15_000)
    (labels, bounds, times, values) = (await fetched(stored_of(seed), span)).select(
        span.selector, span.start_ms, span.end_ms
    )
    assert labels == [Series.of("m", {"a": "b"}).labels]
    inside = (t * 1000 >= span.start_ms) & (t * 1000 <= span.end_ms)
    assert bounds.tolist() == [0, inside.sum()]
    assert np.array_equal(times, (t[inside] * 1000).astype(np.int64))
    assert values.tobytes() == v[inside].tobytes()


async def test_years_of_nothing_cost_nothing(seed: Seed) -> None:
    await seed.put(Series.of("m"), [NOW / 1000], [1.0])
    span = Span(_selector("m"), -(10**14), 10**14)
    found = await fetched(stored_of(seed), span)
    assert found.select(span.selector, NOW, NOW).v.tolist() == [1.0]


async def test_a_tenant_reads_its_own_series_only(seed: Seed) -> None:
    await seed.put(Series.of("m"), [NOW / 1000], [1.0])
    stored = stored_of(seed)
    span = Span(_selector("m"), NOW - HOUR, NOW)
    other = await stored.fetch("other", [span], stored.raw_from_ms(), Budget())
    assert other.select(span.selector, span.start_ms, span.end_ms).labels == []


class Past:
    """Fifty days of a series with a sample a minute, sealed; its samples of old are gone."""

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.stored = stored_of(seed, retention_ms=10 * DAY)
        self.border = self.stored.raw_from_ms()
        self.t = np.arange(self.border - 2 * DAY, self.border + DAY, 60_000)
        self.v = np.random.default_rng(2).integers(-500, 500, len(self.t)) / 4

    async def make(self) -> None:
        series = Series.of("m")
        await self.seed.put(series, self.t / 1000, self.v)
        sealer = Sealer(self.seed.redis, BUCKET_MS, 36_500 * DAY)
        while await sealer.seal_due(self.seed.shard, 1, NOW + HOUR, 100):
            pass
        keys = [key async for key in self.seed.redis.scan_iter(match="*chunk*")]
        assert keys
        for key in keys:
            if int(key.rpartition(b":")[2]) < self.border // BUCKET_MS:
                await self.seed.redis.unlink(key)

    async def asked(self, text: str, steps: Steps) -> Result:
        planned = plan(parse(text), steps, Settings(), self.border)
        source = await self.stored.fetch("acme", planned.spans, self.border, Budget())
        return evaluate(planned.expr, source, steps)


@pytest.fixture
async def past(seed: Seed) -> Past:
    past = Past(seed)
    await past.make()
    return past


FIGURES: dict[str, Callable[[np.ndarray], Any]] = {
    "sum": np.sum,
    "count": len,
    "min": np.min,
    "max": np.max,
    "avg": np.mean,
}


@pytest.mark.parametrize("name", FIGURES)
async def test_windows_into_the_past_are_exact_on_marks(past: Past, name: str) -> None:
    """All samples of the rows are counted, each once, and those that are kept besides."""
    end = past.border + 6 * HOUR
    result = await past.asked(f"{name}_over_time(m[1d])", Steps(end - DAY, end, HOUR))
    assert isinstance(result.value, Vector)
    assert result.value.labels == [()]
    for column, at in enumerate(result.steps.times.tolist()):
        first = at - DAY
        # A sample on the very mark belongs to the row that begins there.
        low = past.t >= first if first < past.border else past.t > first
        high = past.t < at if at < past.border else past.t <= at
        expected = float(FIGURES[name](past.v[low & high]))
        assert result.value.values[0, column] == pytest.approx(expected, rel=1e-12)


async def test_figures_of_the_same_samples_are_read_once(past: Past) -> None:
    steps = Steps(past.border - DAY, past.border + HOUR, HOUR)
    planned = plan(parse("avg_over_time(m[1d])"), steps, Settings(), past.border)
    budget = Budget(Limits(samples=2 * DAY // STEP_MS + 61))
    source = await past.stored.fetch("acme", planned.spans, past.border, budget)
    assert len(planned.spans) == 2
    total, count = [source.select(s.selector, s.start_ms, s.end_ms) for s in planned.spans]
    assert np.array_equal(total.t, count.t)
    assert set(count.v.tolist()) == {1.0, 5.0}


async def test_before_the_samples_there_is_a_mean_every_five_minutes(past: Past) -> None:
    at = past.border - DAY
    result = await past.asked("m", Steps(at, at + 2 * STEP_MS, STEP_MS))
    assert isinstance(result.value, Vector)
    expected = [
        past.v[(past.t >= end - STEP_MS) & (past.t < end)].mean()
        for end in result.steps.times.tolist()
    ]
    assert result.value.values[0].tolist() == pytest.approx(expected, rel=1e-12)


async def test_of_what_models_write_there_are_no_rollups(past: Past) -> None:
    score = Series.of("m").derived(SCORE)
    await past.seed.put(score, [(past.border + HOUR) / 1000], [0.5])
    steps = Steps(past.border - DAY, past.border + HOUR, HOUR)
    result = await past.asked("m:anomaly_score", steps)
    assert isinstance(result.value, Vector)
    assert result.value.present[0].tolist() == [False] * 25 + [True]


# Bounds.


async def test_too_many_series_end_it_before_anything_is_read(seed: Seed) -> None:
    for i in range(4):
        await seed.put(Series.of("m", {"a": str(i)}), [NOW / 1000], [1.0])
    span = Span(_selector("m"), NOW - HOUR, NOW)
    with pytest.raises(QueryTooDear, match="accepts 4 series; 3 are possible"):
        await fetched(stored_of(seed), span, limits=Limits(series=3))
    assert await fetched(stored_of(seed), span, limits=Limits(series=4))


async def test_too_many_samples_end_it_in_the_midst(
    seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = NOW / 1000 - np.arange(100)[::-1]
    for i in range(40):
        await seed.put(Series.of("m", {"a": f"{i:02}"}), t, t)
    monkeypatch.setattr("service.query.promql.stored._CHUNKS_AT_ONCE", 4)
    budget = Budget(Limits(samples=1000))
    stored, span = stored_of(seed), Span(_selector("m"), NOW - HOUR, NOW)
    with pytest.raises(QueryTooDear, match="too many samples into memory: over 1,000"):
        await stored.fetch("acme", [span], stored.raw_from_ms(), budget)
    assert budget._samples < 1000 + 4 * 100 + 1


async def test_time_that_is_over_ends_the_reading(seed: Seed) -> None:
    await seed.put(Series.of("m"), [NOW / 1000], [1.0])
    with pytest.raises(QueryTimeout, match="it may take 0 s"):
        await fetched(stored_of(seed), Span(_selector("m"), 0, NOW), limits=Limits(seconds=0))


class Held:
    """Queries whose results wait until they are let go, in the threads that work on them."""

    def __init__(self, seed: Seed, **more: float) -> None:
        limits = Limits(seconds=more.pop("seconds", 20.0))
        at_once, each = int(more.get("at_once", 3)), int(more.get("each", 2))
        self.queries = Queries(stored_of(seed), limits, at_once=at_once, each=each)
        self.free = threading.Event()
        self.started = 0

    def hold(self, result: Result) -> str:
        self.started += 1
        assert self.free.wait(20)
        return "held"

    async def ask(self, tenant: str, seconds: float | None = None) -> str:
        query = Query(parse("m"), Steps(NOW, NOW), seconds=seconds)
        return await self.queries.answer(tenant, query, self.hold)

    async def quick(self, tenant: str, seconds: float | None = None) -> str:
        query = Query(parse("m"), Steps(NOW, NOW), seconds=seconds)
        return await self.queries.answer(tenant, query, lambda _: "quick")

    async def begun(self, number: int) -> None:
        await until_true(lambda: self.started >= number)


async def test_a_tenant_that_asks_much_holds_no_other_up(seed: Seed) -> None:
    held = Held(seed)
    asked = [asyncio.create_task(held.ask("acme")) for _ in range(5)]
    await held.begun(2)
    assert await held.quick("other") == "quick"
    with pytest.raises(QueryTimeout, match=r"it may take 0\.05 s"):  # its own turn does not come
        await held.quick("acme", seconds=0.05)
    assert held.started == 2
    held.free.set()
    assert await asyncio.gather(*asked) == ["held"] * 5
    held.queries.close()


async def test_the_time_of_a_query_ends_whatever_its_thread_does(seed: Seed) -> None:
    held = Held(seed)
    began = time.monotonic()
    with pytest.raises(QueryTimeout, match=r"it may take 0\.2 s"):
        await held.ask("acme", seconds=0.2)
    assert time.monotonic() - began < 10
    held.free.set()
    held.queries.close()


async def test_who_waits_no_more_keeps_the_turn_until_the_thread_ends(seed: Seed) -> None:
    held = Held(seed, at_once=1, each=1)
    asked = asyncio.create_task(held.ask("acme"))
    await held.begun(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    with pytest.raises(QueryTimeout):  # the thread is still at work
        await held.quick("other", seconds=0.05)
    held.free.set()
    assert await held.quick("other") == "quick"
    held.queries.close()


async def test_what_fails_gives_its_turn_back(seed: Seed) -> None:
    held = Held(seed, at_once=1, each=1)
    steps = Steps(NOW, NOW + 1000, 1000)
    for text in ("m[5m]", '"text"'):
        with pytest.raises(Exception, match="invalid expression type"):
            await held.queries.answer("acme", Query(parse(text), steps), held.hold)
    assert await held.quick("acme") == "quick"
    held.queries.close()


async def test_the_event_loop_goes_on_while_a_query_works(seed: Seed) -> None:
    held = Held(seed)
    asked = asyncio.create_task(held.ask("acme"))
    await held.begun(1)
    await asyncio.sleep(0)  # it would not come back before `free`
    held.free.set()
    assert await asked == "held"
    held.queries.close()


def test_calls_of_other_forms_stay_as_they_are() -> None:
    call = Call("count_over_time", (parse("m[1h:1m]"),), ValueType.VECTOR)
    assert plan(call, Steps(NOW, NOW), SETTINGS, NOW).expr == call
    total = Aggregate("sum", call)
    assert plan(total, Steps(NOW, NOW), SETTINGS, NOW).expr == total
