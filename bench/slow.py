"""The four decoders as one writes them first, for comparison.

Objects instead of columns: a pydantic model a sample, protobuf's own objects for each label, a
split for each line. They read what the benchmark sends and no more.
"""

from collections.abc import Callable, Hashable
from typing import Any

import cramjam
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from pydantic import BaseModel, TypeAdapter

from service.domain.series import NAME, MetricType, Series
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded
from service.ingest.limits import check_labels, check_name
from service.ingest.line_protocol import Precision


class Sample(BaseModel):
    """One sample, whichever way it came."""

    name: str
    value: float
    timestamp: float | None = None
    metric_type: MetricType = MetricType.GAUGE
    labels: dict[str, str] = {}


_samples = TypeAdapter(list[Sample])


def install() -> None:
    """Make the API's routes use these decoders."""
    from service.api import line_protocol, metrics, otlp, remote_write

    replaced: list[tuple[object, str, Callable[..., Any]]] = [
        (metrics, "decode", json),
        (remote_write, "inflate", bytes),
        (remote_write, "decode", remote),
        (line_protocol, "decode", lines),
    ]
    for module, name, decoder in replaced:
        assert callable(getattr(module, name)), name
        setattr(module, name, decoder)
    decoders = vars(otlp)["_DECODERS"]
    assert callable(decoders[otlp.PROTOBUF])
    decoders[otlp.PROTOBUF] = otel


def _decoded(protocol: str, samples: list[Sample]) -> Decoded:
    keys: list[Hashable] = []
    times: list[int] = []
    values: list[float] = []
    for sample in samples:
        if problem := check_name(sample.name) or check_labels(sample.labels):
            raise ValueError(problem)
        series = Series.of(sample.name, sample.labels, sample.metric_type)
        keys.append(series.labels)
        times.append(NO_TIME if sample.timestamp is None else round(sample.timestamp * 1000))
        values.append(sample.value)
    return Decoded(
        protocol=protocol,
        index=range(len(samples)),
        keys=keys,
        t_ms=np.array(times, np.int64),
        values=np.array(values, np.float64),
        series=lambda row: Series.of(
            samples[row].name, samples[row].labels, samples[row].metric_type
        ),
        name=lambda row: samples[row].name,
    )


def json(body: bytes, _tenant: str, _answer: Answer) -> Decoded:
    """JSON by pydantic."""
    return _decoded(
        "json", _samples.validate_json(b"[" + body + b"]" if body[:1] == b"{" else body)
    )


def _write_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="bench/remote.proto", package="bench")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in {
        "Label": [("name", kinds.TYPE_STRING, ""), ("value", kinds.TYPE_STRING, "")],
        "Sample": [("value", kinds.TYPE_DOUBLE, ""), ("timestamp", kinds.TYPE_INT64, "")],
        "TimeSeries": [
            ("labels", kinds.TYPE_MESSAGE, ".bench.Label"),
            ("samples", kinds.TYPE_MESSAGE, ".bench.Sample"),
        ],
        "WriteRequest": [("timeseries", kinds.TYPE_MESSAGE, ".bench.TimeSeries")],
    }.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, of) in enumerate(fields, 1):
            message.field.add(
                name=field,
                number=number,
                type=kind,
                type_name=of or None,
                label=kinds.LABEL_REPEATED if of else kinds.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.WriteRequest"))


_WriteRequest = _write_request()


def remote(body: bytes, _answer: Answer) -> Decoded:
    """Remote write by protobuf's objects; snappy included."""
    request = _WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
    samples = []
    for series in request.timeseries:
        labels = {label.name: label.value for label in series.labels}
        name = labels.pop(NAME)
        samples += [
            Sample(name=name, labels=labels, value=s.value, timestamp=s.timestamp / 1000)
            for s in series.samples
        ]
    return _decoded("remote_write", samples)


def otel(body: bytes, _answer: Answer) -> Decoded:
    """OTLP by protobuf's objects; gauges."""
    request = ExportMetricsServiceRequest.FromString(body)
    samples = []
    for resource in request.resource_metrics:
        about = {a.key: a.value.string_value for a in resource.resource.attributes}
        job = {"job": about["service.name"]}
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.gauge.data_points:
                    labels = {a.key: a.value.string_value for a in point.attributes}
                    samples.append(
                        Sample(
                            name=metric.name,
                            labels=labels | job,
                            value=point.as_double,
                            timestamp=point.time_unix_nano / 1e9,
                        )
                    )
    return _decoded("otlp", samples)


def lines(body: bytes, _precision: Precision, _answer: Answer) -> tuple[Decoded, int]:
    """Line protocol, line by line; one field, nanoseconds, no escapes."""
    samples = []
    for line in body.decode().splitlines():
        head, field, stamp = line.split(" ")
        name, *tags = head.split(",")
        labels = dict(tag.split("=", 1) for tag in tags)
        field_name, _, value = field.partition("=")
        if field_name != "value":
            name = f"{name}_{field_name}"
        samples.append(
            Sample(name=name, labels=labels, value=float(value), timestamp=int(stamp) / 1e9)
        )
    return _decoded("line", samples), 0
