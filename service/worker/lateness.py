"""How long what is due in a process waits for its event loop.

Leases are renewed and logs are followed on the loop: what holds it up for long costs the shards.
"""

import asyncio
import time

from service import telemetry

#: Seconds between two looks; how long the longest wait is told, at least.
_LOOK, _TOLD = 0.05, 60.0


async def watch_loop() -> None:
    """Tell the longest wait of the last minute or so, until cancelled."""
    before, longest, since = 0.0, 0.0, time.monotonic()
    while True:
        due = time.monotonic() + _LOOK
        await asyncio.sleep(_LOOK)
        now = time.monotonic()
        if now - since >= _TOLD:
            before, longest, since = longest, 0.0, now
        longest = max(longest, now - due)
        telemetry.WORKER_LATE.set(max(before, longest))
