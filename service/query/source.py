"""What pages, insights and training read: series by selector, samples by time."""

from collections.abc import Sequence

from service.domain.errors import NotFound
from service.domain.series import Selector, Series
from service.query.matchers import select
from service.storage.chunks import ChunkReader
from service.storage.columns import Columns, Together
from service.storage.registry import SeriesRegistry
from service.storage.rollups import STEP_MS, Aggregates, RollupReader, aggregate, merge


class Source:
    """Reads of one tenant at a time."""

    def __init__(
        self, registry: SeriesRegistry, chunks: ChunkReader, rollups: RollupReader
    ) -> None:
        self._registry = registry
        self._chunks = chunks
        self._rollups = rollups

    async def all(self, tenant: str) -> dict[int, Series]:
        """Every series, derived ones too: the same mapping as before if nothing has changed."""
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

    async def read_together(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int
    ) -> Together:
        """The same in arrays that the series share, in the order of `ids`."""
        return await self._chunks.read_together(tenant, ids, start_ms, end_ms)

    async def aggregate(
        self, tenant: str, ids: Sequence[int], start_ms: int, end_ms: int, step_ms: int
    ) -> dict[int, Aggregates]:
        """Rows of every step that `start_ms..end_ms` touches, whole, of each series, ascending.

        Steps are counted from the epoch. Those that are a multiple of five minutes come from
        roll-ups where the samples are sealed, and from the samples elsewhere; others from samples
        only, so as far back as these are kept.
        """
        start_ms = start_ms // step_ms * step_ms
        end_ms = (end_ms // step_ms + 1) * step_ms
        if step_ms % STEP_MS:
            read = await self._chunks.read(tenant, ids, start_ms, end_ms - 1)
            return {series: aggregate(columns, step_ms) for series, columns in read.items()}
        bucket_ms = self._chunks.bucket_ms
        buckets = range(start_ms // bucket_ms, (end_ms - 1) // bucket_ms + 1)
        stored = await self._rollups.read(tenant, ids, buckets)
        rest = await self._chunks.read_buckets(tenant, stored.missing)
        found = {}
        for series in ids:
            rows = [aggregate(rest[series], STEP_MS), stored.rows[series]]
            found[series] = merge(rows, step_ms).between(start_ms, end_ms)
        return found
