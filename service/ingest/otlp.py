"""OTLP metrics to columns, in protobuf and in JSON."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np

from service.domain.errors import TooLarge
from service.domain.series import Series
from service.ingest import otlp_json, otlp_proto
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.limits import NAME_MAX
from service.ingest.otlp_names import number_text, remembered, series_of
from service.ingest.otlp_points import (
    NO_RECORDED_VALUE,
    AttributesOf,
    Head,
    HistogramPoint,
    NumberPoint,
    Point,
    Refused,
    SummaryPoint,
    Taken,
)

#: Samples that one request may come to; a histogram point is one for each bucket and two more.
#: Points that are refused and metrics without any count too: they cost as much.
SAMPLES_MAX = 1_000_000
#: The NaN that says that a series has ended.
STALE_BITS = 0x7FF0000000000002

_LABELLED = {"_bucket": "le", "": "quantile"}

# Head, raw attributes, suffix of the name, value of le or quantile.
_Key = tuple[Head, Hashable, str, str]


@dataclass(slots=True)
class PointAnswer(Answer):
    """An answer that counts data points: however many samples of one are refused, it is one."""

    indexes: set[int] = field(default_factory=set)

    def reject(self, index: int, name: str, reason: str) -> None:
        """Note a data point of which something is not kept."""
        if index not in self.indexes:
            self.indexes.add(index)
            Answer.reject(self, index, name, reason)


def decode_protobuf(body: bytes, answer: Answer) -> Decoded:
    """Columns of an ExportMetricsServiceRequest; what cannot be kept goes into `answer`."""
    return _decode("otlp", otlp_proto.read(body), otlp_proto.attributes_of, answer)


def decode_json(body: bytes, answer: Answer) -> Decoded:
    """Columns of an ExportMetricsServiceRequest; what cannot be kept goes into `answer`."""
    return _decode("otlp-json", otlp_json.read(body), otlp_json.attributes_of, answer)


class _Rows:
    """Columns as they grow."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.keys: list[_Key] = []
        self.t_ms: list[int] = []
        self.values: list[float] = []
        self.stale: list[int] = []

    def add(self, index: int, t_ms: int, key: _Key, value: float | None) -> None:
        """One sample; None ends the series."""
        if value is None:
            self.stale.append(len(self.values))
            value = 0.0
        self.index.append(index)
        self.keys.append(key)
        self.t_ms.append(t_ms)
        self.values.append(value)


def _decode(
    protocol: str,
    metrics: Iterable[Taken | Refused],
    attributes_of: AttributesOf,
    answer: Answer,
) -> Decoded:
    rows = _Rows()
    index = empty = 0
    for metric in metrics:
        if isinstance(metric, Refused):
            empty += not metric.count
            _bound(index + metric.count + empty)
            for _ in range(metric.count):
                answer.reject(index, metric.name[:NAME_MAX], metric.reason)
                index += 1
            continue
        for point in metric.points:
            if problem := _add(rows, index, metric.head, point):
                answer.reject(index, metric.head.name[:NAME_MAX], problem)
            index += 1
            _bound(max(index + empty, len(rows.index)))
    values = np.array(rows.values, np.float64)
    values.view(np.uint64)[rows.stale] = STALE_BITS
    keys = rows.keys
    attributes_of = remembered(attributes_of)

    def series(row: int) -> Series | str:
        head, raw, suffix, place = keys[row]
        extra = (_LABELLED[suffix], place) if place else None
        return series_of(head, raw, suffix, extra, attributes_of)

    return Decoded(
        protocol=protocol,
        index=rows.index,
        keys=keys,
        t_ms=np.array(rows.t_ms, np.int64),
        values=values,
        series=series,
        name=lambda row: keys[row][0].name[:NAME_MAX],
    )


def _bound(count: int) -> None:
    if count > SAMPLES_MAX:
        raise TooLarge(f"the body holds more than {SAMPLES_MAX} samples; send less at once")


def _add(rows: _Rows, index: int, head: Head, point: Point) -> str | None:
    """Add the samples of a point, all or none; says what is wrong with it."""
    if not point.t_nano:
        return "timeUnixNano is not set"
    t_ms = point.t_nano // 1_000_000
    ended = bool(point.flags & NO_RECORDED_VALUE)
    if isinstance(point, NumberPoint):
        if point.value is None and not ended:
            return "it has neither asDouble nor asInt"
        rows.add(index, t_ms, (head, point.attributes, "", ""), None if ended else point.value)
        return None
    samples = _histogram(point) if isinstance(point, HistogramPoint) else _summary(point)
    if isinstance(samples, str):
        return samples
    for suffix, place, value in samples:
        rows.add(index, t_ms, (head, point.attributes, suffix, place), None if ended else value)
    return None


def _histogram(point: HistogramPoint) -> list[tuple[str, str, float]] | str:
    """Suffix, `le` and value of each sample, or what is wrong."""
    bounds, counts = point.bounds, point.counts
    samples: list[tuple[str, str, float]] = []
    if counts:
        if len(counts) != len(bounds) + 1:
            return f"{len(counts)} bucketCounts do not go with {len(bounds)} explicitBounds"
        before, total = -math.inf, 0
        for bound, count in zip(bounds, counts, strict=False):
            if not before < bound < math.inf:
                return "explicitBounds are not finite and rising"
            before = bound
            total += count
            samples.append(("_bucket", number_text(bound), float(total)))
        total += counts[-1]
        if total != point.total:
            return f"bucketCounts add up to {total}, and count is {point.total}"
    elif bounds and not point.flags & NO_RECORDED_VALUE:
        return f"0 bucketCounts do not go with {len(bounds)} explicitBounds"
    samples.append(("_bucket", "+Inf", float(point.total)))
    if point.sum is not None or point.flags & NO_RECORDED_VALUE:
        samples.append(("_sum", "", 0.0 if point.sum is None else point.sum))
    samples.append(("_count", "", float(point.total)))
    return samples


def _summary(point: SummaryPoint) -> list[tuple[str, str, float]] | str:
    """Suffix, `quantile` and value of each sample, or what is wrong."""
    if not all(0 <= quantile <= 1 for quantile, _ in point.quantiles):
        return "a quantile is not between 0 and 1"
    samples = [("", number_text(quantile), value) for quantile, value in point.quantiles]
    return [*samples, ("_sum", "", point.sum), ("_count", "", float(point.total))]
