"""Appending to the log: one script decides what a tenant may send, counts it, and keeps it.

Appends of a shard are made one at a time, and those that come meanwhile go together in the next
(group commit): a request alone waits for nothing, and a thousand small ones cost a few writes.

A tenant's rates are token buckets in Redis, in Redis' own time, so they are exact however many
API replicas take its requests. A request passes while there is a token for a sample left, and may
leave the bucket in debt; so a request of any size passes, and the rate holds in the long run. While
a bucket is empty nothing of the tenant can pass, so this process refuses without asking Redis; the
request that empties it says for how long, so a tenant at many times its rates costs the store
little more than one at its rates.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from redis.asyncio import Redis

from service.domain.clock import Clock, SystemClock
from service.domain.errors import OffbeatError, OverLimit, StaleSeries, Unavailable
from service.domain.quotas import BURST_SECONDS, Quota
from service.storage import keys
from service.storage.columns import Batch
from service.storage.redis import store_errors

# KEYS: log, then of each tenant: rates, usage, generation.
# ARGV: backlog limit, seconds of a burst, seconds that usage is kept, then of each tenant: name,
#   generation ("" for any), samples/s and requests/s (0: unbounded and not counted), refusals to
#   count, number of requests, and of each of these: number of samples, their records.
# Answers the length of the log if that is over the limit, else a code for each request: 0 kept,
#   -1 the generation is over, otherwise twice the milliseconds until the tenant may send again,
#   plus 1 if it is for the requests: refused, or kept as the last for so long if it is negative.
_APPEND = """
local waiting = redis.call('XLEN', KEYS[1])
if waiting > tonumber(ARGV[1]) then return waiting end
local burst, at, codes = tonumber(ARGV[2]), 4, {}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for key = 2, #KEYS, 3 do
  local tenant, generation = ARGV[at], ARGV[at + 1]
  local samples_rate, requests_rate = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local refused, count = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  at = at + 6
  local stale = generation ~= '' and generation ~= (redis.call('GET', KEYS[key + 2]) or '0')
  local bounded = samples_rate > 0 and not stale
  local s, r = samples_rate * burst, requests_rate * burst
  if bounded then
    local stored = redis.call('GET', KEYS[key])
    if stored then
      local s_left, r_left, since = struct.unpack('<ddd', stored)
      local seconds = math.max(0, now - since) / 1000
      s = math.min(s, s_left + seconds * samples_rate)
      r = math.min(r, r_left + seconds * requests_rate)
    end
  end
  local function wait()
    local s_wait, r_wait = -s / samples_rate, (1 - r) / requests_rate
    local code = 2 * (math.ceil(1000 * math.max(s_wait, r_wait)) + 1)
    return r_wait > s_wait and code + 1 or code
  end
  local kept, samples, records = 0, 0, {}
  for _ = 1, count do
    local code = 0
    if stale then
      code = -1
    elseif bounded and (s <= 0 or r < 1) then
      code = wait()
      refused = refused + 1
    else
      local n = tonumber(ARGV[at])
      s, r, kept, samples = s - n, r - 1, kept + 1, samples + n
      if n > 0 then records[#records + 1] = ARGV[at + 1] end
      if bounded and (s <= 0 or r < 1) then code = -wait() end
    end
    codes[#codes + 1] = code
    at = at + 2
  end
  if #records > 0 then
    redis.call('XADD', KEYS[1], '*', 't', tenant, 'd', table.concat(records))
  end
  if bounded then
    local full = math.max(burst - s / samples_rate, burst - r / requests_rate)
    redis.call('SET', KEYS[key], struct.pack('<ddd', s, r, now), 'PX', math.ceil(full * 1000) + 1)
    redis.call('HINCRBY', KEYS[key + 1], 'samples', samples)
    if redis.call('HINCRBY', KEYS[key + 1], 'requests', kept) == kept then
      redis.call('EXPIRE', KEYS[key + 1], ARGV[3])
    end
    if refused > 0 then redis.call('HINCRBY', KEYS[key + 1], 'refused', refused) end
  end
end
return codes
"""

_STALE = -1
_USAGE_SECONDS = 40 * 86_400
#: Bytes of records that one script takes, and that may wait for it, of a shard.
_FLUSH_BYTES = 2 << 20
_WAITING_BYTES = 64 << 20
#: A tenant over its rates is refused for so long without asking: its quota may be raised.
_CLOSED_SECONDS = 0.5
#: A store that does not answer for so long is down: senders hear of it within two seconds.
_TIMEOUT_SECONDS = 1.5


class _Request(NamedTuple):
    tenant: str
    samples: int
    records: bytes
    generation: int | None
    quota: Quota | None
    done: "asyncio.Future[int]"


@dataclass(slots=True)
class _Lane:
    """What waits to be appended to one shard."""

    waiting: list[_Request] = field(default_factory=list)
    size: int = 0
    flushing: "asyncio.Task[None] | None" = None


class LogWriter:
    """Appends requests. The acknowledgement waits for Redis and nothing else."""

    def __init__(
        self, redis: Redis, shards: int, backlog_max: int, clock: Clock | None = None
    ) -> None:
        self._shards = shards
        self._backlog_max = backlog_max
        self._clock = clock or SystemClock()
        self._append = redis.register_script(_APPEND)
        self._lanes = [_Lane() for _ in range(shards)]
        self._closed: dict[str, tuple[float, float, str]] = {}
        self._refused: dict[str, int] = {}

    def admit(self, tenant: str) -> None:
        """`OverLimit` while nothing of the tenant could pass; asks nobody."""
        closed = self._closed.get(tenant)
        if closed is None:
            return
        now = time.monotonic()
        if now >= closed[0]:
            del self._closed[tenant]
            return
        self._refused[tenant] = self._refused.get(tenant, 0) + 1
        raise OverLimit(closed[2], retry_after=closed[1] - now)

    async def append(
        self,
        tenant: str,
        batch: Batch,
        *,
        quota: Quota | None = None,
        generation: int | None = None,
    ) -> None:
        """Add a request's samples; on return Redis has them.

        With a `quota` they count against its rates and in the tenant's usage. `generation` is the
        registry's from before the batch's ids were looked up. Raises `OverLimit`, `StaleSeries`,
        and `Unavailable` if the store is down or too far behind.
        """
        shard = keys.shard_of(tenant, self._shards)
        lane = self._lanes[shard]
        records = batch.pack()
        if lane.size + len(records) > _WAITING_BYTES:
            raise Unavailable("too much waits for the store; nothing was kept, try again")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        lane.waiting.append(_Request(tenant, len(batch.id), records, generation, quota, done))
        lane.size += len(records)
        if lane.flushing is None:
            lane.flushing = asyncio.create_task(self._flush(shard, lane))
        code = await done
        if code == _STALE:
            raise StaleSeries(f"series of {tenant!r} were deleted meanwhile")
        if code and quota is not None:
            over = self._over(tenant, quota, abs(code))
            if code > 0:
                raise over

    def _over(self, tenant: str, quota: Quota, code: int) -> OverLimit:
        """Note that the tenant's bucket is empty, and for how long."""
        seconds, of_requests = code / 2000, code % 2
        limit = (
            f"{quota.requests_per_second:g} requests"
            if of_requests
            else f"{quota.samples_per_second:g} samples"
        )
        said = f"the tenant sends more than its {limit} a second; nothing was kept, try again later"
        now = time.monotonic()
        self._closed[tenant] = (now + min(seconds, _CLOSED_SECONDS), now + seconds, said)
        return OverLimit(said, retry_after=seconds)

    async def _flush(self, shard: int, lane: _Lane) -> None:
        """Append what waits, together, until nothing does."""
        await asyncio.sleep(0)  # those that were read from sockets at the same time come along
        try:
            while lane.waiting:
                taken = _take(lane)
                try:
                    codes = await self._send(shard, taken)
                except OffbeatError as error:
                    # What waits would wait as long for the same answer.
                    for request in taken + _take_all(lane):
                        _fail(request, error)
                except Exception as error:
                    for request in taken:
                        _fail(request, error)
                else:
                    for request, code in zip(taken, codes, strict=True):
                        if not request.done.done():  # else the sender has gone
                            request.done.set_result(code)
        finally:
            lane.flushing = None

    async def _send(self, shard: int, requests: Sequence[_Request]) -> Sequence[int]:
        """One code for each request, in their order."""
        groups: dict[tuple[str, int | None, Quota | None], list[int]] = {}
        for place, request in enumerate(requests):
            key = (request.tenant, request.generation, request.quota)
            groups.setdefault(key, []).append(place)
        day = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y%m%d")
        names = [keys.log(shard)]
        arguments: list[bytes | str | int | float] = [
            self._backlog_max,
            BURST_SECONDS,
            _USAGE_SECONDS,
        ]
        refused: dict[str, int] = {}
        for (tenant, generation, quota), places in groups.items():
            names += (
                keys.rates(shard, tenant),
                keys.usage(shard, tenant, day),
                keys.generation(shard, tenant),
            )
            if quota is not None and tenant in self._refused:
                refused[tenant] = self._refused.pop(tenant)
            arguments += (
                tenant,
                "" if generation is None else generation,
                quota.samples_per_second if quota else 0,
                quota.requests_per_second if quota else 0,
                refused.get(tenant, 0) if quota else 0,
                len(places),
            )
            for place in places:
                arguments += (requests[place].samples, requests[place].records)
        try:
            async with store_errors(), asyncio.timeout(_TIMEOUT_SECONDS):
                answer = await self._append(keys=names, args=arguments)
        except OffbeatError:
            for tenant, count in refused.items():
                self._refused[tenant] = self._refused.get(tenant, 0) + count
            raise
        if isinstance(answer, int):
            raise Unavailable(
                f"{answer} requests wait to be stored, more than the limit of "
                f"{self._backlog_max}; nothing was kept, try again",
                retry_after=5,
            )
        codes = [0] * len(requests)
        order = (place for places in groups.values() for place in places)
        for place, code in zip(order, answer, strict=True):
            codes[place] = int(code)
        return codes


def _take(lane: _Lane) -> list[_Request]:
    """The oldest waiting requests, as many as one script takes."""
    size, count = 0, 0
    for request in lane.waiting:
        if count and size + len(request.records) > _FLUSH_BYTES:
            break
        size += len(request.records)
        count += 1
    taken, lane.waiting = lane.waiting[:count], lane.waiting[count:]
    lane.size -= size
    return taken


def _take_all(lane: _Lane) -> list[_Request]:
    taken, lane.waiting, lane.size = lane.waiting, [], 0
    return taken


def _fail(request: _Request, error: Exception) -> None:
    if not request.done.done():
        request.done.set_exception(error)
