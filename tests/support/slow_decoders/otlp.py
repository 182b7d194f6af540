"""OTLP metrics in protobuf, with the classes of OpenTelemetry.

A request that they refuse is read once more with attributes of data points as bytes and without
exemplars: attributes that are none spoil their point and not the request, and exemplars are not
kept, so nobody looks into them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2

from tests.support.slow_decoders.otlp_mapping import Metric, Pairs, Point, add
from tests.support.slow_decoders.result import Read, Refused


def _lenient() -> Any:
    file = descriptor_pb2.FileDescriptorProto()
    file.ParseFromString(metrics_pb2.DESCRIPTOR.serialized_pb)
    file.name, file.package = "slow.proto", "slow"
    for message in file.message_type:
        for place in reversed(range(len(message.field))):
            field = message.field[place]
            if field.name == "exemplars":
                del message.field[place]
            elif field.name == "attributes":
                field.type = field.TYPE_BYTES
                field.ClearField("type_name")
            elif field.type_name.startswith(".opentelemetry.proto.metrics.v1."):
                field.type_name = ".slow." + field.type_name.rpartition("v1.")[2]
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("slow.MetricsData"))


_Lenient = _lenient()


def read(body: bytes) -> Read:
    """The samples of an ExportMetricsServiceRequest; an item is a data point. Raises `Refused`."""
    request: Any
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError:
        try:
            request = _Lenient.FromString(body)
        except DecodeError as error:
            raise Refused(str(error)) from error
    result, index = Read(), 0
    for of_resource in request.resource_metrics:
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                index = add(result, index, _metric(of_resource.resource, of_scope.scope, metric))
    return result


def _metric(resource: Any, scope: Any, metric: Any) -> Metric:
    which = metric.WhichOneof("data") or ""
    data = getattr(metric, which) if which else None
    exponential = which == "exponential_histogram"
    return Metric(
        resource=_pairs(resource.attributes),
        scope_name=scope.name,
        scope_version=scope.version,
        scope=_pairs(scope.attributes),
        name=metric.name,
        unit=metric.unit,
        data=which,
        temporality=getattr(data, "aggregation_temporality", 0),
        monotonic=getattr(data, "is_monotonic", False),
        points=[
            Point(None, 0, 0) if exponential else _point(which, point)
            for point in (data.data_points if data is not None else ())
        ],
    )


def _point(which: str, point: Any) -> Point:
    found = Point(_pairs(point.attributes), point.time_unix_nano, point.flags)
    if which in ("gauge", "sum"):
        if point.HasField("as_int"):
            found.value = float(point.as_int)
        elif point.HasField("as_double"):
            found.value = point.as_double
        return found
    found.count = point.count
    if which == "summary":
        found.sum = point.sum
        found.quantiles = [(item.quantile, item.value) for item in point.quantile_values]
    else:
        found.sum = point.sum if point.HasField("sum") else None
        found.counts = list(point.bucket_counts)
        found.bounds = list(point.explicit_bounds)
    return found


def _pairs(attributes: Any) -> Pairs:
    pairs = []
    for pair in attributes:
        if isinstance(pair, bytes):
            try:
                pair = KeyValue.FromString(pair)
            except DecodeError:
                return None
        pairs.append((pair.key, _value(pair.value)))
    return pairs


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if which in ("string_value", "bool_value", "int_value", "double_value", "bytes_value"):
        return getattr(value, which)
    return None
