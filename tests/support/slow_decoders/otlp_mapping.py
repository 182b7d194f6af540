"""From OpenTelemetry's metrics to samples, rule by rule.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

import base64
import json
import math
from dataclasses import dataclass, field
from typing import Any

from tests.support.slow_decoders.result import Labels, Read, bits_of, series

STALE = 0x7FF0000000000002

_ASCII = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month"} | {
    "y": "year"
}

#: Attributes in the sender's order, or None if one of them cannot be read.
Pairs = list[tuple[str, Any]] | None


@dataclass
class Point:
    """A data point; `value` is None where there is none."""

    attributes: Pairs
    t_nano: int
    flags: int
    value: float | None = None
    count: int = 0
    sum: float | None = None
    counts: list[int] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    quantiles: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Metric:
    """A metric; `data` is gauge, sum, histogram, summary or exponential histogram, or empty."""

    resource: Pairs
    scope_name: str
    scope_version: str
    scope: Pairs
    name: str
    unit: str
    data: str
    temporality: int
    monotonic: bool
    points: list[Point]


def add(result: Read, index: int, metric: Metric) -> int:
    """Add what a metric holds, its first point being `index`; gives the index that follows."""
    untold = metric.data in ("sum", "histogram") and metric.temporality not in (1, 2)
    for point in metric.points:
        if (
            untold
            or metric.data == "exponential_histogram"
            or not _point(result, index, metric, point)
        ):
            result.rejected.add(index)
        index += 1
    return index


def _point(result: Read, index: int, metric: Metric, point: Point) -> bool:
    """Whether the point is right; one of its series may still not be."""
    ended = point.flags % 2 == 1
    if point.t_nano == 0:
        return False
    # Suffix of the name, label, value.
    samples: list[tuple[str, tuple[str, str] | None, float]] = []
    if metric.data in ("gauge", "sum"):
        if point.value is None and not ended:
            return False
        samples.append(("", None, point.value or 0.0))
        if point.value is not None:
            samples[0] = ("", None, point.value)
    elif metric.data == "summary":
        for quantile, value in point.quantiles:
            if not (quantile >= 0 and quantile <= 1):
                return False
            samples.append(("", ("quantile", _real_text(quantile)), value))
        samples.append(("_sum", None, point.sum or 0.0))
        if point.sum is not None:
            samples[-1] = ("_sum", None, point.sum)
        samples.append(("_count", None, float(point.count)))
    else:
        if point.counts:
            if len(point.bounds) != len(point.counts) - 1 or sum(point.counts) != point.count:
                return False
            if not all(map(math.isfinite, point.bounds)):
                return False
            if any(a >= b for a, b in zip(point.bounds, point.bounds[1:], strict=False)):
                return False
            for place, bound in enumerate(point.bounds):
                below = float(sum(point.counts[: place + 1]))
                samples.append(("_bucket", ("le", _real_text(bound)), below))
        elif point.bounds and not ended:
            return False
        samples.append(("_bucket", ("le", "+Inf"), float(point.count)))
        if point.sum is not None or ended:
            samples.append(("_sum", None, point.sum or 0.0))
            if point.sum is not None:
                samples[-1] = ("_sum", None, point.sum)
        samples.append(("_count", None, float(point.count)))
    for suffix, extra, value in samples:
        bits = STALE if ended else bits_of(value)
        labels = _labels(metric, point, suffix, extra)
        result.add(index, labels, _type(metric), point.t_nano // 10**6, bits)
    return True


def _type(metric: Metric) -> str:
    if metric.data == "summary":
        return "summary"
    if metric.temporality != 2:
        return "gauge"
    if metric.data == "histogram":
        return "histogram"
    return "counter" if metric.data == "sum" and metric.monotonic else "gauge"


def _words(text: str, more: str) -> list[str]:
    """The parts of letters, digits and `more`."""
    return "".join(c if c in _ASCII + more else " " for c in text).split(" ")


def _name(metric: Metric) -> str:
    words = [word for word in _words(metric.name, ":") if word]
    if not words:
        return ""
    unit, _, per = metric.unit.partition("/")
    for text, known, before in ((unit, _UNITS, []), (per, _PER, ["per"])):
        text = text.strip()
        if "{" in text or "}" in text:
            continue
        word = known.get(text)
        if word is None:
            word = "_".join(part for part in _words(text, "") if part)
        if word and word not in words:
            words += [*before, word]
    last = ""
    if metric.data == "sum" and metric.monotonic and metric.temporality == 2:
        last = "total"
    elif metric.data == "gauge" and metric.unit.strip() == "1":
        last = "ratio"
    if last:
        words = [word for word in words if word != last] + [last]
    name = "_".join(words)
    return "_" + name if name[0] in "0123456789" else name


def _labels(
    metric: Metric, point: Point, suffix: str, extra: tuple[str, str] | None
) -> Labels | None:
    name = _name(metric)
    if not name or metric.resource is None or metric.scope is None or point.attributes is None:
        return None
    # More would be work without end: each sample has all of them.
    if len(metric.name) > 1024 or len(metric.unit) > 1024:
        return None
    if len(metric.resource) + len(metric.scope) + len(point.attributes) > 64:
        return None
    resource = [(key, text_of(value)) for key, value in metric.resource]
    known = dict(resource)
    ours: dict[str, str] = {}
    taken: list[str] = []
    if known.get("service.name"):
        ours["job"] = known["service.name"]
        if known.get("service.namespace"):
            ours["job"] = known["service.namespace"] + "/" + known["service.name"]
        taken += ["service.name", "service.namespace"]
    if known.get("service.instance.id"):
        ours["instance"] = known["service.instance.id"]
        taken.append("service.instance.id")
    if metric.scope_name:
        ours["otel_scope_name"] = metric.scope_name
    if metric.scope_version:
        ours["otel_scope_version"] = metric.scope_version
    if extra:
        ours[extra[0]] = extra[1]
    pairs = [(key, value) for key, value in resource if key not in taken]
    pairs += [("otel_scope_" + key, text_of(value)) for key, value in metric.scope]
    pairs += [(key, text_of(value)) for key, value in point.attributes]
    values: dict[str, list[tuple[str, str]]] = {}
    for key, text in sorted(pairs, key=lambda pair: pair[0]):
        label = "".join(c if c in _ASCII + "_" else "_" for c in key)
        if label and label[0] in "0123456789":
            label = "key_" + label
        if label in ours:
            label = "exported_" + label
        if text and (key, text) not in values.setdefault(label, []):
            values[label].append((key, text))
    labels = {key: ";".join(text for _, text in found) for key, found in values.items() if found}
    return series(name + suffix, {**labels, **ours})


def _real_text(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


def text_of(value: Any) -> str:
    """An attribute's value as a label's. Bytes are base64, arrays and maps JSON."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _real_text(value)
    return str(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.standard_b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return _real_text(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
