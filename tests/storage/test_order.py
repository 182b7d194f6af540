"""Reading chunks from where needed gives what reading all of them does, whatever came late."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from service.domain.series import Series
from service.storage import keys
from service.storage.chunks import ChunkReader
from service.storage.columns import Columns, in_order
from service.storage.deletion import Deletion, Eraser
from service.storage.ends import Ends
from service.storage.log import LogReader
from service.storage.order import Order, is_plain
from service.storage.sealing import Sealer
from service.storage.sql.engine import Database
from tests.support.seed import BUCKET_MS, Seed

NOW = 1_700_000_000
BEGIN_MS = NOW * 1000 // BUCKET_MS * BUCKET_MS
BUCKET = BEGIN_MS // BUCKET_MS
YEARS_MS = 36_500 * 86_400_000


def packed(t: list[int]) -> bytes:
    return Columns(np.array(t, np.int64), np.arange(len(t), dtype=np.float64)).pack()


def since(value: bytes, start_ms: int) -> Columns:
    points = np.frombuffer(value, [("t", "<i8"), ("v", "<f8")])
    return in_order(Columns(points["t"], points["v"])).between(start_ms, BUCKET_MS)


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[int]]:
    """Times of records of a chunk, as they come: mostly later ones, some late or again."""
    parts: list[list[int]] = []
    last = 0
    for _ in range(draw(st.integers(1, 4))):
        part: list[int] = []
        for step in draw(st.lists(st.integers(-200, 60), min_size=1, max_size=20)):
            count = draw(st.integers(1, 60)) if step > 0 else 1
            if step > 0:
                part += range(last + step, last + step * count + 1, step)
                last = part[-1]
            else:
                part.append(max(0, last + step))
        parts.append(part)
    return parts


@given(arrivals(), st.data())
def test_a_tail_that_reaches_misses_nothing(parts: list[list[int]], data: st.DataObject) -> None:
    """Two chunks are read again and again while they grow."""
    order, values = Order.unknown(2), [b"", packed([7])]
    for part in parts:
        values = [values[0] + packed(part), values[1]]
        newest = max(np.frombuffer(values[0], "<i8")[::2])
        start = data.draw(st.integers(0, int(newest) + 2))
        first = order.needless(start)
        assert first[1] == 0  # it is short
        if first[0]:
            tail = values[0][16 * int(first[0]) :]
            some = np.array([0])
            if not order.rows(some).reached([tail], first[some], start)[0]:
                first[0] = 0
        read = [values[0][16 * int(first[0]) :], values[1]]
        ours, whole = since(read[0], start), since(values[0], start)
        assert ours.t.tolist() == whole.t.tolist()
        # Values are numbered by part; what counts is that the same records were taken.
        assert ours.v.tolist() == whole.v.tolist()
        order = order.after(read, first, start, BUCKET_MS)
        t = np.frombuffer(values[0], "<i8")[::2]
        begin, begin_t, length, last_t = (int(known[0]) for known in order)
        if length:
            assert (t[:begin] < begin_t).all()
            assert (np.diff(t[begin:length]) > 0).all()
            assert (begin_t, last_t) == (t[begin], t[length - 1])


def test_what_grows_in_order_is_read_from_its_end() -> None:
    t = list(range(0, 15_000 * 1000, 15_000))
    value = packed(t)
    order = Order.unknown(1).after([value], np.zeros(1, np.int64), 0, BUCKET_MS)
    (first,) = order.needless(t[-20]).tolist()
    assert 970 < first <= 980
    assert order.needless(t[-1] + 1).tolist() == [999]
    assert order.needless(t[0]).tolist() == [0]
    assert order.needless(t[500]).tolist() == [0]  # half of it is not worth it


def test_another_chunk_in_its_place_is_seen() -> None:
    value = packed(list(range(0, 100_000, 100)))
    order = Order.unknown(1).after([value], np.zeros(1, np.int64), 0, BUCKET_MS)
    first = order.needless(99_000)
    tail = value[16 * int(first[0]) :]
    assert order.reached([tail], first, 99_000).tolist() == [True]
    later = packed([99_000, *range(1, 100_001, 100)])[16 * int(first[0]) :]
    for other in (b"", tail[:-16], tail + b"half", later):
        assert order.reached([other], first, 99_000).tolist() == [False]
    assert not is_plain(b"1234567\x8012345678")


@pytest.fixture
def seed(redis: Redis, sqlite: Database) -> Seed:
    return Seed(redis, sqlite, NOW)


SERIES = [Series.of("m", {"i": str(i)}) for i in range(6)]
IDS = [series.id for series in SERIES]


async def compared(seed: Seed, reader: ChunkReader, start_ms: int, end_ms: int) -> None:
    found = await reader.read_together(seed.tenant, IDS, start_ms, end_ms)
    whole = await reader.read(seed.tenant, IDS, start_ms, end_ms)
    for number, columns in zip(IDS, found.split(), strict=True):
        assert columns.t.tolist() == whole[number].t.tolist()
        assert columns.v.tobytes() == whole[number].v.tobytes()


@pytest.mark.parametrize("number", range(4))
async def test_late_and_repeated_samples_are_found(seed: Seed, number: int) -> None:
    random = np.random.default_rng(number)
    reader = ChunkReader(seed.redis, 1, BUCKET_MS)
    sealer = Sealer(seed.redis, BUCKET_MS, YEARS_MS)
    at = BEGIN_MS / 1000
    for turn in range(25):
        columns = []
        count = int(random.integers(1, 80))
        for series in random.permutation(6)[:5].tolist():
            t = at + 5 * np.arange(count)
            if random.random() < 0.3:
                late = at - random.integers(0, 600, int(random.integers(1, 4)))
                t = np.insert(t, random.integers(0, len(t), len(late)), late)
                t = np.maximum(t, BEGIN_MS / 1000)
            columns.append((SERIES[series], t, random.normal(size=len(t))))
        await seed.put_all(columns)
        at += 5 * count
        if turn == 20:  # the worker's clock may be ahead by a day
            assert await sealer.seal_due(0, 1, BEGIN_MS + 5 * BUCKET_MS, 100)
        newest = round(at * 1000)
        for reach in random.integers(1, 900, 3).tolist():
            await compared(seed, reader, newest - reach * 1000, newest + 1000)


async def test_only_the_end_is_asked_for_once_the_order_is_known(seed: Seed) -> None:
    t = BEGIN_MS / 1000 + 15 * np.arange(1000)
    await seed.put_all([(series, t, t) for series in SERIES])
    ends, buckets = Ends(seed.redis, 1), range(BUCKET, BUCKET + 1)
    names = [keys.chunk(0, seed.tenant, i, BUCKET) for i in IDS]

    async def read(start_ms: int) -> list[int]:
        values = await ends.read(seed.tenant, IDS, buckets, names, start_ms)
        await ends.learn(values, values.order(BUCKET_MS))
        return [len(value or b"") // 16 for value in values.raw]

    start = round(t[-20] * 1000)
    assert await read(start) == [1000] * 6
    assert max(await read(start)) < 40
    await seed.put(SERIES[0], [t[-10] + 1], [1.0])  # late, within
    for _ in range(3):
        assert max(await read(start)) < 40
    await seed.put(SERIES[0], t[-1] + 15 * np.arange(1, 100), np.zeros(99))
    for _ in range(2):  # longer by what came, until enough of that is in order
        assert (await read(start))[0] < 140
    later = round(t[-1] * 1000) + 80 * 15_000
    assert (await read(later))[0] < 140
    assert (await read(later))[0] < 40


class Deleted:
    """Six series of a thousand samples, known to be in order, that are deleted."""

    t = BEGIN_MS / 1000 + 15 * np.arange(1000)
    start = round(t[-20] * 1000)

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.reader = ChunkReader(seed.redis, 1, BUCKET_MS)

    async def make(self) -> None:
        await self.seed.put_all([(series, self.t, self.t) for series in SERIES])
        assert await self.knows()
        for series in SERIES:
            assert await Deletion(self.seed.redis, 1).series(self.seed.tenant, series)

    async def knows(self) -> bool:
        """Whether anything is known after a read, which must be right."""
        await compared(self.seed, self.reader, self.start, self.start + 10**6)
        known = self.reader._ends._of(self.seed.tenant, BUCKET, np.array(IDS))
        return bool(known.length.any())

    async def erase(self) -> None:
        eraser = Eraser(self.seed.redis, self.reader, BUCKET_MS, YEARS_MS // 100, YEARS_MS // 100)
        log = LogReader(self.seed.redis)
        entries = await log.read(0, b"0-0", count=100, block_ms=None)
        assert len(entries) == 6
        for entry in entries:
            await eraser.apply(0, 1, entry, NOW * 1000)
        self.end = entries[-1].id

    async def put(self, t: np.ndarray) -> None:
        """Record them anew."""
        await self.seed.put_all([(series, t, t) for series in SERIES])
        await self.seed.redis.set(keys.position(0), self.end)


async def test_of_a_deletion_nothing_is_learned_until_it_is_carried_out(seed: Seed) -> None:
    """What is erased only then might be replaced by a chunk of another order."""
    deleted = Deleted(seed)
    await deleted.make()
    assert not await deleted.knows()
    assert not await deleted.knows()
    await deleted.erase()
    await deleted.put(deleted.t)
    assert await deleted.knows()


async def test_what_was_known_before_a_deletion_is_forgotten(seed: Seed) -> None:
    deleted, t = Deleted(seed), Deleted.t
    await deleted.make()
    await deleted.erase()
    # As long as the other was, with the same time at the same place, and late samples before it.
    await deleted.put(np.concatenate([t[-15:], t[:-30], t[-30:-15], t[-1:]]))
    for _ in range(3):
        assert not await deleted.knows()  # so little of it is in order
    await deleted.put(t[-1] + np.arange(1, 100))
    assert await deleted.knows()
