"""The client against a running `offbeat api` and `offbeat worker` on a real store."""

import asyncio
import signal
import time

import numpy as np
import pytest

from service.client import AsyncClient, Client
from service.domain.series import Series
from service.storage.columns import Columns
from service.wiring import wired
from tests.client.conftest import Api
from tests.support.roles import end, start_role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def read_back(api: Api, series: list[Series], start_ms: int, count: int) -> dict[int, Columns]:
    """What the store has, once the worker has applied `count` samples."""

    async def read() -> dict[int, Columns]:
        deadline = time.monotonic() + 40
        async with wired(api.settings) as parts:
            while True:
                found = await parts.chunks.read(
                    "acme", [s.id for s in series], start_ms, start_ms + 3_600_000
                )
                if sum(len(columns.t) for columns in found.values()) >= count:
                    return found
                assert time.monotonic() < deadline, api.log.read_text()
                await asyncio.sleep(0.05)

    worker = start_role("worker", api.environment, api.log)
    try:
        return asyncio.run(read())
    finally:
        end(worker, signal.SIGKILL)


def test_what_was_recorded_is_read_back_equal(api: Api) -> None:
    start = int(time.time()) - 600
    values = np.random.default_rng(1).normal(size=500) * 10.0 ** np.arange(-250, 250)
    with Client(api.url, api.key, batch_size=70, labels={"host": "a"}) as client:
        for n, value in enumerate(values.tolist()):
            client.record("noise", value, {"zone": 'ü"\\\n'}, timestamp=start + n * 0.125)
        client.record("noise", 1, timestamp=1000)
        result = client.flush(30)
    assert (result.sent, result.rejected, result.unsent) == (500, 1, 0)
    assert "too old" in result.rejections[0].reason
    series = Series.of("noise", {"zone": 'ü"\\\n', "host": "a"})
    columns = read_back(api, [series], start * 1000, 500)[series.id]
    assert np.array_equal(columns.t, start * 1000 + np.arange(500) * 125)
    assert np.array_equal(columns.v, values)


def test_an_outage_loses_nothing_and_times_are_kept(api: Api) -> None:
    times: list[float] = []
    begun = time.time()

    def clock() -> float:
        times.append(begun + 0.002 * len(times))  # each sample has a time of its own
        return times[-1]

    async def story() -> None:
        async with AsyncClient(
            api.url,
            api.key,
            batch_size=50,
            flush_seconds=0.05,
            clock=clock,
            backoff_seconds=(0.05, 0.2),
        ) as client:
            client.record("m", -1, {"phase": "up"})
            assert (await client.flush(20)).sent == 1
            await asyncio.to_thread(api.kill)
            for n in range(400):
                client.record("m", n, {"n": str(n % 4)})
            down = await client.flush(0.3)
            assert (down.sent, down.unsent, down.dropped) == (0, 400, 0)
            assert down.error
            await asyncio.to_thread(api.start)
            up = await client.flush(30)
            assert (up.sent, up.ok) == (400, True)

    asyncio.run(story())
    every = [Series.of("m", {"n": str(n)}) for n in range(4)]
    expected: dict[int, dict[int, float]] = {s.id: {} for s in every}
    assert len(times) == 401, "a sample is stamped once"
    for n, stamp in enumerate(times[1:]):
        expected[every[n % 4].id][round(stamp * 1000)] = n
    count = sum(len(v) for v in expected.values())
    start = round(times[0] * 1000) - 1000
    found = read_back(api, every, start, count)
    for series in every:
        got = dict(zip(found[series.id].t.tolist(), found[series.id].v.tolist(), strict=True))
        assert got == expected[series.id]


def test_a_key_that_is_no_key_is_told(api: Api) -> None:
    with Client(api.url, "ob_wrong") as client:
        client.record("m", 1)
        result = client.flush(20)
    assert result.rejected == 1
    assert "401" in str(result.error)
