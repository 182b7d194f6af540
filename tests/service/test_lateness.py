"""What was due and waited for the event loop is told."""

import asyncio
import time

from prometheus_client import REGISTRY

from service.worker.lateness import watch_loop


async def test_the_longest_wait_for_the_loop_is_told() -> None:
    watching = asyncio.create_task(watch_loop())
    try:
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - this is what is to be noticed
        deadline = time.monotonic() + 5
        while (REGISTRY.get_sample_value("offbeat_worker_late_seconds") or 0.0) < 0.2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
