"""Where the evaluator takes samples from: a worker's head, what was fetched, a test's series."""

from abc import ABC, abstractmethod

import numpy as np

from service.domain.series import LabelPairs, MetricType, Selector
from service.query.promql.vectors import Newest, Samples


class Source(ABC):
    """Samples of one tenant."""

    @abstractmethod
    def select(self, selector: Selector, start_ms: int, end_ms: int) -> Samples:
        """The samples with `start_ms <= t <= end_ms` of the series that a selector accepts.

        Series without any may be there or not. No two have the same labels.
        """

    def metric_type(self, labels: LabelPairs) -> MetricType:
        """What the sender says the numbers of a series are; a gauge where nobody says."""
        return MetricType.GAUGE

    def newest(self, selector: Selector, start_ms: int, end_ms: int) -> Newest:
        """The newest of those samples of each series; for sources that know it quicker."""
        labels, bounds, t, v = self.select(selector, start_ms, end_ms)
        some = np.flatnonzero(bounds[1:] > bounds[:-1])
        last = bounds[1:][some] - 1
        return Newest([labels[i] for i in some.tolist()], t[last], v[last])
