"""A worker's head as a source of PromQL, as it is at one evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np

from service.domain.series import LabelPairs, MetricType, Selector, Series, series_id
from service.query.promql.source import Source
from service.query.promql.vectors import Newest, Samples
from service.rules.selections import SeriesIndex
from service.rules.sight import HeadReader
from service.storage.columns import Columns

_Asked = tuple[Selector, int, int]


class HeadSource(Source):
    """The samples of one tenant in memory. What was asked for last is remembered: use it once."""

    def __init__(self, tenant: str, head: HeadReader, index: SeriesIndex) -> None:
        self._tenant, self._head, self._index = tenant, head, index
        self._known = head.series(tenant)
        self._newest: dict[_Asked, Newest] = {}

    @property
    def known(self) -> Mapping[int, Series]:
        """Every series of the tenant."""
        return self._known

    def chosen(self, selector: Selector) -> Sequence[Series]:
        """The series that a selector accepts."""
        return self._index.select(self._tenant, self._known, selector)

    def select(self, selector: Selector, start_ms: int, end_ms: int) -> Samples:
        """See `Source.select`."""
        found: list[tuple[LabelPairs, Columns]] = []
        for series in self.chosen(selector):
            columns = self._head.window(self._tenant, series.id, start_ms, end_ms)
            if len(columns.t):
                found.append((series.labels, columns))
        return Samples.of(found)

    def newest(self, selector: Selector, start_ms: int, end_ms: int) -> Newest:
        """See `Source.newest`."""
        asked = (selector, start_ms, end_ms)
        found = self._newest.get(asked)
        if found is None:
            found = self._newest[asked] = self._look(*asked)
        return found

    def _look(self, selector: Selector, start_ms: int, end_ms: int) -> Newest:
        last, tenant = self._head.last, self._tenant
        labels: list[LabelPairs] = []
        t: list[int] = []
        v: list[float] = []
        for series in self.chosen(selector):
            newest = last(tenant, series.id, end_ms)
            if newest is not None and newest[0] >= start_ms:
                labels.append(series.labels)
                t.append(newest[0])
                v.append(newest[1])
        return Newest(labels, np.array(t, np.int64), np.array(v, np.float64))

    def metric_type(self, labels: LabelPairs) -> MetricType:
        """See `Source.metric_type`."""
        known = self._known.get(series_id(labels))
        return MetricType.GAUGE if known is None else known.metric_type
