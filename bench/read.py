"""Reading: a day of many series out of the store, sealed and not; a year of one from roll-ups.

`python -m bench.read [--json]`. Each figure is the best of several reads through `ChunkReader` and
`Source` from a real store over its unix socket, on the event loop that the program runs on. Beside
it stand what the same samples cost without us: fetched and not looked at, fetched and viewed as
arrays, decoded one by one, and from a sorted set a series, as they are kept without chunks.
"""

import asyncio
import json
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from service.query.source import Source
from service.storage import keys
from service.storage.chunks import ChunkReader
from service.storage.columns import POINT, Columns
from service.storage.embedded import EmbeddedStore
from service.storage.redis import ask, connect
from service.storage.registry import SeriesRegistry
from service.storage.rollups import BUCKETS, RollupReader, pack_rows, roll_up
from service.storage.sealed import seal

BUCKET_MS = 21_600_000
DAY_MS = 86_400_000
T0 = 1_760_000_000_000 // DAY_MS * DAY_MS
TENANT = "bench"
#: Milliseconds to reach, and to aim at, for a day of 100 series at ten seconds.
TARGET = (50.0, 20.0)
#: A sorted set of every sample takes long to fill; so many series stand for all.
_SORTED = 10


@dataclass(frozen=True)
class Row:
    """One way of reading the same samples; `ratio` is how many times longer it takes than ours."""

    what: str
    samples: int
    ms: float
    cpu_ms: float
    bytes_per_sample: float
    ratio: float = 0.0


def run(series: int = 100, step_s: int = 10, repeats: int = 7, days: int = 365) -> list[Row]:
    """Every row, ours first; `ratio` compares with the sealed read. `days` is of the roll-ups."""
    with tempfile.TemporaryDirectory(prefix="offbeat-") as folder:
        store = EmbeddedStore(Path(folder) / "store")
        store.start()
        try:
            with asyncio.Runner(loop_factory=_loop()) as runner:
                return runner.run(_run(store.url, series, step_s, repeats, days))
        finally:
            store.stop()


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(url: str, series: int, step_s: int, repeats: int, days: int) -> list[Row]:
    data = dict(enumerate(_data(series, step_s)))
    async with connect(url, timeout=60) as redis:
        rows = [row async for row in _rows(redis, data, repeats)]
        return [*rows, await _year(redis, data[0], days, repeats)]


async def _rows(redis: Redis, data: dict[int, Columns], repeats: int) -> AsyncIterator[Row]:
    samples = sum(len(columns.t) for columns in data.values())
    reader = ChunkReader(redis, 1, BUCKET_MS)

    async def ours() -> dict[int, Columns]:
        return await reader.read(TENANT, list(data), T0, T0 + DAY_MS - 1)

    names = [keys.chunk(0, TENANT, i, T0 // BUCKET_MS + b) for i in data for b in range(4)]

    async def fetched() -> list[bytes]:
        found: list[bytes] = await ask(redis, "MGET", *names)
        return found

    async def viewed() -> object:
        return [np.frombuffer(value, POINT) for value in await fetched()]

    async def one_by_one() -> object:
        return [list(struct.iter_unpack("<qd", value)) for value in await fetched()]

    size = await _fill(redis, data, seal)
    sealed = await _timed(ours, repeats)
    _compare(await ours(), data)
    yield Row("sealed chunks", samples, *sealed, size / samples, 1.0)
    raw_size = await _fill(redis, data, Columns.pack)
    _compare(await ours(), data)
    for what, read, times in (
        ("records, not sealed yet", ours, repeats),
        ("records, fetched only", fetched, repeats),
        ("records, viewed as arrays, unsorted", viewed, repeats),
        ("records, decoded one by one", one_by_one, 2),
    ):
        ms, cpu = await _timed(read, times)
        yield Row(what, samples, ms, cpu, raw_size / samples, ms / sealed[0])
    yield await _sorted_sets(redis, data, sealed[0])


def _data(series: int, step_s: int) -> Iterator[Columns]:
    """Gauges with three places, counters, jittered times, full floats: a quarter each."""
    rng = np.random.default_rng(1)
    n = DAY_MS // 1000 // step_s
    for i in range(series):
        t = T0 + step_s * 1000 * np.arange(n)
        walk = 50 + np.cumsum(rng.normal(0, 0.1, n))
        if i % 4 == 0:
            yield Columns(t, np.round(walk, 3))
        elif i % 4 == 1:
            yield Columns(t, np.cumsum(rng.integers(0, 50, n)).astype(float))
        elif i % 4 == 2:
            yield Columns(t + rng.integers(0, 6, n), np.round(walk, 2))
        else:
            yield Columns(t, walk)


async def _fill(redis: Redis, data: dict[int, Columns], encode: Callable[[Columns], bytes]) -> int:
    size = 0
    for i, columns in data.items():
        for b in range(DAY_MS // BUCKET_MS):
            start = T0 + b * BUCKET_MS
            value = encode(columns.between(start, start + BUCKET_MS - 1))
            await redis.set(keys.chunk(0, TENANT, i, start // BUCKET_MS), value)
            size += len(value)
    return size


def _compare(got: dict[int, Columns], want: dict[int, Columns]) -> None:
    for i, (t, v) in want.items():
        if not (np.array_equal(got[i].t, t) and np.array_equal(got[i].v, v)):
            raise AssertionError(f"series {i} is not read as it was written")


async def _timed(read: Callable[[], Awaitable[object]], repeats: int) -> tuple[float, float]:
    """Best milliseconds of wall and of CPU time."""
    wall, cpu = [], []
    for _ in range(repeats):
        begun, spent = time.perf_counter(), time.process_time()
        await read()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - spent)
    return min(wall) * 1000, min(cpu) * 1000


async def _sorted_sets(redis: Redis, data: dict[int, Columns], ours: float) -> Row:
    """Sorted sets of `time:value` by time, read and parsed."""
    some = list(data.items())[:_SORTED]
    size = 0
    for i, (t, v) in some:
        pairs = {f"{a}:{b!r}": a for a, b in zip(t.tolist(), v.tolist(), strict=True)}
        await redis.zadd(f"z{i}", pairs)
        size += int(await ask(redis, "MEMORY", "USAGE", f"z{i}"))

    async def read() -> object:
        found = []
        for i, _ in some:
            members = await ask(redis, "ZRANGEBYSCORE", f"z{i}", T0, T0 + DAY_MS - 1)
            found.append([(int(a), float(b)) for a, _, b in (m.partition(b":") for m in members)])
        return found

    ms, cpu = await _timed(read, 2)
    scale = len(data) / len(some)
    samples = sum(len(columns.t) for _, columns in some)
    name = f"sorted sets ({len(some)} of the series, scaled)"
    return Row(
        name, round(samples * scale), ms * scale, cpu * scale, size / samples, ms * scale / ours
    )


async def _year(redis: Redis, day: Columns, days: int, repeats: int) -> Row:
    """Many days of one series by the hour."""
    size = 0
    series = 1 << 40
    for number in range(days):
        for b in range(DAY_MS // BUCKET_MS):
            start = T0 + b * BUCKET_MS
            t, v = day.between(start, start + BUCKET_MS - 1)
            rows = pack_rows(roll_up(Columns(t + number * DAY_MS, v)))
            bucket = (start + number * DAY_MS) // BUCKET_MS
            await redis.hset(keys.rollup(0, TENANT, series, bucket // BUCKETS), str(bucket), rows)
            size += len(rows)
    source = Source(
        SeriesRegistry(redis, 1), ChunkReader(redis, 1, BUCKET_MS), RollupReader(redis, 1)
    )
    end = T0 + days * DAY_MS - 1

    async def read() -> object:
        return await source.aggregate(TENANT, [series], T0, end, 3_600_000)

    samples = len(day.t) * days
    ms, cpu = await _timed(read, repeats)
    return Row(f"{days} days of one series by the hour, roll-ups", samples, ms, cpu, size / samples)


def show(rows: list[Row]) -> None:
    """The table."""
    out = Console(highlight=False)
    table = Table(title=f"Reading: {rows[0].samples:,} samples of one day", title_justify="left")
    for name in ("what", "samples", "ms", "CPU ms", "B/sample", "× sealed"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.samples:,}",
            f"{row.ms:.1f}",
            f"{row.cpu_ms:.1f}",
            f"{row.bytes_per_sample:.2f}",
            f"{row.ratio:.1f}" if row.ratio else "",
        )
    out.print(table)
    out.print(
        f"Target for both kinds of chunks: {TARGET[0]:.0f} ms (to aim at: {TARGET[1]:.0f}). "
        "Best of several reads.",
        style="dim",
    )


def main() -> None:
    rows = run()
    if "--json" in sys.argv[1:]:
        print(json.dumps({"read": [asdict(row) for row in rows]}))
    else:
        show(rows)


if __name__ == "__main__":
    main()
