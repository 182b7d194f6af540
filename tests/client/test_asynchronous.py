"""The client for asyncio against a receiver that misbehaves."""

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from service.client import AsyncClient, FlushResult
from tests.client.conftest import KEY, Receiver
from tests.support.roles import wait_until

QUICK: Any = {"flush_seconds": 0.05, "backoff_seconds": (0.01, 0.05)}


async def requests(receiver: Receiver, count: int) -> None:
    await asyncio.to_thread(receiver.wait_requests, count)


async def test_what_is_recorded_arrives(receiver: Receiver) -> None:
    async with AsyncClient(receiver.url, KEY) as client:
        client.record("m", 1, {"a": "b"}, timestamp=1700000000.5)
        client.counter("hits_total").inc()
        with client.timer("block_seconds"):
            await asyncio.sleep(0)
        assert await client.flush() == FlushResult(sent=3)
        client.record("late", 2)
    assert receiver.values("m", a="b") == [1]
    assert receiver.values("late") == [2], "closing sends the rest"
    assert receiver.values("hits_total") == [1]


async def test_the_task_sends_by_itself(receiver: Receiver) -> None:
    client = AsyncClient(receiver.url, KEY, flush_seconds=3600, batch_size=5)
    for n in range(5):
        client.record("m", n)
    await requests(receiver, 1)
    assert len(receiver.bodies[0]) == 5
    await client.close()
    with pytest.raises(ValueError, match="metric name"):
        client.record("no name", 1)
    client.record("m", 1)
    assert client.dropped == 1


@pytest.mark.parametrize("fault", ["reset", (503, {}, {}), (429, {"Retry-After": "0"}, {})])
async def test_a_passing_fault_loses_nothing(receiver: Receiver, fault: Any) -> None:
    receiver.plan.extend([fault, fault])
    async with AsyncClient(receiver.url, KEY, **QUICK) as client:
        client.record("m", 1)
        assert await client.flush(20) == FlushResult(sent=1)
    assert len(receiver.bodies) == 3


async def test_refusals_are_told(receiver: Receiver) -> None:
    receiver.plan.append((403, {}, {"detail": "this key may not record"}))
    async with AsyncClient(receiver.url, KEY, **QUICK) as client:
        client.record("m", 1)
        result = await client.flush(20)
    assert (result.rejected, result.error) == (
        1,
        "the server answered 403: this key may not record",
    )


async def test_close_tells_what_failed() -> None:
    client = AsyncClient("http://127.0.0.1:1", KEY, **QUICK)
    client.record("m", 1)
    result = await client.close(1.0)
    assert result.unsent == 1
    assert "ConnectError" in str(result.error)


async def test_a_cancelled_flush_loses_nothing(receiver: Receiver) -> None:
    receiver.plan.append("hang")
    async with AsyncClient(receiver.url, KEY, timeout=0.5, **QUICK) as client:
        client.record("m", 1)
        flush = asyncio.create_task(client.flush(20))
        await requests(receiver, 1)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
        assert client.unsent == 1
        assert (await client.flush(20)).sent == 1
    assert receiver.values("m") == [1]


async def test_a_cancelled_close_leaves_the_samples_counted(receiver: Receiver) -> None:
    receiver.forever = "hang"
    client = AsyncClient(receiver.url, KEY, **QUICK)
    client.record("m", 1)
    close = asyncio.create_task(client.close(20))
    await requests(receiver, 1)
    close.cancel()
    with pytest.raises(asyncio.CancelledError):
        await close
    assert client.unsent == 1
    receiver.released.set()


async def test_a_killed_task_puts_back_what_was_on_its_way(receiver: Receiver) -> None:
    receiver.plan.append("hang")
    async with AsyncClient(receiver.url, KEY, **QUICK) as client:
        client.record("m", 1)
        await requests(receiver, 1)
        (task,) = [t for t in asyncio.all_tasks() if t.get_name() == "offbeat-client"]
        task.cancel()
        await asyncio.wait([task])
        client.record("m", 2)
        assert (await client.flush(20)).sent == 2
    assert receiver.values("m") == [1, 2]


async def test_other_threads_record_into_the_loop(receiver: Receiver) -> None:
    async with AsyncClient(receiver.url, KEY, batch_size=10, flush_seconds=3600) as client:

        def work() -> None:
            for n in range(10):
                client.record("m", n)

        await asyncio.to_thread(work)
        await requests(receiver, 1)
    assert receiver.values("m") == list(range(10))


def test_a_second_loop_goes_on_where_the_first_ended(receiver: Receiver) -> None:
    client = AsyncClient(receiver.url, KEY, flush_seconds=3600)

    async def first() -> None:
        client.record("m", 1)

    async def second() -> FlushResult:
        client.record("m", 2)
        return await client.close()

    asyncio.run(first())
    assert client.unsent == 1
    assert asyncio.run(second()) == FlushResult(sent=2)
    assert receiver.values("m") == [1, 2]


async def test_a_full_queue_drops_the_oldest(receiver: Receiver) -> None:
    told: list[int] = []
    receiver.forever = (500, {}, {})
    async with AsyncClient(
        receiver.url,
        KEY,
        batch_size=5,
        queue_max=20,
        on_drop=lambda count, _: told.append(count),
        **QUICK,
    ) as client:
        for n in range(100):
            client.record("m", n)
        await requests(receiver, 2)
        receiver.forever = None
        assert (await client.flush(20)).unsent == 0
        assert client.sent + client.dropped == 100
        assert sum(told) == client.dropped >= 75
    kept = receiver.values("m")
    assert kept == list(range(100 - len(kept), 100))


async def test_the_loop_is_never_held_up(receiver: Receiver) -> None:
    receiver.forever = "hang"
    client = AsyncClient(receiver.url, KEY, batch_size=10, **QUICK)
    started = time.monotonic()
    for n in range(5000):
        client.record("m", n)
    assert time.monotonic() - started < 2
    await requests(receiver, 1)
    result = await client.close(0.1)
    assert result.unsent == 5000
    receiver.released.set()


def test_the_end_of_the_program_sends_what_the_loop_left(receiver: Receiver) -> None:
    program = """
import asyncio, sys
from service.client import AsyncClient
client = AsyncClient(sys.argv[1], "key", flush_seconds=3600)
async def main():
    client.record("last_words", 42)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, receiver.url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.values("last_words") == [42]


def test_a_loop_in_another_thread_goes_on_sending(receiver: Receiver) -> None:
    client = AsyncClient(receiver.url, KEY, flush_seconds=0.02)
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with client:
            ready.set()
            await asyncio.to_thread(over.wait, 20)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)

    async def elsewhere() -> None:
        client.record("m", 1)

    asyncio.run(elsewhere())
    wait_until(lambda: receiver.values("m") == [1], 20, "nothing came")
    over.set()
    thread.join()
