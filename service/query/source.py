"""What pages, insights and training read: series by selector, samples by time."""

from collections.abc import Sequence

from service.domain.errors import NotFound
from service.domain.series import Selector, Series
from service.query.selector import select
from service.storage.chunks import ChunkReader
from service.storage.columns import Columns
from service.storage.registry import SeriesRegistry


class Source:
    """Reads of one tenant at a time."""

    def __init__(self, registry: SeriesRegistry, chunks: ChunkReader) -> None:
        self._registry = registry
        self._chunks = chunks

    async def all(self, tenant: str) -> dict[int, Series]:
        """Every series, derived ones too."""
        return await self._registry.all(tenant)

    async def select(self, tenant: str, selector: Selector | None = None) -> list[Series]:
        """The series that a selector accepts, sorted; all without one."""
        return select((await self._registry.all(tenant)).values(), selector)

    async def get(self, tenant: str, series: int) -> Series:
        """One series; `NotFound` if the tenant has none of that id."""
        found = await self._registry.lookup(tenant, [series])
        if series not in found:
            raise NotFound(f"there is no series {series:016x}")
        return found[series]

    async def read(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int
    ) -> dict[int, Columns]:
        """Samples with `start_ms <= t <= end_ms` of each series, ascending."""
        return await self._chunks.read(tenant, ids, start_ms, end_ms)
