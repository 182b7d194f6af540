"""Values of chunks, of those that are known only the end that is needed.

What a process knows of a tenant's chunks (`storage.order`) it learned by reading them. A chunk that
is not sealed only grows, unless its series is deleted; then another may grow in its place. So what
was learned holds for one generation of the tenant (`storage.deletion`), and of a new one nothing is
learned until the worker has applied the log as far as it went when the generation was first seen:
until then it may have something to erase.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from redis.asyncio import Redis

from service.storage import keys
from service.storage.columns import POINT, Ids
from service.storage.order import Order
from service.storage.redis import ask, store_errors

# KEYS: generation, position, then chunks.  ARGV: where to begin in each (bytes).  Answers the
# generation, the position and each chunk from there on; nothing of one that has sealed blocks,
# which its eighth byte says.
_TAILS = """
local block = string.char(128)
local found = {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}
for i = 3, #KEYS do
  if redis.call('GETRANGE', KEYS[i], 7, 7) == block then
    found[i] = ''
  else
    found[i] = redis.call('GETRANGE', KEYS[i], ARGV[i - 2], -1)
  end
end
return found
"""

# KEYS: log.  Answers the id of its newest entry ever; nothing if there was none.
_END = """
local about = redis.pcall('XINFO', 'STREAM', KEYS[1])
for i = 1, #about, 2 do
  if about[i] == 'last-generated-id' then return about[i + 1] end
end
return false
"""

#: Chunks of which something is known, 40 bytes each; the buckets that were not asked for go first.
_KNOWN_MAX = 500_000
#: Keys asked for at once; a reply of more would hold the store up for others.
_KEYS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Values:
    """Values of chunks: all of `buckets` of the first series, then of the next.

    Of each series' first bucket they begin with record `first` (series,). `seen` are the tenant's
    generation and the log's position at each of the reads. All samples since `start_ms` are there.
    `before` is what was known, of `generation`.
    """

    tenant: str
    ids: Ids
    buckets: range
    start_ms: int
    raw: list[bytes | None]
    first: Ids
    before: Order
    generation: "_Generation | None"
    seen: list[tuple[bytes | None, bytes | None]]

    def order(self, bucket_ms: int) -> Order:
        """What is known now of the chunks of the first bucket (series,)."""
        values = self.raw[:: len(self.buckets)]
        return self.before.after(values, self.first, self.start_ms, bucket_ms)


class Ends:
    """Reads values of chunks, and remembers what it learns of their order."""

    def __init__(self, redis: Redis, shards: int) -> None:
        self._redis = redis
        self._shards = shards
        self._tails = redis.register_script(_TAILS)
        self._end = redis.register_script(_END)
        self._generations: dict[str, _Generation] = {}
        self._known: OrderedDict[tuple[str, int], _Bucket] = OrderedDict()
        self._size = 0

    async def read(
        self, tenant: str, ids: Sequence[int], buckets: range, names: Sequence[str], start_ms: int
    ) -> Values:
        """The chunks `names`: all `buckets` of each series in turn.

        `start_ms` lies in the first bucket; of samples before it some may be left out.
        """
        numbers, width = np.array(ids, np.int64), len(buckets)
        before = self._of(tenant, buckets[0], numbers)
        first = before.needless(start_ms)
        generation = self._generations.get(tenant)
        raw: list[bytes | None] = [None] * len(names)
        found = Values(tenant, numbers, buckets, start_ms, raw, first, before, generation, [])
        shard = keys.shard_of(tenant, self._shards)
        stamps = (keys.generation(shard, tenant), keys.position(shard))
        rest = np.ones(len(names), np.bool_)
        some = np.flatnonzero(first)
        for begin in range(0, len(some), _KEYS_AT_ONCE):
            part = some[begin : begin + _KEYS_AT_ONCE]
            asked = [*stamps, *(names[i] for i in (part * width).tolist())]
            async with store_errors():
                number, position, *tails = await self._tails(
                    keys=asked, args=(first[part] * POINT.itemsize).tolist()
                )
            found.seen.append((number, position))
            good = before.rows(part).reached(tails, first[part], start_ms)
            good &= generation is not None and number == generation.number
            first[part[~good]] = 0
            rest[part[good] * width] = False
            for i in np.flatnonzero(good).tolist():
                raw[int(part[i]) * width] = tails[i]
        whole = np.flatnonzero(rest).tolist()
        for begin in range(0, len(whole), _KEYS_AT_ONCE):
            places = whole[begin : begin + _KEYS_AT_ONCE]
            number, position, *values = await ask(
                self._redis, "MGET", *stamps, *(names[i] for i in places)
            )
            found.seen.append((number, position))
            for place, value in zip(places, values, strict=True):
                raw[place] = value
        return found

    async def learn(self, values: Values, order: Order) -> None:
        """Remember what is known of the first bucket now that the values were read."""
        tenant, numbers = values.tenant, {number for number, _ in values.seen}
        if len(numbers) != 1:
            return
        (number,) = numbers
        generation = self._generations.get(tenant)
        if generation is None or generation.number != number:
            end = await self._log_end(keys.shard_of(tenant, self._shards))
            self._forget(tenant)
            generation = self._generations[tenant] = _Generation(number, end)
        if values.generation is not generation and values.before.length.any():
            return  # what was known is of another, and `order` goes on from it
        if all(_place(position) >= generation.border for _, position in values.seen):
            self._take((tenant, values.buckets[0]), values.ids, order)

    async def _log_end(self, shard: int) -> tuple[int, ...]:
        async with store_errors():
            return _place(await self._end(keys=[keys.log(shard)]))

    def _of(self, tenant: str, bucket: int, ids: Ids) -> Order:
        known = self._known.get((tenant, bucket))
        if known is None:
            return Order.unknown(len(ids))
        self._known.move_to_end((tenant, bucket))
        return known.of(ids)

    def _take(self, key: tuple[str, int], ids: Ids, order: Order) -> None:
        some = np.flatnonzero(order.length)
        known = self._known.pop(key, None) or _Bucket(ids[:0], Order.unknown(0))
        self._size -= len(known.ids)
        known = self._known[key] = known.with_these(ids[some], order.rows(some))
        self._size += len(known.ids)
        while self._size > _KNOWN_MAX:
            _, gone = self._known.popitem(last=False)
            self._size -= len(gone.ids)

    def _forget(self, tenant: str) -> None:
        for key in [key for key in self._known if key[0] == tenant]:
            self._size -= len(self._known.pop(key).ids)


@dataclass(frozen=True, slots=True)
class _Generation:
    """A tenant between two deletions; the log ended at `border` when it was first seen."""

    number: bytes | None
    border: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What is known of the chunks of one time bucket, by ascending id of their series (n,)."""

    ids: Ids
    order: Order

    def of(self, ids: Ids) -> Order:
        """The same of the chunks of these series (k,)."""
        if not len(self.ids):
            return Order.unknown(len(ids))
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        same = self.ids[place] == ids
        return Order(*(np.where(same, known[place], 0) for known in self.order))

    def with_these(self, ids: Ids, order: Order) -> "_Bucket":
        """With what was learned since, which counts where both know."""
        # Of equal ids the first is taken.
        every, first = np.unique(np.concatenate([ids, self.ids]), return_index=True)
        both = zip(order, self.order, strict=True)
        return _Bucket(every, Order(*(np.concatenate(pair)[first] for pair in both)))


def _place(entry: bytes | None) -> tuple[int, ...]:
    """A place in the log, to be compared; none is before all."""
    return tuple(map(int, entry.split(b"-"))) if entry else ()
