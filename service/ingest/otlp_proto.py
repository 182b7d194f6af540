"""OTLP metrics in protobuf.

The messages are those of opentelemetry-proto with one change: the attributes of data points are
declared as bytes, which is the same on the wire. They are the key of the series cache, so they are
parsed once a series and not once a point.
"""

import base64
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

from service.domain.errors import InvalidInput
from service.ingest.otlp_names import ATTRIBUTES_MAX, TOO_DEEP, Value, text_of
from service.ingest.otlp_points import (
    EXPONENTIAL,
    NO_TEMPORALITY,
    NOTHING,
    Attributes,
    Head,
    HistogramPoint,
    Kind,
    NumberPoint,
    Point,
    Refused,
    SummaryPoint,
    Taken,
    histogram_kind,
    sum_kind,
)

_THEIRS = ".opentelemetry.proto.metrics.v1."
_OURS = ".offbeat.otlp."


def _message_class() -> Any:
    """MetricsData, which is an ExportMetricsServiceRequest on the wire, with raw attributes."""
    file = descriptor_pb2.FileDescriptorProto()
    metrics_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "offbeat/otlp.proto", _OURS.strip(".")
    for message in file.message_type:
        # Exemplars are not kept, so they need not be parsed either.
        kept = [field for field in message.field if field.name != "exemplars"]
        del message.field[:]
        message.field.extend(kept)
        for field in message.field:
            if field.name == "attributes":
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
                field.ClearField("type_name")
            elif field.type_name:
                field.type_name = field.type_name.replace(_THEIRS, _OURS)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{file.package}.MetricsData")
    )


_MetricsData = _message_class()


def read(body: bytes) -> Iterator[Taken | Refused]:
    """The metrics of a request; `InvalidInput` if it is none."""
    try:
        request = _MetricsData.FromString(body)
    except DecodeError as error:
        raise InvalidInput(
            "the body is not an ExportMetricsServiceRequest in protobuf", where="body"
        ) from error
    for of_resource in request.resource_metrics:
        if not of_resource.scope_metrics:
            yield NOTHING
            continue
        resource = _key([pair.SerializeToString() for pair in of_resource.resource.attributes])
        for of_scope in of_resource.scope_metrics:
            if not of_scope.metrics:
                yield NOTHING
                continue
            scope = of_scope.scope
            scope_attributes = _key([pair.SerializeToString() for pair in scope.attributes])
            scope_key = (scope.name, scope.version, scope_attributes)
            for metric in of_scope.metrics:
                yield _metric(metric, resource, scope_key)


def _key(attributes: Sequence[bytes]) -> Hashable:
    """Raw attributes, or what is wrong with them: keys are hashed for each sample."""
    if len(attributes) > ATTRIBUTES_MAX:
        return f"{len(attributes)} attributes; {ATTRIBUTES_MAX} are allowed"
    return tuple(attributes)


def _metric(metric: Any, resource: Hashable, scope: tuple[str, str, Hashable]) -> Taken | Refused:
    which = metric.WhichOneof("data")
    if which is None:
        return NOTHING
    data = getattr(metric, which)
    kind: Kind | None
    if which == "gauge":
        kind = Kind.GAUGE
    elif which == "sum":
        kind = sum_kind(data.aggregation_temporality, data.is_monotonic)
    elif which == "histogram":
        kind = histogram_kind(data.aggregation_temporality)
    elif which == "summary":
        kind = Kind.SUMMARY
    else:
        return Refused(metric.name, len(data.data_points), EXPONENTIAL)
    if kind is None:
        return Refused(metric.name, len(data.data_points), NO_TEMPORALITY)
    points: Iterator[Point]
    if which == "histogram":
        points = map(_histogram, data.data_points)
    elif which == "summary":
        points = map(_summary, data.data_points)
    else:
        points = map(_number, data.data_points)
    return Taken(Head(resource, *scope, metric.name, metric.unit, kind), points)


def _number(point: Any) -> NumberPoint:
    which = point.WhichOneof("value")
    value = None
    if which == "as_double":
        value = point.as_double
    elif which == "as_int":
        value = float(point.as_int)
    return NumberPoint(_key(point.attributes), point.time_unix_nano, point.flags, value)


def _histogram(point: Any) -> HistogramPoint:
    return HistogramPoint(
        _key(point.attributes),
        point.time_unix_nano,
        point.flags,
        point.count,
        point.sum if point.HasField("sum") else None,
        point.bucket_counts,
        point.explicit_bounds,
    )


def _summary(point: Any) -> SummaryPoint:
    return SummaryPoint(
        _key(point.attributes),
        point.time_unix_nano,
        point.flags,
        point.count,
        point.sum,
        [(q.quantile, q.value) for q in point.quantile_values],
    )


def attributes_of(key: Hashable) -> Attributes:
    """Attributes of the raw bytes of each; `ValueError` says what is wrong with them."""
    pairs = []
    if isinstance(key, str):
        raise ValueError(key)
    for raw in key if isinstance(key, tuple) else ():
        try:
            pair = common_pb2.KeyValue.FromString(raw)
        except DecodeError as error:
            raise ValueError("an attribute is no KeyValue in protobuf") from error
        try:
            pairs.append((pair.key, text_of(_value(pair.value))))
        except RecursionError as error:
            raise ValueError(f"attribute {pair.key[:80]!r} {TOO_DEEP}") from error
    return pairs


def _value(value: Any) -> Value:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if which in ("string_value", "bool_value", "int_value", "double_value"):
        found: Value = getattr(value, which)
        return found
    return None
