"""What was due and waited is told: for the event loop, and to be judged."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from service.worker.lateness import Lateness


class Told(list[float]):
    """What a worker says of how long points waited."""

    async def tell(self, seconds: float) -> None:
        self.append(seconds)

    async def until(self, least: float) -> None:
        deadline = time.monotonic() + 10
        while max(self, default=-1.0) < least:
            assert time.monotonic() < deadline, f"told {self}"
            await asyncio.sleep(0.01)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def lateness(told: Told) -> AsyncIterator[Lateness]:
    found = Lateness(told.tell)
    watching = asyncio.create_task(found.watch())
    await asyncio.sleep(0)
    yield found
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.usefixtures("lateness")
async def test_the_longest_wait_for_the_loop_is_told(told: Told) -> None:
    end = time.monotonic() + 0.3
    while time.monotonic() < end:  # holds the loop up: this is what is to be noticed
        pass
    deadline = time.monotonic() + 5
    while (REGISTRY.get_sample_value("offbeat_worker_late_seconds") or 0.0) < 0.2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await told.until(0.2)  # points waited as well


async def test_points_wait_from_the_head_until_they_are_judged(
    lateness: Lateness, told: Told
) -> None:
    lateness.arrived()
    await told.until(0.8)  # nobody judges them
    lateness.begins()
    lateness.ends()
    del told[:]
    deadline = time.monotonic() + 10
    while not told or told[-1] > 0.5:  # what was told once more is over
        assert time.monotonic() < deadline, f"told {told}"
        await asyncio.sleep(0.01)
