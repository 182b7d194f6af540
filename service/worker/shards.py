"""The shards that a worker owns, with their newest samples in memory."""

import asyncio
import contextlib
import gc
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from service.domain.errors import OffbeatError, Unavailable
from service.domain.series import FORECAST, FORECAST_LOWER, FORECAST_UPPER, Series
from service.storage import keys
from service.storage.head import Head
from service.storage.lease import Leases
from service.wiring import Wiring

log = structlog.get_logger(__name__)

_DAY_MS = 86_400_000
_SERIES_AT_ONCE = 100
_FORECASTS = (FORECAST, FORECAST_LOWER, FORECAST_UPPER)
#: Samples that tell what models said of late.
_RECALLED = 64


class Shards:
    """Holds leases; reads a shard's newest samples when it is taken, forgets them when it is lost.

    `restored(tenant, ids)` is called when a tenant's samples are in the head, `dropped(tenant)`
    when they are gone from it.
    """

    def __init__(
        self,
        wiring: Wiring,
        restored: Callable[[str, Iterable[int]], None],
        dropped: Callable[[str], None],
    ) -> None:
        self._w = wiring
        self._restored, self._dropped = restored, dropped
        name = f"{socket.gethostname()}-{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._leases = Leases(wiring.redis, name, wiring.settings.worker_lease_seconds)
        self.head = Head(wiring.settings.metrics_buffer_size)
        self.epochs: dict[int, int] = {}
        self.positions: dict[int, bytes] = {}
        #: Of each owned shard, a number of its own for each time that it was taken.
        self.tenures: dict[int, int] = {}
        self._last_tenure = 0
        # Shards whose log was read to its end since they were taken: a head that is behind
        # would make silence of what only waits.
        self.caught_up: set[int] = set()
        self._tenants: dict[int, set[str]] = {}
        self._held_until: dict[int, float] = {}
        self._taking: dict[int, asyncio.Task[None]] = {}
        self._taken = asyncio.Event()
        self._workers = 1

    @property
    def name(self) -> str:
        """What this worker is called."""
        return self._leases.owner

    @property
    def renewal(self) -> float:
        """Seconds between two calls of `hold`."""
        return self._leases.seconds / 4

    def shard_of(self, tenant: str) -> int:
        """The shard of a tenant."""
        return keys.shard_of(tenant, self._w.settings.log_shards)

    def owns(self, tenant: str) -> bool:
        """Whether the tenant is ours, and will be for a moment."""
        shard = self.shard_of(tenant)
        return shard in self.epochs and self._held_until.get(shard, 0) > time.monotonic()

    def ready(self) -> list[str]:
        """The tenants that are ours and whose head is not behind the log."""
        return [
            tenant
            for tenant in self.head.tenants()
            if self.owns(tenant) and self.shard_of(tenant) in self.caught_up
        ]

    async def hold(self) -> None:
        """Renew the own shards, take free ones up to a fair share, give back what is over it.

        In a cluster a node that does not answer costs only the shards that it holds: what failed
        is raised when the others are done.
        """
        failed: list[OffbeatError] = []
        try:
            self._workers = await self._leases.workers()
        except Unavailable as error:
            failed.append(error)
        share = -(-self._w.settings.log_shards // max(1, self._workers))
        ours = sorted(self.epochs.keys() | self._taking.keys())
        for shard in ours[share:]:
            self.drop(shard)
        failed += await self._each(self._leases.release, ours[share:])
        failed += await self._each(self._acquire, ours[:share])
        free = [shard for shard in range(self._w.settings.log_shards) if shard not in ours]
        while free and (room := share - len(self.epochs.keys() | self._taking.keys())) > 0:
            failed += await self._each(self._acquire, free[:room])
            free = free[room:]
        if failed:
            raise failed[0]

    @staticmethod
    async def _each(
        step: Callable[[int], Awaitable[None]], shards: Iterable[int]
    ) -> list[OffbeatError]:
        """Do something with shards, all at a time; what failed."""
        answers = await asyncio.gather(*map(step, shards), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, OffbeatError):
                raise answer
        return [answer for answer in answers if isinstance(answer, OffbeatError)]

    async def _acquire(self, shard: int) -> None:
        """Take or renew one shard."""
        begun = time.monotonic()
        epoch = await self._leases.acquire(shard)
        held = shard in self.epochs or shard in self._taking
        if not epoch and held:
            log.warning("shard lost", shard=shard)
            self.drop(shard)
        elif epoch:
            if shard not in self._taking and self.epochs.get(shard) != epoch:
                self.drop(shard)
                # Reading takes a while, and the other shards' leases do not wait.
                self._taking[shard] = asyncio.create_task(self._take(shard, epoch))
            self._held_until[shard] = begun + self._leases.seconds

    async def _take(self, shard: int, epoch: int) -> None:
        """Own a shard: read its newest samples into the head, then follow its log."""
        # hundred thousands of series stay: to look through them for cycles would hold all up
        gc.disable()
        try:
            position = await self._w.log.position(shard)
            tenants = await self._w.registry.tenants(shard)
            restored = {tenant: await self._restore(tenant) for tenant in tenants}
        except OffbeatError as error:
            log.warning("shard not taken", shard=shard, reason=str(error))
        except Exception:
            log.exception("shard not taken", shard=shard)
        else:
            self._tenants[shard] = set(tenants)
            self.positions[shard] = position
            self.epochs[shard] = epoch
            self._last_tenure += 1
            self.tenures[shard] = self._last_tenure
            self._taken.set()
            self._taken = asyncio.Event()
            for tenant, ids in restored.items():
                self._restored(tenant, ids)
            log.info("shard taken", shard=shard, epoch=epoch, tenants=len(tenants))
        finally:
            self._taking.pop(shard, None)
            gc.freeze()
            gc.enable()

    async def _restore(self, tenant: str) -> Iterable[int]:
        series = await self._w.registry.all(tenant)
        self.head.drop(tenant)
        self.head.add_series(tenant, series)
        # in a thread, as there may be a hundred thousand, and other shards' leases do not wait
        derived = await asyncio.to_thread(lambda: [s for s in series.values() if s.is_derived])
        own = list(series.keys() - {s.id for s in derived})
        buckets = self._w.retention_ms // self._w.bucket_ms + 1
        reach = 2
        await self._recall(tenant, derived)
        while own and reach < buckets:
            own = await self._load(tenant, own, reach, self._w.settings.metrics_buffer_size)
            reach *= 4
        await self._load(tenant, own, buckets, enough=1)
        return series.keys()

    async def _recall(self, tenant: str, derived: Sequence[Series]) -> None:
        """Read into the head what models said of late: up to when, and what of it goes on."""
        now_ms = round(self._w.clock.now() * 1000)
        newest, last = now_ms // self._w.bucket_ms, (now_ms + _DAY_MS) // self._w.bucket_ms
        for first in range(0, len(derived), _SERIES_AT_ONCE):
            some = derived[first : first + _SERIES_AT_ONCE]
            there = {
                s.id: range(newest, (last if s.name.endswith(_FORECASTS) else newest) + 1)
                for s in some
            }
            found = await self._w.chunks.read_tails(tenant, there, self.head.derived_size)
            few = [i for i, columns in found.items() if len(columns.t) < _RECALLED]
            before: dict[int, Sequence[int]] = dict.fromkeys(few, (newest - 1,))
            for part in (await self._w.chunks.read_tails(tenant, before, _RECALLED), found):
                for i, columns in part.items():
                    self.head.put(tenant, i, columns)

    async def _load(self, tenant: str, ids: list[int], buckets: int, enough: int) -> list[int]:
        """Read the newest buckets of series into the head; those with less than `enough`."""
        now_ms = round(self._w.clock.now() * 1000)
        start, ahead = now_ms - buckets * self._w.bucket_ms, now_ms + _DAY_MS
        short = []
        for first in range(0, len(ids), _SERIES_AT_ONCE):
            part = ids[first : first + _SERIES_AT_ONCE]
            found = await self._w.chunks.read(tenant, part, start, ahead)
            for i, columns in found.items():
                if len(columns.t) < enough:
                    short.append(i)
                else:
                    self.head.put(tenant, i, columns)
        return short

    async def changed(self, seconds: float) -> None:
        """Return when a shard was taken, or after so many."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._taken.wait(), seconds)

    def seen(self, shard: int, tenant: str) -> None:
        """A tenant has samples in a shard of ours."""
        self._tenants[shard].add(tenant)

    def drop(self, shard: int) -> None:
        """Another worker owns the shard, or will."""
        if taking := self._taking.pop(shard, None):
            taking.cancel()
        self.epochs.pop(shard, None)
        self.positions.pop(shard, None)
        self.tenures.pop(shard, None)
        self._held_until.pop(shard, None)
        self.caught_up.discard(shard)
        self._tenants.pop(shard, None)
        for tenant in self.head.tenants():
            if self.shard_of(tenant) == shard:
                self.forget(tenant)

    def forget(self, tenant: str) -> None:
        """Drop one tenant's samples."""
        self.head.drop(tenant)
        self._dropped(tenant)

    async def give_back(self) -> None:
        """Release everything, so that others need not wait for the leases to expire."""
        ours = sorted(self.epochs.keys() | self._taking.keys())
        for shard in ours:
            self.drop(shard)
        await self._each(self._leases.release, ours)
        with contextlib.suppress(OffbeatError):
            await self._leases.sign_out()
