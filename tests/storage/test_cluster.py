"""A real Redis Cluster of three masters: routing, moving slots, dying nodes, the whole service."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ClusterCrossSlotError, ResponseError

from service.domain.clock import SystemClock
from service.domain.errors import ConfigurationError, Unavailable
from service.domain.tenants import Role
from service.settings import Settings
from service.storage import keys
from service.storage.append import LogWriter
from service.storage.chunks import ChunkReader, ChunkWriter
from service.storage.cluster import ClusterRedis
from service.storage.columns import Batch
from service.storage.embedded import EmbeddedStore
from service.storage.lease import Leases
from service.storage.log import LogReader
from service.storage.reach import reach
from service.storage.redis import ask, connect, connect_as_set
from service.storage.wake import WakeUps
from service.wiring import Wiring
from service.worker import Worker
from tests.support.redis_cluster import Cluster
from tests.support.roles import wait_until
from tests.support.whole import calling, headers_of, made

HOUR = 3_600_000
T0 = int(time.time() * 1000) // HOUR * HOUR
SHARDS = 8


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[ClusterRedis]:
    made = connect(cluster.url, cluster=True)
    assert isinstance(made, ClusterRedis)
    await made.flushall()
    yield made
    await asyncio.to_thread(cluster.restore)
    await made.aclose()


async def until(
    condition: Callable[[], Awaitable[object]], seconds: float = 30, pause: float = 0.02
) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(pause)


# routing


def test_all_keys_of_a_shard_are_in_one_slot() -> None:
    values = {"shard": 3, "tenant": "a}b{c", "day": "20261121", "series": 7, "bucket": 9}
    found = 0
    for name, make in inspect.getmembers(keys, inspect.isfunction):
        parameters = inspect.signature(make).parameters
        if "shard" in parameters:
            given = {p: values.get(p, False) for p in parameters}
            assert key_slot(make(**given).encode()) == key_slot(b"{s3}"), name
            found += 1
    assert found >= 10


async def test_each_command_goes_to_the_node_of_its_key(client: ClusterRedis) -> None:
    for shard in range(SHARDS):
        await client.set(keys.position(shard), shard)
        for bucket in range(30):
            await client.set(keys.chunk(shard, "acme", 1, bucket), b"x")
    held = [await node.dbsize() for node in await client.nodes()]
    assert sum(held) == await client.dbsize() == SHARDS * 31
    assert min(held) > 0, "the shards of the test are not spread over the nodes"
    positions = [await client.get(keys.position(shard)) for shard in range(SHARDS)]
    assert positions == [str(shard).encode() for shard in range(SHARDS)]
    pattern = keys.chunk_pattern(5, "acme")
    assert len([name async for name in client.scan_iter(match=pattern, count=10)]) == 30
    await ChunkReader(client, 1, HOUR).forget("acme")  # of shard 0
    assert await client.dbsize() == SHARDS * 31 - 30


async def test_what_a_cluster_cannot_do_is_an_error(client: ClusterRedis) -> None:
    with pytest.raises(ClusterCrossSlotError):
        await client.mget(keys.position(0), keys.position(1))
    for keyless in (
        client.scan(match="*:chunk:*"),
        client.scan(),
        client.eval("return 1", 0),
        client.execute_command("WAIT"),
    ):
        with pytest.raises(ResponseError, match="names no key"):
            await keyless
    with pytest.raises(TypeError, match="write a script"):
        client.pipeline()


async def test_nodes_that_do_not_know_a_script_are_sent_it(client: ClusterRedis) -> None:
    count = client.register_script("return redis.call('INCR', KEYS[1])")
    for expected in (1, 2):
        assert [await count(keys=[keys.epoch(s)]) for s in range(SHARDS)] == [expected] * SHARDS
        for node in await client.nodes():
            await node.script_flush()
    with pytest.raises(ResponseError, match="No matching script"):
        await client.evalsha("0" * 40, 1, keys.epoch(0))


async def test_redirections_are_followed_while_a_slot_moves_and_after(
    client: ClusterRedis, cluster: Cluster
) -> None:
    loop = asyncio.get_running_loop()
    script = client.register_script("return redis.call('INCR', KEYS[1])")
    counts: list[tuple[int, int]] = []
    names = [keys.position(1), keys.lease(1), keys.epoch(1)]
    for name in names:
        await client.set(name, "7")

    async def use() -> None:
        """Some keys are at the one node, some at the other, and one is at neither."""
        assert [await client.get(name) for name in names] == [b"7"] * 3
        fresh = f"{{s1}}:fresh:{len(counts)}"
        counts.append((await script(keys=[fresh]), await script(keys=[fresh])))

    def between() -> None:
        asyncio.run_coroutine_threadsafe(use(), loop).result(10)

    await asyncio.to_thread(cluster.move, keys.position(1), between)
    await use()
    assert len(counts) >= 5
    assert set(counts) == {(1, 2)}


async def test_wake_ups_are_heard_whichever_node_is_told(
    client: ClusterRedis, cluster: Cluster
) -> None:
    heard: list[str] = []

    async def listen() -> None:
        async for _, payload in WakeUps(client).listen("rules"):
            heard.append(payload)

    async def listening() -> bool:
        return any(node.ask("PUBSUB", "CHANNELS") for node in cluster.nodes)

    task = asyncio.create_task(listen())
    await until(listening)
    for i, node in enumerate(cluster.nodes):
        node.ask("PUBLISH", keys.wake("rules"), str(i))

    async def all_heard() -> bool:
        return sorted(heard) == ["0", "1", "2"]

    await until(all_heard)
    heard.clear()
    for node in cluster.nodes:  # the listener finds another one
        node.ask("CLIENT", "KILL", "TYPE", "pubsub")

    async def heard_again() -> bool:
        await WakeUps(client).publish("rules", "again")
        return "again" in heard

    await until(heard_again, pause=0.1)
    while not task.done():  # `wait_for` may lose a cancellation that comes with a message
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


# settings


async def reached(settings: Settings) -> None:
    client = connect_as_set(settings)
    try:
        await reach(client, settings)
    finally:
        await client.aclose()


async def test_any_of_several_nodes_is_enough(cluster: Cluster, tmp_path: Path) -> None:
    ports = [1, cluster.nodes[2].port]
    settings = Settings(
        data_dir=tmp_path,
        redis_host=", ".join(f"127.0.0.1:{port}" for port in ports),
        redis_cluster=True,
    )
    client = connect_as_set(settings)
    await reach(client, settings)
    assert await ask(client, "PING") is True
    await client.aclose()


async def test_what_is_set_wrong_is_named(cluster: Cluster, store: EmbeddedStore) -> None:
    async def said(**given: object) -> str:
        with pytest.raises((ConfigurationError, Unavailable)) as caught:
            await reached(Settings.model_validate(given))
        return str(caught.value)

    here = f"127.0.0.1:{cluster.nodes[0].port}"
    assert await said(redis_url=f"redis://{here}") == (
        f"Redis at {here} is a node of a cluster; set REDIS_CLUSTER=true"
    )
    assert "needs REDIS_HOST" in await said(redis_url=store.url, redis_cluster=True)
    assert "no databases but 0" in await said(redis_url=f"redis://{here}/3", redis_cluster=True)
    assert "set REDIS_CLUSTER=true" in await said(redis_host="one:7000,two:7000")
    assert "REDIS_URL must begin with" in await said(redis_url="http://one")
    assert await said(redis_host="127.0.0.1:1", redis_cluster=True) == (
        "Redis at 127.0.0.1:1 does not answer: Error 111 connecting to 127.0.0.1:1. "
        "Connect call failed ('127.0.0.1', 1).; check REDIS_HOST"
    )


# moving and dying


async def test_a_slot_that_moves_under_load_loses_nothing(
    client: ClusterRedis, cluster: Cluster
) -> None:
    """One shard is written and applied all the while; every acknowledged sample is there once."""
    writer, reader = LogWriter(client, 1, 10_000), LogReader(client)
    chunks, leases = ChunkWriter(client, HOUR, 24 * HOUR), Leases(client, "w", 60)
    acknowledged: list[int] = []
    tried = [0] * 4
    over = False

    async def send(place: int) -> None:
        number = place
        while not over:
            value = np.array([number], np.int64)
            batch = Batch(np.full(1, place, np.int64), T0 + value, value.astype(np.float64))
            try:
                await writer.append("acme", batch)
            except Unavailable:
                continue
            finally:
                tried[place] += 1
            acknowledged.append(number)
            number += 4

    async def apply() -> None:
        while not over or await reader.read(0, await reader.position(0), count=1, block_ms=None):
            try:
                epoch = await leases.acquire(0)
                position = await reader.position(0)
                if entries := await reader.read(0, position, count=50, block_ms=20):
                    await chunks.apply(0, epoch, entries)
            except Unavailable:
                pass

    tasks = [asyncio.create_task(work) for work in (*map(send, range(4)), apply())]

    async def fifty_more() -> None:
        goal = len(acknowledged) + 50

        async def reached_it() -> bool:
            return len(acknowledged) >= goal

        await until(reached_it)

    def one_more() -> None:
        """Between two keys, so that somebody writes while some have moved and some have not."""
        before = sum(tried)
        wait_until(lambda: sum(tried) > before, 10, "nobody writes")

    try:
        for _ in range(3):
            await fifty_more()
            await asyncio.to_thread(cluster.move, keys.log(0), one_more)
        await fifty_more()
    finally:
        over = True
        await asyncio.wait_for(asyncio.gather(*tasks), 30)

    found = await ChunkReader(client, 1, HOUR).read("acme", range(4), T0, T0 + 24 * HOUR)
    stored = np.sort(np.concatenate([columns.v for columns in found.values()]))
    assert set(acknowledged) <= set(stored.astype(int).tolist())
    raw = sum([await client.strlen(name) async for name in client.scan_iter(match="{s0}:chunk:*")])
    assert raw == 16 * len(stored), "a sample was applied twice"


async def test_a_node_that_falls_silent_is_left_when_another_takes_over(
    client: ClusterRedis, cluster: Cluster
) -> None:
    """Also if nobody waits as long as a connection would."""
    key = keys.position(1)
    await client.set(key, "1")
    silent = cluster.owner(key)
    silent.freeze()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await client.get(key)
        others = [s for s in range(SHARDS) if cluster.owner(keys.log(s)) is not silent]
        begun = time.monotonic()
        assert await asyncio.gather(*(client.exists(keys.log(s)) for s in others)) == [0] * len(
            others
        )
        assert await client.ping()
        assert time.monotonic() - begun < 0.5
        await asyncio.to_thread(cluster.take_over, key)

        async def answered() -> bool:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.6):
                    return await client.get(key) is None
            return False

        await until(answered)
    finally:
        silent.thaw()
        await asyncio.to_thread(cluster.wait)


@asynccontextmanager
async def service(cluster: Cluster, folder: Path) -> AsyncIterator[Wiring]:
    """The whole application and a worker on the cluster; acme and other are of two nodes."""
    settings = Settings(
        data_dir=folder,
        redis_url=cluster.url,
        redis_cluster=True,
        log_shards=SHARDS,
        database_url=f"sqlite:///{folder / 'offbeat.db'}",
        alert_rules=folder / "alert_rules.yaml",
        worker_lease_seconds=1.0,
        alert_evaluation_interval=0.1,
    )
    async with made(settings, SystemClock()) as parts:
        await parts.check_layout()
        stop = asyncio.Event()
        running = asyncio.create_task(Worker(parts).run(stop))
        try:
            yield parts
        finally:
            stop.set()
            await asyncio.wait_for(running, 20)


async def test_the_whole_service_on_a_cluster_and_a_node_that_dies(
    client: Redis, cluster: Cluster, tmp_path: Path
) -> None:
    shard_key, others = (keys.log(keys.shard_of(tenant, SHARDS)) for tenant in ("acme", "other"))
    assert cluster.owner(shard_key) is not cluster.owner(others)
    rule = {"name": "Many", "query": "plays", "condition": "gt", "threshold": 5, "severity": "low"}
    async with service(cluster, tmp_path) as parts:
        for tenant in ("acme", "other"):
            await parts.rules.create(tenant, rule, "test")
        acme = calling(parts, await headers_of(parts, Role.OPERATOR))
        other = calling(parts, await headers_of(parts, Role.OPERATOR, "other"))
        async with acme, other:

            async def recorded(http: httpx.AsyncClient, value: float) -> httpx.Response:
                item = {"name": "plays", "value": value, "labels": {"region": "eu"}}
                return await http.post("/analytics/metrics", json=item)

            async def fires() -> bool:
                return bool(parts.engine.open("acme"))

            async def taken_again() -> bool:
                return (await recorded(acme, 3)).status_code == 200

            async def read_again() -> bool:
                found = await parts.chunks.read("acme", [series.id], T0, T0 + 2 * HOUR)
                return 3 in found[series.id].v

            async def fires_for_other() -> bool:
                return bool(parts.engine.open("other"))

            assert (await recorded(acme, 9)).status_code == 200
            assert (await recorded(other, 1)).status_code == 200
            await until(fires)
            (series,) = (await parts.registry.all("acme")).values()
            read = await acme.get(f"/analytics/series/{series.hex}/samples")
            assert read.json()["v"] == [9]
            assert (await acme.get("/readyz")).json()["redis"] == "ok"

            dead = cluster.owner(shard_key)
            dead.kill()
            try:
                for _ in range(3):
                    begun = time.monotonic()
                    answer = await recorded(acme, 10)
                    assert answer.status_code == 503
                    assert "Retry-After" in answer.headers
                    assert time.monotonic() - begun < 2
                    assert (await recorded(other, 2)).status_code == 200
                assert (await acme.get("/readyz")).status_code == 200
                # Longer than a lease: the other nodes' shards are kept, applied and judged.
                ended = time.monotonic() + parts.settings.worker_lease_seconds * 1.5

                async def lease_is_over() -> bool:
                    return time.monotonic() > ended

                await until(lease_is_over)
                assert (await recorded(other, 9)).status_code == 200
                await until(fires_for_other)
                # Another node takes over, of all that was kept knowing nothing.
                await asyncio.to_thread(cluster.take_over, shard_key)
                await until(taken_again)
                await until(read_again)
            finally:
                dead.start_again()
                await asyncio.to_thread(cluster.wait)
            await asyncio.to_thread(cluster.restore)
            await until(taken_again)
