"""Prometheus remote write, with protobuf's library.

Series, labels, exemplars and histograms are bytes in its schema, read one by one: so a label that
is none spoils its series and not the request, as it does with us.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from tests.support.slow_decoders.result import NOW, Labels, Read, Refused, series
from tests.support.slow_decoders.snappy_body import inflate


def _schema() -> Callable[[str], Any]:
    kind = descriptor_pb2.FieldDescriptorProto
    many, one = kind.LABEL_REPEATED, kind.LABEL_OPTIONAL
    file = descriptor_pb2.FileDescriptorProto(name="prw.proto", package="prw", syntax="proto3")
    for name, parts in {
        "WriteRequest": [("timeseries", 1, many, kind.TYPE_BYTES)],
        "TimeSeries": [
            ("labels", 1, many, kind.TYPE_BYTES),
            ("samples", 2, many, kind.TYPE_BYTES),
            ("histograms", 4, many, kind.TYPE_BYTES),
        ],
        "Label": [("name", 1, one, kind.TYPE_BYTES), ("value", 2, one, kind.TYPE_BYTES)],
        "Sample": [("bits", 1, one, kind.TYPE_FIXED64), ("timestamp", 2, one, kind.TYPE_INT64)],
    }.items():
        message = file.message_type.add(name=name)
        for title, number, label, type_ in parts:
            message.field.add(name=title, number=number, label=label, type=type_)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"prw.{name}"))


_of = _schema()
WriteRequest, TimeSeries, Label, Sample = map(
    _of, ["WriteRequest", "TimeSeries", "Label", "Sample"]
)


def read(body: bytes) -> Read:
    """The samples of a body as it is sent, in snappy. Raises `Refused`."""
    return read_message(inflate(body))


def read_message(message: bytes) -> Read:
    """The samples of a `WriteRequest`. Raises `Refused`."""
    result = Read()
    try:
        for place, raw in enumerate(WriteRequest.FromString(message).timeseries):
            parts = TimeSeries.FromString(raw)
            labels, metric_type = _labels(list(parts.labels))
            for sample in map(Sample.FromString, parts.samples):
                # The smallest time would mean "now"; it is as far away as the one after it.
                t_ms = max(sample.timestamp, NOW + 1)
                result.add(place, labels, metric_type, t_ms, sample.bits)
            if parts.histograms:
                result.rejected.add(place)
    except DecodeError as error:
        raise Refused(str(error)) from error
    return result


def _labels(parts: list[bytes]) -> tuple[Labels | None, str]:
    # As sent: each has a tag of one byte, and a length of seven bits a byte.
    if sum(1 + max(1, -(-len(part).bit_length() // 7)) + len(part) for part in parts) > 64 << 10:
        return None, ""
    try:
        pairs = [(x.name.decode(), x.value.decode()) for x in map(Label.FromString, parts)]
    except (DecodeError, UnicodeDecodeError):
        return None, ""
    labels = dict(pairs)
    if len(labels) < len(pairs):
        return None, ""
    name = labels.pop("__name__", "")
    counts = name.endswith(("_total", "_bucket", "_count", "_sum"))
    kept = {key: value for key, value in labels.items() if value}
    return series(name, kept), "counter" if counts else "gauge"
