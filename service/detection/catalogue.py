"""Tells a process which version of each series' model is in use, and where it lies: asks SQL.

One query reads a tenant's thousands; after that only what changed is asked for.
"""

import asyncio
import time
from collections.abc import Collection

from service.detection.records import ModelRecords
from service.detection.registry import ModelRegistry
from service.domain.clock import Clock
from service.domain.errors import Unavailable

#: Real seconds between two looks at SQL for new models of a tenant, if no wake-up tells of one.
_LOOK_SECONDS = 10.0
#: A transaction may end so long after the moment that it writes down, by another one's clock.
_LATE_SECONDS = 60.0


class Catalogue:
    """Keeps the places of a registry's models up to date with SQL."""

    def __init__(self, records: ModelRecords, models: ModelRegistry, clock: Clock) -> None:
        self._records, self._models, self._clock = records, models, clock
        self._until: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        self._lock = asyncio.Lock()

    def stale(self, tenant: str) -> None:
        """Something changed: look when next asked."""
        self._looked.pop(tenant, None)

    def forget(self, tenant: str) -> None:
        """The tenant is judged elsewhere now, or gone."""
        self._looked.pop(tenant, None)
        self._until.pop(tenant, None)
        self._models.forget(tenant)

    async def fresh(self, tenant: str) -> list[int]:
        """Know the tenant's models as of some seconds ago; the series that use another version.

        While SQL is away what was known holds; Unavailable if nothing was.
        """
        async with self._lock:
            await self.settle()
            now = time.monotonic()
            if now - self._looked.get(tenant, float("-inf")) < _LOOK_SECONDS:
                return []
            until = self._until.get(tenant)
            try:
                since = None if not until else until - _LATE_SECONDS
                found = await self._records.places(tenant, since)
            except Unavailable:
                if until is None:
                    raise
                return []
            self._looked[tenant] = now
            self._until[tenant] = max(found.until, until or 0.0)
            return self._models.adopt(tenant, found.found)

    async def look_up(self, tenant: str, series_hex: str) -> None:
        """Know the model of one series as it is now."""
        found = await self._records.places(tenant, series_id=series_hex)
        self._models.adopt(tenant, {int(series_hex, 16): [], **found.found})

    async def settle(self) -> None:
        """Write down what was refused, and look up again what was not where it should lie."""
        refusals = self._models.refusals
        while refusals:
            one = refusals.popleft()
            series = int(one.series, 16)
            try:
                if one.lost:
                    await self.look_up(one.tenant, one.series)
                    if self._models.version(one.tenant, series) == one.place.version:
                        continue  # it was moved
                await self._records.refuse([one], self._clock.now())
            except Unavailable:
                refusals.appendleft(one)
                return

    def gone(self, tenant: str, ids: Collection[int]) -> None:
        """These series were deleted."""
        self._models.adopt(tenant, dict.fromkeys(ids, ()))
