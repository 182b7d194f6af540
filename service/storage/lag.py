"""How long points wait to be judged, as workers tell it and whoever burdens them asks."""

from redis.asyncio import Redis

from service.storage import keys
from service.storage.redis import store_errors

#: Seconds for which what a worker said counts.
FRESH_SECONDS = 10

# KEYS: lags.  ARGV: worker, seconds of lag.
_TELL = """
redis.call('HSET', KEYS[1], ARGV[1], redis.call('TIME')[1] .. ':' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], 3600)
return 1
"""

# KEYS: lags.  ARGV: seconds for which they count.  Answers the longest, and forgets old ones.
_LONGEST = """
local now, longest = tonumber(redis.call('TIME')[1]), 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, lag = string.match(all[i + 1], '^(%d+):(.+)$')
  if now - tonumber(at) <= tonumber(ARGV[1]) then
    longest = math.max(longest, tonumber(lag))
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return tostring(longest)
"""


class Lags:
    """What workers say of themselves."""

    def __init__(self, redis: Redis) -> None:
        self._tell = redis.register_script(_TELL)
        self._longest = redis.register_script(_LONGEST)

    async def tell(self, worker: str, seconds: float) -> None:
        """A worker's points wait for so long now."""
        async with store_errors():
            await self._tell(keys=[keys.LAGS], args=[worker, f"{seconds:.3f}"])

    async def longest(self) -> float:
        """Of the workers that said something in the last ten seconds; 0 if none did."""
        async with store_errors():
            return float(await self._longest(keys=[keys.LAGS], args=[FRESH_SECONDS]))
