"""OTLP metrics in JSON, with `json.loads`.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. Attributes that are none spoil
their points; anything else that is not what the schema says spoils the request. Numbers in metrics
that are not taken are not looked into beyond being numbers or text.
"""

import base64
import binascii
import math
from typing import Any

from tests.support.slow_decoders.otlp_mapping import Metric, Pairs, Point, add
from tests.support.slow_decoders.result import Read, Refused
from tests.support.slow_decoders.strict_json import Members, Number, is_text, parse

_DATA = {
    "gauge": "gauge",
    "sum": "sum",
    "histogram": "histogram",
    "summary": "summary",
    "exponentialHistogram": "exponential_histogram",
}
_TEMPORALITIES = {
    "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
    "AGGREGATION_TEMPORALITY_DELTA": 1,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
}

# Kinds of members: text, a number (or text), true or false, anything, a message or a list of them.
TEXT, NUMBER, BOOLEAN, ANYTHING = "text", "number", "boolean", "anything"
_COMMON = {"attributes": ANYTHING, "timeUnixNano": NUMBER, "flags": NUMBER}
_NUMBER_POINT = {**_COMMON, "asDouble": NUMBER, "asInt": NUMBER}
_HISTOGRAM_POINT = {
    **_COMMON,
    "count": NUMBER,
    "sum": NUMBER,
    "bucketCounts": [NUMBER],
    "explicitBounds": [NUMBER],
}
_QUANTILE = {"quantile": NUMBER, "value": NUMBER}
_SUMMARY_POINT = {**_COMMON, "count": NUMBER, "sum": NUMBER, "quantileValues": [_QUANTILE]}
_METRIC = {
    "name": TEXT,
    "unit": TEXT,
    "gauge": {"dataPoints": [_NUMBER_POINT]},
    "sum": {
        "dataPoints": [_NUMBER_POINT],
        "aggregationTemporality": NUMBER,
        "isMonotonic": BOOLEAN,
    },
    "histogram": {"dataPoints": [_HISTOGRAM_POINT], "aggregationTemporality": NUMBER},
    "summary": {"dataPoints": [_SUMMARY_POINT]},
    "exponentialHistogram": {"dataPoints": [ANYTHING]},
}
_REQUEST = {
    "resourceMetrics": [
        {
            "resource": {"attributes": ANYTHING},
            "scopeMetrics": [
                {
                    "scope": {"name": TEXT, "version": TEXT, "attributes": ANYTHING},
                    "metrics": [_METRIC],
                }
            ],
        }
    ]
}
_VALUE: dict[str, Any] = {
    "stringValue": TEXT,
    "boolValue": BOOLEAN,
    "intValue": NUMBER,
    "doubleValue": NUMBER,
    "bytesValue": TEXT,
}
_KEY_VALUE = {"key": TEXT, "value": _VALUE}
_VALUE["arrayValue"] = {"values": [_VALUE]}
_VALUE["kvlistValue"] = {"values": [_KEY_VALUE]}


def read(body: bytes) -> Read:
    """The samples of an ExportMetricsServiceRequest; an item is a data point. Raises `Refused`."""
    found = parse(body)
    request = _message(found, _REQUEST)
    if request is None:
        raise Refused("null")
    result, index = Read(), 0
    for of_resource in request.get("resourceMetrics", ()):
        resource = _attributes(of_resource.get("resource", {}).get("attributes", []))
        for of_scope in of_resource.get("scopeMetrics", ()):
            scope = of_scope.get("scope", {})
            pairs = _attributes(scope.get("attributes", []))
            for raw in of_scope.get("metrics", ()):
                index = add(result, index, _metric(resource, scope, pairs, raw))
    return result


def _message(value: Any, schema: Any) -> Any:
    """A value by its schema, with `null` as if absent. Raises `Refused`."""
    if schema is ANYTHING:
        return value
    if value is None:
        return None
    if isinstance(schema, list):
        if isinstance(value, Members) or not isinstance(value, list):
            raise Refused("no array")
        items = [_message(item, schema[0]) for item in value]
        if None in items and schema[0] not in (NUMBER, ANYTHING):
            raise Refused("null in an array")
        return items
    if isinstance(schema, dict):
        if not isinstance(value, Members):
            raise Refused("no object")
        found = {}
        for key, item in value:
            if key in schema:
                found[key] = _message(item, schema[key])
        # An attribute's own null says something else than no attributes.
        return {k: v for k, v in found.items() if v is not None or schema[k] is ANYTHING}
    is_number = isinstance(value, Number)
    right = {
        TEXT: is_text(value),
        NUMBER: _readable(value) if is_number else is_text(value),
        BOOLEAN: isinstance(value, bool),
    }
    if not right[schema]:
        raise Refused(f"no {schema}")
    return value


def _readable(number: Number) -> bool:
    return len(number) <= 4300 if number.whole else abs(float(number)) != math.inf


def _metric(resource: Pairs, scope: Any, scope_pairs: Pairs, raw: Any) -> Metric:
    given = [key for key in _DATA if key in raw]
    if len(given) > 1:
        raise Refused("more than one kind of data")
    which = given[0] if given else ""
    data = raw.get(which, {})
    temporality = 0
    if which in ("sum", "histogram"):
        temporality = _temporality(data.get("aggregationTemporality"))
    taken = which in ("gauge", "summary") or temporality in (1, 2)
    return Metric(
        resource=resource,
        scope_name=scope.get("name", ""),
        scope_version=scope.get("version", ""),
        scope=scope_pairs,
        name=raw.get("name", ""),
        unit=raw.get("unit", ""),
        data=_DATA.get(which, ""),
        temporality=temporality,
        monotonic=data.get("isMonotonic", False),
        points=[
            _point(which, point) if taken else Point(None, 0, 0)
            for point in data.get("dataPoints", ())
        ],
    )


def _temporality(value: Any) -> int:
    if value in _TEMPORALITIES and not isinstance(value, Number):
        return _TEMPORALITIES[value]
    return _integer(value, -(2**31), 2**31 - 1)


def _point(which: str, raw: Any) -> Point:
    found = Point(
        _attributes(raw.get("attributes", [])),
        _integer(raw.get("timeUnixNano")),
        _integer(raw.get("flags"), 0, 2**32 - 1),
    )
    if which in ("gauge", "sum"):
        if "asDouble" in raw and "asInt" in raw:
            raise Refused("two values")
        if "asDouble" in raw:
            found.value = _real(raw["asDouble"])
        elif "asInt" in raw:
            found.value = float(_integer(raw["asInt"], -(2**63), 2**63 - 1))
        return found
    found.count = _integer(raw.get("count"))
    if "sum" in raw or which == "summary":
        found.sum = _real(raw.get("sum"))
    found.counts = [_integer(item) for item in raw.get("bucketCounts", ())]
    found.bounds = [_real(item) for item in raw.get("explicitBounds", ())]
    found.quantiles = [
        (_real(item.get("quantile")), _real(item.get("value")))
        for item in raw.get("quantileValues", ())
    ]
    return found


def _is_decimal(text: str) -> bool:
    return text != "" and all(c in "0123456789" for c in text)


def _integer(value: Any, low: int = 0, high: int = 2**64 - 1) -> int:
    if value is None:
        return 0
    if isinstance(value, Number) and not value.whole:
        real = float(value)
        if real != math.floor(real):
            raise Refused("no integer")
        number = int(real)
    else:
        digits = value[1:] if value.startswith("-") else value
        if not _is_decimal(digits) or (len(digits) > 20 and not isinstance(value, Number)):
            raise Refused("no integer")
        number = int(value)
    if not low <= number <= high:
        raise Refused("beyond its bits")
    return number


def _real(value: Any) -> float:
    if value is None:
        return 0.0
    if not isinstance(value, Number) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    text = str(value)
    mantissa, e, exponent = text.replace("E", "e").partition("e")
    whole, point, fraction = mantissa.partition(".")
    if whole.startswith("-"):
        whole = whole[1:]
    if exponent[:1] in ("+", "-"):
        exponent = exponent[1:]
    parts = [whole, *([fraction] if point else []), *([exponent] if e else [])]
    if not all(map(_is_decimal, parts)):
        raise Refused("no number")
    real = value.real() if isinstance(value, Number) else float(text)
    if math.isinf(real):
        raise Refused("beyond a double")
    return real


def _attributes(value: Any) -> Pairs:
    try:
        found = _message(value, [_KEY_VALUE])
        return [(item.get("key", ""), _value(item.get("value"))) for item in found or ()]
    except Refused:
        return None


def _value(raw: Any) -> Any:
    if not raw:
        return None
    if len(raw) > 1:
        raise Refused("more than one kind of value")
    [(kind, value)] = raw.items()
    if kind == "intValue":
        return _integer(value, -(2**63), 2**63 - 1)
    if kind == "doubleValue":
        return _real(value)
    if kind == "arrayValue":
        return [_value(item) for item in value.get("values", ())]
    if kind == "kvlistValue":
        return {item.get("key", ""): _value(item.get("value")) for item in value.get("values", ())}
    if kind == "bytesValue":
        return _bytes(value)
    return value


def _bytes(text: str) -> bytes:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("no base64") from error
