"""What is stored as a source of expressions: read beforehand, in batches, within bounds.

Samples are read as they are for as long as they are kept. Before that, five-minute roll-ups stand
for them at the last millisecond of their time: their mean, or the figure that `Rolled` asks for.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from service.domain.clock import Clock
from service.domain.series import LabelPairs, Selector, Series
from service.query.promql.budget import Budget
from service.query.promql.fetch import Fetched, Part, Rolled, Span
from service.query.promql.vectors import Samples, is_stale
from service.query.selections import Known, Selection, Selections
from service.query.source import Source as Reader
from service.storage.columns import Columns, Together, Values
from service.storage.rollups import STEP_MS, Aggregates

#: Chunks read at once: so much may be read over a bound before it is noticed.
_CHUNKS_AT_ONCE = 500
#: The same of roll-ups, which are unpacked between others' requests.
_ROLLUPS_AT_ONCE = 250

_NOTHING = Columns.empty()


class Stored:
    """Reads what expressions need. `retention_ms` is how long samples are kept."""

    def __init__(
        self,
        reader: Reader,
        clock: Clock,
        *,
        bucket_ms: int,
        retention_ms: int,
        rollup_retention_ms: int,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._bucket_ms = bucket_ms
        self._retention_ms = retention_ms
        self._rollup_retention_ms = rollup_retention_ms
        self._selections = Selections()

    def raw_from_ms(self) -> int:
        """From when on every sample is there, now: a chunk's border."""
        oldest = self._now_ms() - self._retention_ms
        return (oldest // self._bucket_ms + 1) * self._bucket_ms

    async def series(self, tenant: str, selector: Selector) -> list[Series]:
        """The tenant's series that a selector accepts, by labels."""
        known = self._selections.of(tenant, await self._reader.all(tenant))
        return (await _selected(known, selector)).series

    async def fetch(
        self, tenant: str, spans: Sequence[Span], raw_from_ms: int, budget: Budget
    ) -> Fetched:
        """The samples of these spans, those before `raw_from_ms` from roll-ups.

        Raises `QueryTooDear` before much more than allowed is read, and `QueryTimeout`.
        """
        if not spans:
            return Fetched([])
        known = self._selections.of(tenant, await self._reader.all(tenant))
        asked: dict[Span, list[Span]] = {}
        for span in spans:  # several figures of the same roll-ups are read once
            plain = Selector(span.selector.matchers)
            asked.setdefault(replace(span, selector=plain), []).append(span)
        found = []
        for plain_span, figures in asked.items():
            chosen = await _selected(known, plain_span.selector)
            read = await self._read(tenant, chosen, plain_span, raw_from_ms, budget)
            for span in figures:
                found.append((span, await asyncio.to_thread(_samples, read, span.selector)))
        return Fetched(found)

    async def _read(
        self, tenant: str, chosen: Selection, span: Span, raw_from_ms: int, budget: Budget
    ) -> "_Read":
        ids = chosen.ids
        budget.read(len(ids), 0)
        # Nothing is kept outside of these times, so nothing is asked for.
        start = max(span.start_ms, self._now_ms() - self._rollup_retention_ms)
        end = min(span.end_ms, self._now_ms() + self._retention_ms)
        read = _Read(chosen, start, end)
        early = replace(span, start_ms=start, end_ms=min(end, raw_from_ms - 1))
        for batch in self._batches(ids, early, _ROLLUPS_AT_ONCE):
            rows = await self._reader.aggregate(
                tenant, batch, early.start_ms, early.end_ms, STEP_MS
            )
            budget.read(len(ids), sum(len(each.t) for each in rows.values()))
            read.rows |= rows
        late = replace(span, start_ms=max(start, raw_from_ms), end_ms=end)
        for batch in self._batches(ids, late, _CHUNKS_AT_ONCE):
            samples = await self._reader.read_together(tenant, batch, late.start_ms, late.end_ms)
            budget.read(len(ids), len(samples.t))
            read.samples.append(samples)
        return read

    def _batches(self, ids: list[int], span: Span, most: int) -> Iterator[list[int]]:
        """So many series at once that no more than `most` chunks are read; none for no time."""
        chunks = span.end_ms // self._bucket_ms - span.start_ms // self._bucket_ms + 1
        if span.end_ms < span.start_ms:
            return
        size = max(1, most // chunks)
        for first in range(0, len(ids), size):
            yield ids[first : first + size]

    def _now_ms(self) -> int:
        return round(self._clock.now() * 1000)


async def _selected(known: Known, selector: Selector) -> Selection:
    found = known.recall(selector)
    return found if found is not None else await asyncio.to_thread(known.select, selector)


@dataclass(slots=True)
class _Read:
    """What was read of series: rows of roll-ups by id, then samples of all, in batches."""

    chosen: Selection
    start_ms: int
    end_ms: int
    rows: dict[int, Aggregates] = field(default_factory=dict)
    samples: list[Together] = field(default_factory=list)


def _samples(read: _Read, selector: Selector) -> Samples:
    """What a selector makes of it: the samples, with what stands for those that are gone."""
    labels = read.chosen.labels
    if read.rows:
        late = [columns for batch in read.samples for columns in batch.split()]
        early = [_early(read, series, selector) for series in read.chosen.series]
        if late:
            early = [
                Columns(np.concatenate([a.t, b.t]), np.concatenate([a.v, _each(b.v, selector)]))
                for a, b in zip(early, late, strict=True)
            ]
        return _seen(labels, Together.of(early))
    starts = np.cumsum([0, *(len(batch.t) for batch in read.samples)]).tolist()
    bounds = [np.zeros(1, np.int64)]
    bounds += [b.bounds[1:] + start for b, start in zip(read.samples, starts, strict=False)]
    t = np.concatenate([_NOTHING.t, *(batch.t for batch in read.samples)])
    v = np.concatenate([_NOTHING.v, *(batch.v for batch in read.samples)])
    return _seen(labels, Together(np.concatenate(bounds), t, _each(v, selector)))


def _seen(labels: list[LabelPairs], samples: Together) -> Samples:
    """Without the series that have none."""
    bounds, t, v = samples
    some = np.flatnonzero(bounds[1:] > bounds[:-1])
    if len(some) < len(labels):
        labels = [labels[i] for i in some.tolist()]
        bounds = np.concatenate([bounds[:1], bounds[1:][some]])
    return Samples(labels, bounds, t, v)


def _early(read: _Read, series: Series, selector: Selector) -> Columns:
    """What stands for the samples of a series that are gone."""
    rows = read.rows[series.id]
    columns = Columns(rows.t + (STEP_MS - 1), _figure(rows, selector))
    return columns.between(read.start_ms, read.end_ms)


def _figure(rows: Aggregates, selector: Selector) -> Values:
    """What stands for the samples of each row (n,)."""
    if not isinstance(selector, Rolled):
        return rows.sum / rows.count
    figures = {Part.MIN: rows.min, Part.MAX: rows.max, Part.SUM: rows.sum}
    return figures.get(selector.part, rows.count.astype(np.float64))


def _each(values: Values, selector: Selector) -> Values:
    """The same of single samples (n,): themselves, or one for each that is counted."""
    if isinstance(selector, Rolled) and selector.part is Part.COUNT:
        return np.where(is_stale(values), values, 1.0)
    return values
