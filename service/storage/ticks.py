"""Which slot of time of a job is whose: each is taken once, by the scheduler that leads.

A job's time is cut into slots of equal length, by Redis' clock, from when it first ran. A slot is
taken in one script that looks at the leader's lease, so of two schedulers that both believe to lead
one gets it. A slot that was taken and not finished, its owner being gone, is taken again by the
next leader; slots that passed without a leader are taken together, as the newest of them.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from service.storage import keys
from service.storage.redis import store_errors

#: Days after which a job that nobody runs is forgotten.
_KEPT_SECONDS = 30 * 86_400

# KEYS: leader, job, log.  ARGV: owner, epoch, milliseconds a slot, seconds to keep, job's name.
# Answers {slot, slots passed over, 1 if the slot was left unfinished}, or nothing. A slot that is
# not done and was taken in our own epoch ended, or we would not ask: saying so was lost.
_TAKE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local job = redis.call('HMGET', KEYS[2], 'origin', 'slot', 'epoch', 'done')
local origin = tonumber(job[1])
if not origin then
  origin = now
  redis.call('HSET', KEYS[2], 'origin', string.format('%.0f', now))
end
local newest = math.floor((now - origin) / tonumber(ARGV[3]))
local last = tonumber(job[2]) or -1
local slot, passed, again = newest, newest - last - 1, 0
if last >= 0 and job[4] == '0' and job[3] ~= ARGV[2] then
  slot, passed, again = last, 0, 1
elseif newest <= last then
  return false
end
redis.call('HSET', KEYS[2], 'slot', slot, 'epoch', ARGV[2], 'done', '0')
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'job', ARGV[5], 'slot', slot,
  'what', 'begun', 'passed', passed, 'owner', ARGV[1])
return {slot, passed, again}
"""

# KEYS: job, log.  ARGV: slot, epoch, job's name, owner.
_FINISH = """
local job = redis.call('HMGET', KEYS[1], 'slot', 'epoch')
if job[1] ~= ARGV[1] or job[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'done', '1')
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', 'job', ARGV[3], 'slot', ARGV[1],
  'what', 'done', 'passed', 0, 'owner', ARGV[4])
return 1
"""


@dataclass(frozen=True, slots=True)
class Tick:
    """A slot that was taken: `passed` slots before it had no leader, `again` if it was left
    unfinished by another; `epoch` is the leader's."""

    job: str
    slot: int
    epoch: int
    passed: int = 0
    again: bool = False


class Ticks:
    """Slots of one scheduler's jobs, by the name it leads under."""

    def __init__(self, redis: Redis, owner: str) -> None:
        self._owner = owner
        self._take = redis.register_script(_TAKE)
        self._finish = redis.register_script(_FINISH)

    async def take(self, job: str, seconds: float, epoch: int) -> Tick | None:
        """The slot of a job that is due, one every `seconds`; None if there is none for us."""
        async with store_errors():
            found = await self._take(
                keys=[keys.LEADER, keys.job(job, seconds), keys.JOB_LOG],
                args=[self._owner, epoch, max(1, round(seconds * 1000)), _KEPT_SECONDS, job],
            )
        if not found:
            return None
        slot, passed, again = (int(number) for number in found)
        return Tick(job, slot, epoch, passed, bool(again))

    async def finish(self, tick: Tick, seconds: float) -> bool:
        """The slot is done; False if another scheduler has taken it meanwhile."""
        async with store_errors():
            return bool(
                await self._finish(
                    keys=[keys.job(tick.job, seconds), keys.JOB_LOG],
                    args=[tick.slot, tick.epoch, tick.job, self._owner],
                )
            )
