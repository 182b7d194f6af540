"""Whatever comes in which order, sealed when: samples and roll-ups read as a dictionary would."""

import asyncio
import math
import struct
import time
from collections.abc import Awaitable, Iterable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs

from service.domain.clock import ManualClock
from service.domain.errors import LostLease
from service.domain.series import SCORE, Series
from service.query.source import Source
from service.storage import keys
from service.storage.chunks import ChunkReader, ChunkWriter
from service.storage.columns import Batch, Columns
from service.storage.deletion import Eraser
from service.storage.embedded import EmbeddedStore
from service.storage.log import Entry
from service.storage.redis import connect
from service.storage.registry import SeriesRegistry
from service.storage.rollups import Aggregates, RollupReader
from service.storage.sealing import Sealer

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
#: Some hours ago, so that nothing is due in its own time, and nothing expires.
T0 = (int(time.time() * 1000) // DAY - 1) * DAY
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
CPU = Series.of("cpu", {"host": "a"})


class Shard:
    """One shard: what writes it, seals it and reads it."""

    def __init__(self, redis: Redis, bucket_ms: int = HOUR) -> None:
        self.redis = redis
        self.clock = ManualClock(T0 / 1000)
        self.registry = SeriesRegistry(redis, 1)
        self.writer = ChunkWriter(redis, bucket_ms, 30 * DAY, HOUR, self.clock)
        self.sealer = Sealer(redis, bucket_ms, 400 * DAY)
        self.source = Source(
            self.registry, ChunkReader(redis, 1, bucket_ms), RollupReader(redis, 1)
        )
        self._entries = 0

    async def begin(self) -> "Shard":
        await self.redis.set(keys.epoch(0), "1")
        await self.registry.register("acme", [CPU])
        return self

    async def put(self, samples: Iterable[tuple[int, float]], series: Series = CPU) -> None:
        t, v = zip(*samples, strict=True)
        batch = Batch(np.full(len(t), series.id, np.int64), np.array(t, np.int64), np.array(v))
        self._entries += 1
        entry = Entry(f"{self._entries}-0".encode(), "acme", batch)
        await self.writer.apply(0, 1, [entry])

    async def seal(self, after_ms: int = 40 * HOUR, limit: int = 1000) -> int:
        return await self.sealer.seal_due(0, 1, T0 + after_ms, limit)

    async def read(self, start: int = T0 - DAY, end: int = T0 + DAY) -> Columns:
        return (await self.source.read("acme", [CPU.id], start, end))[CPU.id]

    async def rows(self, start: int, end: int, step: int, series: Series = CPU) -> Aggregates:
        return (await self.source.aggregate("acme", [series.id], start, end, step))[series.id]


@pytest.fixture
async def shard(redis: Redis) -> Shard:
    return await Shard(redis).begin()


def by_hand(kept: dict[int, float], start: int, end: int, step: int) -> dict[int, list[float]]:
    """Values of each step that the range touches, in order of time."""
    found: dict[int, list[float]] = {}
    for t, v in sorted(kept.items()):
        if start // step <= t // step <= end // step and not math.isnan(v):
            found.setdefault(t // step * step, []).append(v)
    return found


def check(rows: Aggregates, want: dict[int, list[float]]) -> None:
    assert rows.t.tolist() == list(want)
    assert rows.min.tolist() == [min(v) for v in want.values()]
    assert rows.max.tolist() == [max(v) for v in want.values()]
    assert rows.count.tolist() == [len(v) for v in want.values()]
    assert rows.sum.tolist() == pytest.approx([sum(v) for v in want.values()])


samples = st.lists(
    st.tuples(
        st.integers(-20, 300).map(lambda i: T0 + i * 37_000),
        st.sampled_from([0.0, 1.5, -3.25, 1e9 / 3, 7.0, STALE]),
    ),
    min_size=1,
    max_size=25,
)
#: Samples arrive, chunks are sealed up to some hour, or both at once.
steps = st.lists(
    st.one_of(
        samples.map(lambda s: (s, None)),
        st.integers(0, 12).map(lambda hour: ([], hour)),
        st.tuples(samples, st.integers(0, 12)),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps,
    st.sampled_from([HOUR, 7 * MINUTE]),
    st.tuples(st.integers(-10, 200), st.integers(0, 200)),
    st.sampled_from([5 * MINUTE, HOUR, 7_000, 7 * MINUTE]),
)
def test_any_order_of_arrival_and_sealing_reads_as_a_dictionary(
    store: EmbeddedStore,
    steps: list[tuple[list[tuple[int, float]], int | None]],
    bucket: int,
    reach: tuple[int, int],
    step: int,
) -> None:
    async def play(redis: Redis) -> None:
        await redis.flushall()
        shard = await Shard(redis, bucket).begin()
        kept: dict[int, float] = {}
        now = T0
        for arrived, hour in steps:
            work: list[Awaitable[object]] = []
            if hour is not None:
                now = max(now, T0 + hour * HOUR)
                shard.clock.set(now / 1000)
                work.append(shard.seal(now - T0))
            if arrived:
                work.append(shard.put(arrived))
                kept.update(arrived)
            await asyncio.gather(*work)
        got = await shard.read()
        assert got.t.tolist() == sorted(kept)
        want = np.array([kept[t] for t in sorted(kept)])
        assert np.array_equal(got.v.view(np.int64), want.view(np.int64))
        start, end = T0 + reach[0] * 53_000, T0 + sum(reach) * 53_000
        check(await shard.rows(start, end, step), by_hand(kept, start, end, step))

    async def connected() -> None:
        async with connect(store.url) as redis:
            await play(redis)

    asyncio.run(connected())


async def test_a_chunk_is_sealed_in_its_place_and_expires_as_before(shard: Shard) -> None:
    t = range(T0, T0 + HOUR, 10_000)
    await shard.put((x, 20.0 + x % 7) for x in t)
    name = keys.chunk(0, "acme", CPU.id, T0 // HOUR)
    before = await shard.redis.pexpiretime(name)
    assert before == T0 + HOUR + 30 * DAY
    assert await shard.seal(2 * HOUR - 1) == 0  # an hour for late ones
    assert await shard.seal(2 * HOUR) == 1
    assert await shard.seal(2 * HOUR) == 0
    assert await shard.redis.pexpiretime(name) == before
    assert await shard.redis.strlen(name) < 2 * 360
    assert await shard.redis.zcard(keys.unsealed(0)) == 0
    period = T0 // HOUR // 28
    expires = await shard.redis.pexpiretime(keys.rollup(0, "acme", CPU.id, period))
    assert expires == (period + 1) * 28 * HOUR + 400 * DAY
    assert (await shard.read()).t.tolist() == list(t)
    rows = await shard.rows(T0, T0 + HOUR - 1, HOUR)
    assert (rows.count.tolist(), rows.rolled_up) == ([360], True)


async def test_late_samples_are_rolled_up_too_soon_after(shard: Shard) -> None:
    await shard.put([(T0, 1.0), (T0 + 10, 5.0)])
    await shard.seal()
    shard.clock.set((T0 + 3 * HOUR) / 1000)
    await shard.put([(T0 + 5, 9.0), (T0 + 10, STALE)])
    rows = await shard.rows(T0, T0, 5 * MINUTE)  # from the samples, for the roll-up is old
    assert (rows.max.tolist(), rows.count.tolist(), rows.rolled_up) == ([9.0], [2], False)
    assert await shard.seal(3 * HOUR + 59_999) == 0  # others may come along
    assert await shard.seal(3 * HOUR + 60_000) == 1
    rows = await shard.rows(T0, T0, 5 * MINUTE)
    assert (rows.max.tolist(), rows.count.tolist(), rows.rolled_up) == ([9.0], [2], True)
    await shard.put([(T0, STALE), (T0 + 5, STALE)])
    await shard.seal()
    assert len((await shard.rows(T0, T0, 5 * MINUTE)).t) == 0
    assert len((await shard.read()).t) == 3


async def test_a_row_counts_numbers_and_outlives_its_samples(shard: Shard) -> None:
    await shard.put([(T0, math.inf), (T0 + 1, STALE), (T0 + 2, -math.inf), (T0 + 3, 2.0)])
    await shard.put([(T0 + 5 * MINUTE, -0.5), (T0 + 9 * MINUTE, 2.5), (T0 + 10 * MINUTE, STALE)])
    await shard.put([(T0 + HOUR, 8.0)])
    await shard.seal(2 * HOUR)  # the second chunk stays open
    await shard.redis.delete(keys.chunk(0, "acme", CPU.id, T0 // HOUR))
    rows = await shard.rows(T0, T0 + 2 * HOUR, 5 * MINUTE)
    assert rows.t.tolist() == [T0, T0 + 5 * MINUTE, T0 + HOUR]
    assert rows.min.tolist() == [-math.inf, -0.5, 8.0]
    assert rows.max.tolist() == [math.inf, 2.5, 8.0]
    assert rows.count.tolist() == [3, 2, 1]
    assert math.isnan(rows.sum[0])
    assert rows.sum[1:].tolist() == [2.0, 8.0]
    assert len((await shard.rows(T0, T0 + HOUR - 1, 60_000)).t) == 0  # no samples, no minutes


async def test_the_sum_of_decimal_numbers_is_one(shard: Shard) -> None:
    await shard.put((T0 + i, 0.1) for i in range(30))
    await shard.put((T0 + HOUR + i, 1 / 3) for i in range(3))
    assert (await shard.rows(T0, T0, 5 * MINUTE)).sum[0] != 3.0  # what binary addition leaves
    await shard.seal()
    rows = await shard.rows(T0, T0 + HOUR, 5 * MINUTE)
    assert (rows.sum.tolist(), rows.rolled_up) == ([3.0, 1 / 3 + 1 / 3 + 1 / 3], True)


async def test_roll_ups_go_with_their_series_or_tenant(shard: Shard) -> None:
    other = Series.of("memory")
    await shard.registry.register("acme", [other])
    for series in (CPU, other):
        await shard.put([(T0, 1.0)], series)
    await shard.seal()
    reader = ChunkReader(shard.redis, 1, HOUR)
    eraser = Eraser(shard.redis, reader, HOUR, 30 * DAY, 400 * DAY)
    nothing = Batch.join([])
    for position, erased, left in (
        (b"8-0", np.array([CPU.id]), [other.hex]),
        (b"9-0", np.array([], np.int64), []),
    ):
        await eraser.apply(0, 1, Entry(position, "acme", nothing, erased), T0 + DAY)
        names = await shard.redis.keys("*rollup*")
        assert [name.decode().split(":")[3] for name in names] == left
        assert len(await shard.redis.keys("*chunk*")) == len(left)


async def test_what_models_write_is_packed_and_not_rolled_up(shard: Shard) -> None:
    score = CPU.derived(SCORE)
    await shard.registry.register("acme", [score])
    await shard.put([(T0 + i * 60_000, 0.25) for i in range(50)], score)
    assert await shard.seal() == 1
    assert await shard.redis.keys("*rollup*") == []
    rows = await shard.rows(T0, T0 + HOUR - 1, HOUR, score)
    assert (rows.count.tolist(), rows.rolled_up) == ([50], False)


async def test_a_worker_that_lost_its_shard_seals_nothing(shard: Shard) -> None:
    await shard.put([(T0 + i, 1.0) for i in range(100)])
    before = await shard.redis.get(keys.chunk(0, "acme", CPU.id, T0 // HOUR))
    await shard.redis.set(keys.epoch(0), "2")
    with pytest.raises(LostLease, match="shard 0 has another owner"):
        await shard.seal()
    assert await shard.redis.get(keys.chunk(0, "acme", CPU.id, T0 // HOUR)) == before
    assert await shard.redis.keys("*rollup*") == []
    assert await shard.redis.zcard(keys.unsealed(0)) == 1


async def test_few_at_a_time_those_longest_due_first(shard: Shard) -> None:
    await shard.put([(T0 + i * HOUR, 1.0) for i in range(5)])
    assert [await shard.seal(limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_damage_and_what_is_gone_are_not_tried_for_ever(shard: Shard) -> None:
    await shard.put([(T0, 1.0), (T0 + HOUR, 1.0), (T0 + 2 * HOUR, 1.0)])
    damaged, gone = (keys.chunk(0, "acme", CPU.id, T0 // HOUR + i) for i in (0, 1))
    await shard.redis.append(damaged, b"?")
    await shard.redis.delete(gone)
    with capture_logs() as lines:
        assert await shard.seal() == 3
    assert [line["key"] for line in lines] == [damaged]
    assert await shard.seal() == 0
    assert await shard.redis.exists(gone) == 0
    rows = await shard.rows(T0 + 2 * HOUR, T0 + 2 * HOUR, 5 * MINUTE)
    assert rows.rolled_up


async def test_a_damaged_roll_up_is_named_and_the_samples_serve(shard: Shard) -> None:
    await shard.put([(T0 + i * MINUTE, float(i)) for i in range(60)])
    await shard.seal()
    name = keys.rollup(0, "acme", CPU.id, T0 // HOUR // 28)
    await shard.redis.hset(name, str(T0 // HOUR), b"?" * 64)
    with capture_logs() as lines:
        rows = await shard.rows(T0, T0 + HOUR - 1, HOUR)
    assert (rows.count.tolist(), rows.rolled_up) == ([60], False)
    assert [line["key"] for line in lines] == [name]
