"""OTLP metrics as both encodings are read into: metrics with points, attributes still raw."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from service.domain.series import MetricType

#: Flag of a point: the series has no value any more.
NO_RECORDED_VALUE = 1

#: Labels as (attribute's key, value as text), in the sender's order.
Attributes = Sequence[tuple[str, str]]

#: Attributes of a raw key; `ValueError` says what is wrong with them.
AttributesOf = Callable[[Hashable], Attributes]


class Kind(StrEnum):
    """What a metric's points are to us."""

    GAUGE = "gauge"
    COUNTER = "counter"  # cumulative and monotonic
    UP_DOWN = "up-down counter"  # cumulative, may fall
    DELTA = "delta"  # a sum since the point before
    HISTOGRAM = "histogram"
    DELTA_HISTOGRAM = "delta histogram"
    SUMMARY = "summary"

    @property
    def metric_type(self) -> MetricType:
        """The type of the series that are made of it. What starts anew each time is a gauge."""
        return _TYPES.get(self, MetricType.GAUGE)


_TYPES = {
    Kind.COUNTER: MetricType.COUNTER,
    Kind.HISTOGRAM: MetricType.HISTOGRAM,
    Kind.SUMMARY: MetricType.SUMMARY,
}


class Head(NamedTuple):
    """What all points of a metric share; part of the key of each of its series."""

    resource: Hashable
    scope_name: str
    scope_version: str
    scope_attributes: Hashable
    name: str
    unit: str
    kind: Kind


class NumberPoint(NamedTuple):
    """A point of a gauge or sum; `value` is None where the sender set none."""

    attributes: Hashable
    t_nano: int
    flags: int
    value: float | None


class HistogramPoint(NamedTuple):
    """A point of a histogram; `counts` has one item more than `bounds`, or both are empty."""

    attributes: Hashable
    t_nano: int
    flags: int
    total: int
    sum: float | None
    counts: Sequence[int]
    bounds: Sequence[float]


class SummaryPoint(NamedTuple):
    """A point of a summary; `quantiles` are pairs of quantile and value."""

    attributes: Hashable
    t_nano: int
    flags: int
    total: int
    sum: float
    quantiles: Sequence[tuple[float, float]]


Point = NumberPoint | HistogramPoint | SummaryPoint


@dataclass(frozen=True, slots=True)
class Taken:
    """A metric whose points can be read."""

    head: Head
    points: Iterable[Point]


@dataclass(frozen=True, slots=True)
class Refused:
    """A metric that is not taken, with its number of points and why."""

    name: str
    count: int
    reason: str


#: A metric, scope or resource with nothing in it.
NOTHING = Refused("", 0, "")

EXPONENTIAL = (
    "exponential histograms are not taken; let the sender aggregate to explicit buckets "
    "(OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=explicit_bucket_histogram)"
)
NO_TEMPORALITY = "aggregationTemporality is neither 1 (delta) nor 2 (cumulative)"


def sum_kind(temporality: int, monotonic: bool) -> Kind | None:
    """The kind of a sum; None if its temporality is not given."""
    if temporality == 1:
        return Kind.DELTA
    if temporality == 2:
        return Kind.COUNTER if monotonic else Kind.UP_DOWN
    return None


def histogram_kind(temporality: int) -> Kind | None:
    """The kind of a histogram; None if its temporality is not given."""
    return {1: Kind.DELTA_HISTOGRAM, 2: Kind.HISTOGRAM}.get(temporality)
