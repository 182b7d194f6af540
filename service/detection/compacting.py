"""Keeps segments few and full: merges small ones and those that are mostly garbage, deletes old.

What is in use is copied to new segments, which SQL is told of in one transaction; nothing is
deleted that SQL has spoken of in the last minutes. So readers in flight finish, trainings store
what they are about to tell SQL, and whenever a scheduler ends, no model that is in use is lost: it
leaves segments that nothing refers to, and the next one deletes them. Two at once do no harm.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Sequence

import structlog

from models.artifact import ArtifactError
from service import telemetry
from service.detection.packs import SEGMENT_BYTES, Packed, Packs, Place, bound_to
from service.detection.records import ModelRecords, Placed
from service.domain.clock import Clock

log = structlog.get_logger(__name__)

#: Real seconds for which a segment stays that nothing refers to any longer, or not yet.
GRACE_SECONDS = 600.0
#: Segments below half of the size that they may have, of one shard, beyond which they are merged.
SMALL_MAX = 8
#: Part of a segment that is garbage from which it is written anew.
GARBAGE = 0.5


class Compactor:
    """Looks after the segments. For the scheduler that leads; `run` again and again."""

    def __init__(
        self, packs: Packs, records: ModelRecords, clock: Clock, grace: float = GRACE_SECONDS
    ) -> None:
        self._packs, self._records, self._clock, self._grace = packs, records, clock, grace
        self._unused: dict[str, float] = {}

    async def run(self) -> None:
        """Merge what should be, then delete what nothing has referred to for the time of grace."""
        segments = await asyncio.to_thread(self._packs.segments)
        for shard in sorted({name.split("/")[0] for name in segments}):
            own = [name for name in segments if name.startswith(f"{shard}/")]
            await self._compact(int(shard), own)
        await self._sweep(segments)
        telemetry.MODEL_SEGMENTS.set(len(segments))

    async def _compact(self, shard: int, segments: Sequence[str]) -> None:
        used: dict[str, list[Placed]] = defaultdict(list)
        for placed in await self._records.placed(f"{shard:05d}/"):
            used[placed.place.segment].append(placed)
        there = [name for name in segments if name in used]
        sizes = await asyncio.to_thread(self._sizes, there)
        gone = await self._deleted(there)
        small: list[str] = []
        chosen: list[str] = []
        for name in there:
            live = sum(placed.place.length for placed in used[name])
            if name in gone or live < (1 - GARBAGE) * sizes.get(name, 0):
                chosen.append(name)
            elif live < SEGMENT_BYTES / 2:
                small.append(name)
        if len(small) > SMALL_MAX:
            chosen += small
        batch: list[Placed] = []
        size = 0
        for placed in (placed for name in sorted(chosen) for placed in used[name]):
            batch.append(placed)
            size += placed.place.length
            if size >= SEGMENT_BYTES:  # no more than that in memory
                await self._move(shard, batch)
                batch, size = [], 0
        await self._move(shard, batch)

    async def _deleted(self, segments: Sequence[str]) -> set[str]:
        """Segments that hold models of series or tenants that are gone."""
        held: dict[tuple[str, str], set[str]] = defaultdict(set)
        for name in segments:
            try:
                entries = await asyncio.to_thread(self._packs.index, name)
            except (ArtifactError, FileNotFoundError) as error:
                log.error("segment refused", segment=name, reason=str(error))
                telemetry.MODELS_REFUSED.inc()
                continue
            for entry in entries:
                tenant, series, _ = entry.bound_to.split("/")
                held[tenant, series].add(name)
        tenants = {tenant for tenant, _ in held}
        known = {(tenant, s) for tenant in tenants for s in await self._records.ids(tenant)}
        return {name for who, names in held.items() if who not in known for name in names}

    def _sizes(self, segments: Sequence[str]) -> dict[str, int]:
        found = {}
        for name in segments:
            try:
                found[name] = self._packs.files.size(name)
            except FileNotFoundError:
                continue  # deleted a moment ago
        return found

    async def _move(self, shard: int, batch: Sequence[Placed]) -> None:
        if not batch:
            return
        now = self._clock.now()
        moved, places = await asyncio.to_thread(self._copy, shard, round(now * 1000), batch)
        await self._records.move(list(zip(moved, places, strict=True)), now)
        log.info("models moved", models=len(moved), segments=len({p.segment for p in places}))

    def _copy(
        self, shard: int, now_ms: int, batch: Sequence[Placed]
    ) -> tuple[list[Placed], list[Place]]:
        """Write the models that can be read to new segments."""
        moved, packed = [], []
        for placed in batch:
            tenant, series, place = placed
            try:
                raw = self._packs.read(place)
                self._packs.check(raw, bound_to(tenant, series, place.version))
            except (FileNotFoundError, ArtifactError):
                continue  # who reads it refuses it; until then it stays where it is
            moved.append(placed)
            packed.append(Packed(tenant, series, place.version, raw))
        return moved, self._packs.write(shard, now_ms, packed)

    async def _sweep(self, segments: Collection[str]) -> None:
        used = await self._records.segments()
        now = time.monotonic()
        unused = [name for name in segments if name not in used]
        self._unused = {name: self._unused.get(name, now) for name in unused}
        for name, since in self._unused.items():
            if now - since >= self._grace:
                await asyncio.to_thread(self._packs.delete, name)
                log.info("segment deleted", segment=name)
