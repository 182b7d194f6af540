"""The connection to Redis, and the one place where its faults become ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.domain.errors import Unavailable


def connect(url: str, timeout: float = 2.0) -> Redis:
    """A client of bytes. Nothing is sent before its first command; none waits over `timeout`."""
    return Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        health_check_interval=15,
        # A command that failed midway may have been done; who calls decides about a second try.
        retry=Retry(NoBackoff(), 0),
    )


async def ask(redis: Redis, *command: str | bytes | int) -> Any:
    """Send one command; its answer in bytes, where redis-py's methods say text or bytes."""
    async with store_errors():
        return await redis.execute_command(*command)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Map a store that is down, loading, full or read-only to `Unavailable`."""
    try:
        yield
    except AuthenticationError as error:
        raise Unavailable(f"the store refuses us: {error}; check REDIS_PASSWORD") from error
    except (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError) as error:
        raise Unavailable("the store does not answer; nothing was kept, try again") from error
    except ResponseError as error:
        if str(error).startswith(("OOM", "MISCONF", "LOADING", "CLUSTERDOWN", "READONLY")):
            raise Unavailable("the store takes no writes at present; try again") from error
        raise
