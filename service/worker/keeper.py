"""From the log to chunks and head: what keeps a shard's samples."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from service import telemetry
from service.domain.errors import LostLease, OffbeatError
from service.storage.chunks import by_tenant
from service.storage.columns import Groups
from service.storage.log import Entry
from service.wiring import Wiring
from service.worker.shards import Shards

log = structlog.get_logger(__name__)

#: Entries of one shard that are read together, and about so many samples.
_ENTRIES_AT_ONCE = 500
_SAMPLES_AT_ONCE = 200_000
#: Real time that a read waits for the first entry; the second where others wait to be applied.
_BLOCK_SECONDS = 0.2
_LAST_SECONDS = 0.05
#: While more comes, what was read waits for it to go to the chunks together: to append many samples
#: to a chunk costs little more than to append one, and requests wait while the store appends to
#: thousands of chunks. So many times as long as that took the last time, within these bounds: then
#: one request in two hundred meets it, and no tenant's p99 shows what another's series cost. Or so
#: many samples. All is safe in the log meanwhile.
_REST = 200
_REST_SECONDS = (0.25, 3.0)
_APPLY_SAMPLES = 500_000
#: Where so many samples came at once, the next read waits so long for more.
_MANY_SAMPLES = 2000
_GATHER_SECONDS = 0.2
#: Between reads where few come, so that a stream of small requests is not followed one by one.
_BREATH_SECONDS = 0.02


@dataclass(slots=True)
class _Unapplied:
    """What the head of a shard shows and its chunks do not contain yet.

    `read` is the log's id up to which the head goes, `more` whether the last read brought
    anything. What comes before `rested` waits; at most `most` entries do.
    """

    tenure: int
    read: bytes
    most: int
    entries: list[Entry] = field(default_factory=list)
    samples: int = 0
    more: bool = False
    rested: float = 0.0

    def add(self, entries: list[Entry], samples: int) -> None:
        self.entries += entries
        self.samples += samples
        self.more = True
        self.read = entries[-1].id

    @property
    def due_in(self) -> float:
        """Seconds until they are to be applied: none for what comes after a pause."""
        if not self.more or self.samples >= _APPLY_SAMPLES or len(self.entries) >= self.most:
            return 0.0  # no more come at present, or enough came
        return max(0.0, self.rested - time.monotonic())


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
        self._unapplied: dict[int, _Unapplied] = {}
        self._at_once: dict[int, int] = {}

    async def follow(self, shard: int) -> None:
        """Take what the shard's log holds next; returns after a moment if there is nothing."""
        if shard not in self._shards.positions:
            await self._shards.changed(0.5)
            return
        unapplied = self._of_tenure(shard)
        begun, pause = time.monotonic(), 0.0
        try:
            if unapplied.samples < _APPLY_SAMPLES:
                pause = await self._read(shard, unapplied)
            if unapplied.entries and not unapplied.due_in:
                await self._apply(shard, unapplied)
            if pause:
                await asyncio.sleep(begun + pause - time.monotonic())
        except LostLease as error:
            log.warning("shard lost", shard=shard, reason=str(error))
            self._shards.drop(shard)

    async def finish(self) -> None:
        """Bring the chunks to where the heads are; what fails is in the log for the next owner."""
        waiting = [
            self._apply(shard, unapplied)
            for shard, unapplied in self._unapplied.items()
            if unapplied.entries and self._shards.tenures.get(shard) == unapplied.tenure
        ]
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(error, OffbeatError):
                log.warning("left in the log", reason=str(error))
            elif isinstance(error, BaseException):
                raise error

    def _of_tenure(self, shard: int) -> _Unapplied:
        """What is unapplied since the shard was taken the last time; nothing of times before."""
        tenure = self._shards.tenures[shard]
        found = self._unapplied.get(shard)
        if found is None or found.tenure != tenure:
            # Far from what makes the API refuse requests because the log is too long.
            most = self._w.settings.log_backlog_max // 4
            found = _Unapplied(tenure, self._shards.positions[shard], most)
            self._unapplied[shard] = found
        return found

    async def _read(self, shard: int, unapplied: _Unapplied) -> float:
        """Read on, and show it in the head; seconds from this read to the next."""
        count = self._at_once.setdefault(shard, 8)  # until it is known how large entries are
        wait = min(_LAST_SECONDS, unapplied.due_in) if unapplied.entries else _BLOCK_SECONDS
        block_ms = round(wait * 1000) or None
        entries = await self._w.log.read(shard, unapplied.read, count=count, block_ms=block_ms)
        self._still(shard, unapplied)
        samples = sum(len(entry.batch.id) for entry in entries)
        if entries:
            await self._show(shard, unapplied, entries)
            unapplied.add(entries, samples)
            fitting = _SAMPLES_AT_ONCE * len(entries) // max(1, samples)
            self._at_once[shard] = max(1, min(_ENTRIES_AT_ONCE, fitting))
        else:
            unapplied.more = False
        behind = len(entries) == count
        backlog = (await self._w.log.backlog([shard]))[shard] if behind else 0
        telemetry.LOG_BACKLOG.labels(shard=str(shard)).set(backlog)
        if behind:
            return 0.0
        self._shards.caught_up.add(shard)
        return _GATHER_SECONDS if samples > _MANY_SAMPLES else _BREATH_SECONDS if entries else 0.0

    async def _show(self, shard: int, unapplied: _Unapplied, entries: list[Entry]) -> None:
        """Bring the head to where the log is after these entries."""
        head = self._shards.head
        for tombstone, group in groupby(entries, lambda entry: entry.erased is not None):
            if tombstone:
                for entry in group:
                    self._hide(entry)
                continue
            for tenant, batch in by_tenant(group).items():
                samples = Groups.of(batch, self._w.bucket_ms)
                if unknown := head.unknown(tenant, samples.ids):
                    found = await self._w.registry.lookup(tenant, unknown)
                    self._still(shard, unapplied)
                    head.add_series(tenant, found)
                    self._shards.seen(shard, tenant)
                head.extend(tenant, samples)
                self._shown(tenant, samples.ids)

    def _hide(self, tombstone: Entry) -> None:
        """Take from the head what a tombstone names."""
        if tombstone.erased is not None and len(tombstone.erased):
            ids = tombstone.erased.tolist()
            self._shards.head.remove(tombstone.tenant, ids)
            self._erased(tombstone.tenant, ids)
        else:
            self._shards.forget(tombstone.tenant)

    async def _apply(self, shard: int, unapplied: _Unapplied) -> None:
        """Bring the chunks to where the head is."""
        epoch = self._shards.epochs[shard]
        entries, begun = unapplied.entries, time.monotonic()
        for tombstone, group in groupby(entries, lambda entry: entry.erased is not None):
            together = list(group)
            if tombstone:
                for entry in together:
                    now_ms = round(self._w.clock.now() * 1000)
                    await self._w.eraser.apply(shard, epoch, entry, now_ms)
                    self._passed(shard, unapplied, 1)
            else:
                position = self._shards.positions[shard]
                await self._w.chunk_writer.apply(shard, epoch, together, position)
                self._passed(shard, unapplied, len(together))
        ended = time.monotonic()
        least, most = _REST_SECONDS
        unapplied.rested = ended + min(most, max(least, _REST * (ended - begun)))

    def _passed(self, shard: int, unapplied: _Unapplied, count: int) -> None:
        """The first entries are applied."""
        self._still(shard, unapplied)
        applied = unapplied.entries[:count]
        unapplied.entries = unapplied.entries[count:]
        samples = sum(len(entry.batch.id) for entry in applied)
        unapplied.samples -= samples
        telemetry.SAMPLES_STORED.inc(samples)
        self._shards.positions[shard] = applied[-1].id

    def _still(self, shard: int, unapplied: _Unapplied) -> None:
        """`LostLease` if the shard was given up while we waited: its head and position are gone."""
        if self._shards.tenures.get(shard) != unapplied.tenure:
            raise LostLease(f"shard {shard} was given up meanwhile")
