"""Log, chunks, registry, lease and head against a real store."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from redis.asyncio import Redis

from service.domain.errors import LostLease, Unavailable
from service.domain.series import Series
from service.settings import Settings
from service.storage import keys
from service.storage.append import LogWriter
from service.storage.chunks import ChunkReader, ChunkWriter
from service.storage.columns import Batch, Columns, Groups
from service.storage.deletion import Deletion
from service.storage.head import Head
from service.storage.lease import Leases
from service.storage.log import START, LogReader
from service.storage.redis import connect
from service.storage.registry import Registered, SeriesRegistry
from tests.support.roles import wait_until

HOUR = 3_600_000
T0 = int(time.time() * 1000) // HOUR * HOUR  # chunks expire in the store's own time


def batch(*samples: tuple[int, int, float]) -> Batch:
    ids, t, v = zip(*samples, strict=True)
    return Batch(np.array(ids, np.int64), np.array(t, np.int64), np.array(v, np.float64))


async def test_what_is_logged_is_read_in_order_and_applied_once(redis: Redis) -> None:
    writer, reader = LogWriter(redis, 1, 100), LogReader(redis)
    chunks = ChunkWriter(redis, HOUR, 24 * HOUR)
    await writer.append("acme", batch((1, T0, 1.0), (2, T0, 2.0)))
    await writer.append("acme", batch((1, T0 + 2000, 3.0), (1, T0 + 1000, 2.5)))
    await writer.append("blue", batch((1, T0, 9.0)))
    epoch = await Leases(redis, "w1", 10).acquire(0)

    entries = await reader.read(0, await reader.position(0), count=10, block_ms=100)
    assert [e.tenant for e in entries] == ["acme", "acme", "blue"]
    await chunks.apply(0, epoch, entries)

    found = await ChunkReader(redis, 1, HOUR).read("acme", [1, 2, 3], T0, T0 + HOUR)
    assert found[1].t.tolist() == [T0, T0 + 1000, T0 + 2000]
    assert found[1].v.tolist() == [1.0, 2.5, 3.0]
    assert found[2].v.tolist() == [2.0]
    assert len(found[3].t) == 0
    assert await reader.position(0) == entries[-1].id
    assert await reader.read(0, entries[-1].id, count=10, block_ms=10) == []
    assert (await reader.backlog([0]))[0] <= 1


async def test_a_worker_that_lost_its_lease_writes_nothing(redis: Redis) -> None:
    writer, reader = LogWriter(redis, 1, 100), LogReader(redis)
    await writer.append("acme", batch((1, T0, 1.0)))
    old, new = Leases(redis, "old", 10), Leases(redis, "new", 10)
    stale = await old.acquire(0)
    assert await new.acquire(0) == 0
    await old.release(0)
    assert await new.acquire(0) == stale + 1
    entries = await reader.read(0, START, count=10, block_ms=100)
    chunks = ChunkWriter(redis, HOUR, 24 * HOUR)
    with pytest.raises(LostLease, match="shard 0 has another owner"):
        await chunks.apply(0, stale, entries)
    assert await reader.position(0) == START
    assert await redis.keys("*chunk*") == []
    await chunks.apply(0, stale + 1, entries)
    assert len(await redis.keys("*chunk*")) == 1


async def test_chunks_are_split_by_time_and_expire_with_the_retention(redis: Redis) -> None:
    await LogWriter(redis, 1, 100).append("acme", batch((1, T0 - 1, 1.0), (1, T0, 2.0)))
    epoch = await Leases(redis, "w", 10).acquire(0)
    entries = await LogReader(redis).read(0, START, count=1, block_ms=100)
    await ChunkWriter(redis, HOUR, 24 * HOUR).apply(0, epoch, entries)
    for bucket in (T0 // HOUR - 1, T0 // HOUR):
        expires = await redis.pexpiretime(keys.chunk(0, "acme", 1, bucket))
        assert expires == (bucket + 1) * HOUR + 24 * HOUR
    only = await ChunkReader(redis, 1, HOUR).read("acme", [1], T0, T0)
    assert only[1].v.tolist() == [2.0]


async def test_the_last_of_equal_timestamps_wins(redis: Redis) -> None:
    log, leases = LogWriter(redis, 1, 100), Leases(redis, "w", 10)
    await log.append("acme", batch((1, T0, 1.0), (1, T0 + 5, 5.0), (1, T0, 3.0)))
    entries = await LogReader(redis).read(0, START, count=1, block_ms=100)
    await ChunkWriter(redis, HOUR, HOUR * 24).apply(0, await leases.acquire(0), entries)
    found = await ChunkReader(redis, 1, HOUR).read("acme", [1], T0, T0 + 10)
    assert found[1].v.tolist() == [3.0, 5.0]


async def test_over_the_backlog_the_log_refuses(redis: Redis) -> None:
    writer = LogWriter(redis, 1, backlog_max=2)
    for _ in range(3):
        await redis.xadd(keys.log(0), {"t": "acme", "d": b""})
    with pytest.raises(Unavailable, match="3 requests wait to be stored") as caught:
        await writer.append("acme", batch((1, T0, 1.0)))
    assert caught.value.retry_after > 0


async def test_a_store_that_is_down_is_unavailable() -> None:
    client = connect("unix:///nowhere/store.sock")
    with pytest.raises(Unavailable, match="the store does not answer"):
        await LogWriter(client, 1, 10).append("acme", batch((1, T0, 1.0)))
    await client.aclose()


async def test_the_registry_counts_only_a_tenants_own_series(redis: Redis) -> None:
    registry = SeriesRegistry(redis, 4)
    a, b, c = (Series.of(f"m{i}", {"region": "eu"}) for i in range(3))
    quota = replace(Settings().shipped_quota, series=2)
    assert (await registry.register("acme", [a, b], quota)).outcomes == [Registered.NEW] * 2
    assert (await registry.register("acme", [a, c], quota)).outcomes == [
        Registered.KNOWN,
        Registered.OVER_LIMIT,
    ]
    score = a.derived(":anomaly_score")
    assert (await registry.register("acme", [score], quota)).outcomes == [Registered.NEW]
    assert set(await registry.all("acme")) == {a.id, b.id, score.id}
    assert set(await registry.all("acme", derived=False)) == {a.id, b.id}
    assert (await registry.lookup("acme", [a.id, score.id, 7])) == {a.id: a, score.id: score}
    assert await registry.all("blue") == {}
    impostor = Series(a.id, c.labels)
    assert (await registry.register("acme", [impostor])).outcomes == [Registered.COLLISION]


async def test_another_process_sees_new_series_at_once(redis: Redis) -> None:
    mine, theirs = SeriesRegistry(redis, 4), SeriesRegistry(redis, 4)
    assert await theirs.all("acme") == {}
    series = Series.of("m", {"a": "ü\n"})
    await mine.register("acme", [series])
    assert await theirs.all("acme") == {series.id: series}
    await Deletion(redis, 4).tenant("acme")
    assert await theirs.all("acme") == {}


async def test_one_scheduler_leads(redis: Redis) -> None:
    a, b = Leases(redis, "a", 10), Leases(redis, "b", 10)
    assert await a.lead()
    assert await a.lead()
    assert not await b.lead()
    await a.resign()
    assert await b.lead()


async def test_workers_sign_in_and_out(redis: Redis) -> None:
    a, b = Leases(redis, "a", 10), Leases(redis, "b", 10)
    assert await a.workers() == 1
    assert await b.workers() == 2
    await a.sign_out()
    assert await b.workers() == 1


def test_the_head_keeps_the_newest_in_order() -> None:
    head = Head(size=64)
    rng = np.random.default_rng(1)
    want: dict[int, float] = {}
    for step in range(200):
        t = rng.integers(max(0, step * 10 - 30), step * 10 + 10, size=5)
        v = rng.normal(size=5)
        if step % 3 == 0:
            head.put("acme", 7, Columns(t, v))
        elif step % 3 == 1:
            ids = np.repeat(np.array([7, 3, 7, 9]), [2, 4, 3, 1])
            others = np.r_[t[:2], 9, 5, 6, 7, t[2:], 4]
            batch = Batch(ids, others, np.r_[v[:2], np.zeros(4), v[2:], 0.0])
            head.extend("acme", Groups.of(batch, HOUR))
        else:  # as the worker does, and most often with one sample
            for one in range(5):
                batch = Batch(np.array([7]), t[one : one + 1], v[one : one + 1])
                head.extend("acme", Groups.of(batch, HOUR))
        want.update(zip(t.tolist(), v.tolist(), strict=True))
    got = head.columns("acme", 7)
    newest = sorted(want)[-64:]
    assert got.t.tolist()[-64:] == newest
    assert got.v.tolist()[-64:] == [want[x] for x in newest]
    assert len(got.t) <= 2 * 64
    assert head.last("acme", 7, newest[-2]) == (newest[-2], want[newest[-2]])
    assert head.last("acme", 7, -1) is None
    assert head.window("acme", 7, newest[3], newest[5]).t.tolist() == newest[3:6]
    assert len(head.columns("acme", 8).t) == 0


def test_a_view_of_the_head_does_not_change_under_its_reader() -> None:
    head = Head(size=64)
    head.put("a", 0, Columns(np.arange(60), np.arange(60.0)))
    view = head.columns("a", 0)
    before = view.v.copy()
    for step in range(60, 400):
        head.put("a", 0, Columns(np.array([step]), np.array([-1.0])))
    head.put("a", 0, Columns(np.array([5]), np.array([-1.0])))
    assert view.v.tolist() == before.tolist()


def test_the_store_dies_with_its_parent(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    code = (
        "import sys,signal,pathlib\n"
        "from service.storage.embedded import EmbeddedStore\n"
        "store = EmbeddedStore(pathlib.Path(sys.argv[1])); store.start()\n"
        "print(store.process.pid, flush=True); signal.pause()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not _alive(pid), 10, "the store outlived its parent")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
