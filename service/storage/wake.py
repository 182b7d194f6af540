"""Wake-ups: something changed, look now. They save waiting; nothing depends on their arrival."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service import telemetry
from service.storage import keys

log = structlog.get_logger(__name__)


class WakeUps:
    """Publish and hear wake-ups by topic."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, topic: str, payload: str = "") -> None:
        """Tell every listener; a store that is down is no error."""
        try:
            await self._redis.publish(keys.wake(topic), payload)
        except (RedisError, OSError) as error:
            log.warning("wake-up lost", topic=topic, error=str(error))

    async def listen(self, *topics: str) -> AsyncIterator[tuple[str, str]]:
        """Yield (topic, payload) for ever; reconnects by itself."""
        channels = {keys.wake(topic).encode(): topic for topic in topics}
        interruption = telemetry.Interruption()
        while True:
            try:
                async with self._redis.pubsub() as hub:
                    await hub.subscribe(*channels)
                    if (seconds := interruption.over()) is not None:
                        log.info("wake-ups go on", topics=topics, seconds=seconds)
                    while True:
                        message = await hub.get_message(ignore_subscribe_messages=True, timeout=5.0)
                        if message is not None:
                            yield channels[message["channel"]], message["data"].decode()
            except (RedisError, OSError) as error:
                if interruption.is_news(type(error).__name__):
                    log.warning("wake-ups interrupted", topics=topics, error=str(error))
                await asyncio.sleep(1.0)

    async def forward(self, event: asyncio.Event, *topics: str) -> None:
        """Set `event` at each wake-up, for loops that wait for it or for their time."""
        async for _ in self.listen(*topics):
            event.set()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, at most `seconds` of real time; clears it; True if it was."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    was_set = event.is_set()
    event.clear()
    return was_set
