"""OTLP metrics in JSON: the mapping of protobuf to JSON, with field names in lowerCamelCase only.

64-bit integers may be text, `null` is as good as absent, unknown fields are passed over. Attributes
stay raw bytes: they are the key of the series cache, parsed once a series.
"""

import base64
import binascii
import math
import re
from collections.abc import Hashable, Iterator
from typing import Any

import msgspec

from service.domain.errors import InvalidInput
from service.ingest.otlp_names import TOO_DEEP, Value, text_of
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

# Infinity and NaN are text, and so may be any number.
_Number = int | float | str | None

_NONE = msgspec.Raw(b"[]")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_REAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NOT_FINITE = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
_TEMPORALITY = {
    "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
    "AGGREGATION_TEMPORALITY_DELTA": 1,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
}


class _Struct(msgspec.Struct, rename="camel", gc=False):
    pass


class _NumberPoint(_Struct):
    attributes: msgspec.Raw = _NONE
    time_unix_nano: _Number = 0
    flags: _Number = 0
    as_double: _Number = None
    as_int: _Number = None


class _HistogramPoint(_Struct):
    attributes: msgspec.Raw = _NONE
    time_unix_nano: _Number = 0
    flags: _Number = 0
    count: _Number = 0
    sum: _Number = None
    bucket_counts: list[_Number] | None = None
    explicit_bounds: list[_Number] | None = None


class _Quantile(_Struct):
    quantile: _Number = 0
    value: _Number = 0


class _SummaryPoint(_Struct):
    attributes: msgspec.Raw = _NONE
    time_unix_nano: _Number = 0
    flags: _Number = 0
    count: _Number = 0
    sum: _Number = 0
    quantile_values: list[_Quantile] | None = None


class _Gauge(_Struct):
    data_points: list[_NumberPoint] | None = None


class _Sum(_Struct):
    data_points: list[_NumberPoint] | None = None
    aggregation_temporality: _Number = 0
    is_monotonic: bool | None = False


class _Histogram(_Struct):
    data_points: list[_HistogramPoint] | None = None
    aggregation_temporality: _Number = 0


class _Summary(_Struct):
    data_points: list[_SummaryPoint] | None = None


class _Exponential(_Struct):
    data_points: list[msgspec.Raw] | None = None


class _Metric(_Struct):
    name: str | None = None
    unit: str | None = None
    gauge: _Gauge | None = None
    sum: _Sum | None = None
    histogram: _Histogram | None = None
    summary: _Summary | None = None
    exponential_histogram: _Exponential | None = None


class _Scope(_Struct):
    name: str | None = None
    version: str | None = None
    attributes: msgspec.Raw = _NONE


class _ScopeMetrics(_Struct):
    scope: _Scope | None = None
    metrics: list[_Metric] | None = None


class _Resource(_Struct):
    attributes: msgspec.Raw = _NONE


class _ResourceMetrics(_Struct):
    resource: _Resource | None = None
    scope_metrics: list[_ScopeMetrics] | None = None


class _Request(_Struct):
    resource_metrics: list[_ResourceMetrics] | None = None


class _AnyValue(_Struct):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Number = None
    double_value: _Number = None
    array_value: "_Array | None" = None
    kvlist_value: "_Map | None" = None
    bytes_value: str | None = None


class _Array(_Struct):
    values: list[_AnyValue] | None = None


class _KeyValue(_Struct):
    key: str | None = None
    value: _AnyValue | None = None


class _Map(_Struct):
    values: list[_KeyValue] | None = None


_request = msgspec.json.Decoder(_Request)
_attributes = msgspec.json.Decoder(list[_KeyValue] | None)


def read(body: bytes) -> Iterator[Taken | Refused]:
    """The metrics of a request; `InvalidInput` if it is none."""
    try:
        request = _request.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"the body is not an ExportMetricsServiceRequest in JSON: {_plain(error)}", where="body"
        ) from error
    for of_resource in request.resource_metrics or ():
        if not of_resource.scope_metrics:
            yield NOTHING
            continue
        resource = bytes((of_resource.resource or _Resource()).attributes)
        for of_scope in of_resource.scope_metrics:
            if not of_scope.metrics:
                yield NOTHING
                continue
            scope = of_scope.scope or _Scope()
            scope_key = (scope.name or "", scope.version or "", bytes(scope.attributes))
            for metric in of_scope.metrics:
                yield _metric(metric, resource, scope_key)


def _metric(
    metric: _Metric, resource: Hashable, scope: tuple[str, str, Hashable]
) -> Taken | Refused:
    name = metric.name or ""
    kinds = (metric.gauge, metric.sum, metric.histogram, metric.summary)
    given = [data for data in (*kinds, metric.exponential_histogram) if data is not None]
    if not given:
        return NOTHING
    if len(given) > 1:
        raise InvalidInput(
            "a metric is one of gauge, sum, histogram, exponentialHistogram and summary",
            where=name[:128],
        )
    data = given[0]
    points = data.data_points or []
    kind: Kind | None = None
    reason = NO_TEMPORALITY
    if isinstance(data, _Gauge):
        kind = Kind.GAUGE
    elif isinstance(data, _Sum):
        kind = sum_kind(_temporality(data.aggregation_temporality), bool(data.is_monotonic))
    elif isinstance(data, _Histogram):
        kind = histogram_kind(_temporality(data.aggregation_temporality))
    elif isinstance(data, _Summary):
        kind = Kind.SUMMARY
    else:
        reason = EXPONENTIAL
    if kind is None:
        return Refused(name, len(points), reason)
    return Taken(Head(resource, *scope, name, metric.unit or "", kind), map(_point, points))


def _point(point: Any) -> Point:
    common = (
        bytes(point.attributes),
        _integer(point.time_unix_nano, "timeUnixNano"),
        _integer(point.flags, "flags", high=2**32),
    )
    if isinstance(point, _NumberPoint):
        return NumberPoint(*common, _value_of(point))
    count = _integer(point.count, "count")
    if isinstance(point, _HistogramPoint):
        return HistogramPoint(
            *common,
            count,
            None if point.sum is None else _real(point.sum, "sum"),
            [_integer(item, "bucketCounts") for item in point.bucket_counts or ()],
            [_real(item, "explicitBounds") for item in point.explicit_bounds or ()],
        )
    return SummaryPoint(
        *common,
        count,
        _real(point.sum, "sum"),
        [
            (_real(item.quantile, "quantile"), _real(item.value, "value"))
            for item in point.quantile_values or ()
        ],
    )


def _value_of(point: _NumberPoint) -> float | None:
    if point.as_double is not None:
        if point.as_int is not None:
            raise InvalidInput("a point has asDouble or asInt, not both", where="asInt")
        return _real(point.as_double, "asDouble")
    if point.as_int is not None:
        return float(_integer(point.as_int, "asInt", low=-(2**63), high=2**63))
    return None


def _temporality(value: _Number) -> int:
    if isinstance(value, str) and value in _TEMPORALITY:
        return _TEMPORALITY[value]
    return _integer(value, "aggregationTemporality", low=-(2**31), high=2**31)


def _integer(value: _Number, field: str, *, low: int = 0, high: int = 2**64) -> int:
    number: int | None = None
    if value is None:
        number = 0
    elif isinstance(value, int):
        number = value
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else None
    elif _INTEGER.fullmatch(value):
        number = int(value)
    if number is None or not low <= number < high:
        raise InvalidInput(f"{field}: {str(value)[:40]!r} is no such integer", where=field)
    return number


def _real(value: _Number, field: str) -> float:
    if value is None:
        return 0.0
    if isinstance(value, str) and value in _NOT_FINITE:
        return float(_NOT_FINITE[value])
    if not isinstance(value, str) or _REAL.fullmatch(value):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InvalidInput(f"{field}: {str(value)[:40]!r} is no number", where=field)


def attributes_of(key: Hashable) -> Attributes:
    """Attributes of a raw array; `ValueError` says what is wrong with them."""
    try:
        pairs = _attributes.decode(key if isinstance(key, bytes) else b"")
        return [(pair.key or "", text_of(_plain_value(pair.value))) for pair in pairs or ()]
    except InvalidInput as error:
        raise ValueError(f"attributes: {error}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"attributes: {_plain(error)}") from error


def _plain_value(value: _AnyValue | None) -> Value:
    if value is None:
        return None
    found: list[Value] = []
    if value.string_value is not None:
        found.append(value.string_value)
    if value.bool_value is not None:
        found.append(value.bool_value)
    if value.int_value is not None:
        found.append(_integer(value.int_value, "intValue", low=-(2**63), high=2**63))
    if value.double_value is not None:
        found.append(_real(value.double_value, "doubleValue"))
    if value.array_value is not None:
        found.append([_plain_value(item) for item in value.array_value.values or ()])
    if value.kvlist_value is not None:
        pairs = value.kvlist_value.values or ()
        found.append({pair.key or "": _plain_value(pair.value) for pair in pairs})
    if value.bytes_value is not None:
        found.append(_base64(value.bytes_value))
    if len(found) > 1:
        raise InvalidInput("a value is of one kind")
    return found[0] if found else None


def _base64(text: str) -> str:
    """Any base64, with or without padding or for URLs, in its usual form."""
    try:
        plain = text.replace("-", "+").replace("_", "/").rstrip("=")
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("bytesValue is no base64") from error
    return base64.b64encode(raw).decode()


def _plain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"it {TOO_DEEP}"
    return str(error).replace("`", "").replace(" - at $", ", at $")
