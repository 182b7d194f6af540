"""Who owns what: a shard has one worker at a time, the schedulers one leader.

A lease expires in Redis' own time unless renewed. Each change of owner raises the shard's epoch,
which every write of the owner carries; so a worker that was only slow cannot write any more.
"""

from redis.asyncio import Redis

from service.storage import keys
from service.storage.redis import ask, store_errors

# KEYS: lease, epoch.  ARGV: owner, milliseconds.  Answers the epoch, or 0 if another owns it.
_ACQUIRE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if owner then return tonumber(redis.call('GET', KEYS[2])) end
return redis.call('INCR', KEYS[2])
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# KEYS: workers.  ARGV: worker, seconds.  Signs the worker in and counts those alive.
_SIGN_IN = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]) * 10)
return redis.call('ZCOUNT', KEYS[1], now - tonumber(ARGV[2]), '+inf')
"""


class Leases:
    """Leases of one process, named `owner`."""

    def __init__(self, redis: Redis, owner: str, seconds: float) -> None:
        self._redis = redis
        self.owner = owner
        self.seconds = seconds
        self._acquire = redis.register_script(_ACQUIRE)
        self._release = redis.register_script(_RELEASE)
        self._sign_in = redis.register_script(_SIGN_IN)

    async def acquire(self, shard: int) -> int:
        """Take or renew a shard; its epoch, or 0 if another owns it."""
        async with store_errors():
            return int(
                await self._acquire(
                    keys=[keys.lease(shard), keys.epoch(shard)],
                    args=[self.owner, int(self.seconds * 1000)],
                )
            )

    async def release(self, shard: int) -> None:
        """Give a shard back, so that another need not wait for the lease to expire."""
        async with store_errors():
            await self._release(keys=[keys.lease(shard)], args=[self.owner])

    async def workers(self) -> int:
        """Sign in as a worker; how many have done so lately, this one included."""
        async with store_errors():
            return int(await self._sign_in(keys=[keys.WORKERS], args=[self.owner, self.seconds]))

    async def sign_out(self) -> None:
        """Leave the workers."""
        async with store_errors():
            await self._redis.zrem(keys.WORKERS, self.owner)

    async def lead(self) -> int:
        """Become or stay the scheduler that leads; the epoch, or 0 if another leads."""
        async with store_errors():
            return int(
                await self._acquire(
                    keys=[keys.LEADER, keys.LEADER_EPOCH],
                    args=[self.owner, int(self.seconds * 1000)],
                )
            )

    async def leads(self) -> bool:
        """Whether this scheduler leads at this moment."""
        owner: bytes | None = await ask(self._redis, "GET", keys.LEADER)
        return owner == self.owner.encode()

    async def resign(self) -> None:
        """Let another scheduler lead at once."""
        async with store_errors():
            await self._release(keys=[keys.LEADER], args=[self.owner])
