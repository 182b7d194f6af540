"""From the log to chunks and head: what keeps a shard's samples."""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import groupby

import structlog

from service import telemetry
from service.domain.errors import LostLease, Unavailable
from service.storage.log import Entry
from service.wiring import Wiring
from service.worker.shards import Shards

log = structlog.get_logger(__name__)

#: Entries of one shard, and about so many samples, that are applied together.
_ENTRIES_AT_ONCE = 500
_SAMPLES_AT_ONCE = 200_000
#: Real time that a read waits for the first entry.
_BLOCK_MS = 200
#: Where so many samples came at once, more will: waiting a moment for them makes each append to a
#: chunk carry several, which costs little more than one.
_MANY_SAMPLES = 2000
_GATHER_SECONDS = 0.2


class Keeper:
    """Follows the logs of the owned shards.

    `shown(tenant, ids)` is called when samples of these series are in the head,
    `erased(tenant, ids)` when they are gone from it.
    """

    def __init__(
        self,
        wiring: Wiring,
        shards: Shards,
        shown: Callable[[str, Iterable[int]], None],
        erased: Callable[[str, Iterable[int]], None],
    ) -> None:
        self._w = wiring
        self._shards = shards
        self._shown, self._erased = shown, erased
        self._at_once: dict[int, int] = {}

    async def follow(self, shard: int) -> None:
        """Apply what the shard's log holds next; returns after a moment if there is nothing."""
        position = self._shards.positions.get(shard)
        if position is None:
            await self._shards.changed(0.5)
            return
        count = self._at_once.setdefault(shard, 8)  # until it is known how large entries are
        begun = time.monotonic()
        entries = await self._w.log.read(shard, position, count=count, block_ms=_BLOCK_MS)
        if self._shards.positions.get(shard) != position:
            return  # given back while we waited
        if entries and not await self._apply(shard, position, entries):
            return
        if len(entries) < count:
            self._shards.caught_up.add(shard)
            if sum(len(entry.batch.id) for entry in entries) > _MANY_SAMPLES:
                await asyncio.sleep(begun + _GATHER_SECONDS - time.monotonic())

    async def _apply(self, shard: int, after: bytes, entries: list[Entry]) -> bool:
        """Apply entries that follow a position, in their order; False if the shard is lost."""
        epoch = self._shards.epochs[shard]
        try:
            for tombstone, group in groupby(entries, lambda entry: entry.erased is not None):
                if tombstone:
                    for entry in group:
                        await self._erase(shard, epoch, entry)
                        after = entry.id
                else:
                    together = list(group)
                    await self._keep(shard, epoch, after, together)
                    after = together[-1].id
        except LostLease as error:
            log.warning("shard lost", shard=shard, reason=str(error))
            self._shards.drop(shard)
            return False
        backlog = 0
        if len(entries) == self._at_once[shard]:
            backlog = (await self._w.log.backlog([shard]))[shard]
        telemetry.LOG_BACKLOG.labels(shard=str(shard)).set(backlog)
        samples = sum(len(entry.batch.id) for entry in entries)
        fitting = _SAMPLES_AT_ONCE * len(entries) // max(1, samples)
        self._at_once[shard] = max(1, min(_ENTRIES_AT_ONCE, fitting))
        return True

    async def _keep(self, shard: int, epoch: int, after: bytes, entries: list[Entry]) -> None:
        """Samples to chunks, then to the head."""
        stored = await self._w.chunk_writer.apply(shard, epoch, entries, after)
        self._still(shard, epoch)
        self._shards.positions[shard] = entries[-1].id
        head = self._shards.head
        for tenant, samples in stored.items():
            telemetry.SAMPLES_STORED.inc(len(samples.t))
            if unknown := head.unknown(tenant, samples.ids):
                try:
                    found = await self._w.registry.lookup(tenant, unknown)
                except Unavailable as error:  # they are applied, and will not come again
                    raise LostLease(f"{error}; shard {shard} is read anew") from error
                self._still(shard, epoch)
                head.add_series(tenant, found)
                self._shards.seen(shard, tenant)
            head.extend(tenant, samples)
            self._shown(tenant, samples.ids)

    async def _erase(self, shard: int, epoch: int, tombstone: Entry) -> None:
        """What a tombstone names, from chunks and head."""
        now_ms = round(self._w.clock.now() * 1000)
        await self._w.eraser.apply(shard, epoch, tombstone, now_ms)
        self._still(shard, epoch)
        self._shards.positions[shard] = tombstone.id
        if tombstone.erased is not None and len(tombstone.erased):
            self._shards.head.remove(tombstone.tenant, tombstone.erased.tolist())
            self._erased(tombstone.tenant, tombstone.erased.tolist())
        else:
            self._shards.forget(tombstone.tenant)

    def _still(self, shard: int, epoch: int) -> None:
        """`LostLease` if the shard was given up while we waited: its head and position are gone."""
        if self._shards.epochs.get(shard) != epoch:
            raise LostLease(f"shard {shard} was given up meanwhile")
