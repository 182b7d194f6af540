"""Names and labels by the rules that translate OpenTelemetry to Prometheus.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

import json
import math
import re
from collections.abc import Hashable
from functools import lru_cache

from service.domain.series import Series
from service.ingest.limits import NAME_MAX, check_labels, check_name
from service.ingest.otlp_points import Attributes, AttributesOf, Head, Kind

#: An attribute's value, whatever the encoding.
Value = str | bool | int | float | list["Value"] | dict[str, "Value"] | None

#: Attributes of a point with those of its scope and its resource.
ATTRIBUTES_MAX = 64
#: Characters of a name or unit before they are translated.
TEXT_MAX = 1024

TOO_DEEP = "is nested too deep"

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
_PER = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_A_UNIT = re.compile(r"[^a-zA-Z0-9]+")
_NOT_IN_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")


def metric_name(name: str, unit: str, kind: Kind) -> str:
    """The name of a metric's series, without `_bucket` and its like; empty if nothing is left."""
    tokens = [token for token in _NOT_IN_A_NAME.split(name) if token]
    if not tokens:
        return ""
    main, _, per = unit.partition("/")
    if (word := _unit(main, _UNITS)) and word not in tokens:
        tokens.append(word)
    if (word := _unit(per, _PER)) and word not in tokens:
        tokens += ["per", word]
    if kind is Kind.COUNTER:
        tokens = [*(token for token in tokens if token != "total"), "total"]  # noqa: S105
    elif kind is Kind.GAUGE and unit.strip() == "1":
        tokens = [*(token for token in tokens if token != "ratio"), "ratio"]  # noqa: S105
    joined = "_".join(tokens)
    return f"_{joined}" if joined[0].isdigit() else joined


def _unit(unit: str, words: dict[str, str]) -> str:
    unit = unit.strip()
    if "{" in unit or "}" in unit:  # an annotation such as {request}
        return ""
    return words.get(unit, _NOT_IN_A_UNIT.sub("_", unit).strip("_"))


def label_name(key: str) -> str:
    """An attribute's key as the name of a label."""
    name = _NOT_IN_A_LABEL.sub("_", key)
    return f"key_{name}" if name[:1].isdigit() else name


def number_text(value: float) -> str:
    """A number as a label has it: the shortest that reads back, whole ones without a point."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value)).removesuffix(".0")


def text_of(value: Value) -> str:
    """An attribute's value as the value of a label; arrays and maps as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number_text(value)
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Value) -> Value:
    """JSON has no NaN; in it they are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return number_text(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def remembered(attributes_of: AttributesOf) -> AttributesOf:
    """The same, and quick at what it was asked lately: many samples share attributes."""

    @lru_cache(maxsize=16)
    def found(raw: Hashable) -> Attributes | str:
        try:
            pairs = attributes_of(raw)
        except ValueError as error:
            return str(error)
        for key, value in pairs:
            if len(key) > NAME_MAX and value:
                return f"attribute {key[:20]!r}… has {len(key)} characters; {NAME_MAX} are allowed"
        return pairs

    def pairs_of(raw: Hashable) -> Attributes:
        pairs = found(raw)
        if isinstance(pairs, str):
            raise ValueError(pairs)
        return pairs

    return pairs_of


def series_of(
    head: Head, raw: object, suffix: str, extra: tuple[str, str] | None, attributes_of: AttributesOf
) -> Series | str:
    """The series of a point, or what is wrong with it.

    `suffix` is `_bucket` and its like, `extra` the label `le` or `quantile`.
    """
    for what, text in (("name", head.name), ("unit", head.unit)):
        if len(text) > TEXT_MAX:
            return f"{what} has {len(text)} characters; {TEXT_MAX} are allowed"
    name = metric_name(head.name, head.unit, head.kind) + suffix
    if not metric_name(head.name, "", head.kind):
        return "name is empty" if not head.name else f"name {head.name[:80]!r} has no letter in it"
    if problem := check_name(name):
        return problem
    try:
        resource = attributes_of(head.resource)
        scope = attributes_of(head.scope_attributes)
        own = attributes_of(raw)
    except ValueError as error:
        return str(error)
    count = len(resource) + len(scope) + len(own)
    if count > ATTRIBUTES_MAX:
        return f"{count} attributes of point, scope and resource; {ATTRIBUTES_MAX} are allowed"
    labels = labels_of(resource, head.scope_name, head.scope_version, scope, own, extra)
    if problem := check_labels(labels):
        return problem
    return Series.of(name, labels, head.kind.metric_type)


def labels_of(
    resource: Attributes,
    scope_name: str,
    scope_version: str,
    scope: Attributes,
    own: Attributes,
    extra: tuple[str, str] | None,
) -> dict[str, str]:
    """Labels of a series. Those that are ours win; an attribute of that name is `exported_…`."""
    ours, rest = _identity(resource)
    if scope_name:
        ours["otel_scope_name"] = scope_name
    if scope_version:
        ours["otel_scope_version"] = scope_version
    if extra is not None:
        ours[extra[0]] = extra[1]
    pairs = [*rest, *((f"otel_scope_{key}", value) for key, value in scope), *own]
    joined: dict[str, list[tuple[str, str]]] = {}
    # Sorted by key, so that labels do not depend on the sender's order; the sort is stable.
    for key, value in sorted(pairs, key=lambda pair: pair[0]):
        if not value:
            continue
        name = label_name(key)
        values = joined.setdefault(f"exported_{name}" if name in ours else name, [])
        if (key, value) not in values:
            values.append((key, value))
    labels = {name: ";".join(value for _, value in values) for name, values in joined.items()}
    return labels | ours


def _identity(resource: Attributes) -> tuple[dict[str, str], Attributes]:
    """`job` and `instance` of a resource, and its attributes that are in neither."""
    known = dict(resource)
    ours: dict[str, str] = {}
    used: set[str] = set()
    if service := known.get("service.name"):
        namespace = known.get("service.namespace")
        ours["job"] = f"{namespace}/{service}" if namespace else service
        used |= {"service.name", "service.namespace"}
    if instance := known.get("service.instance.id"):
        ours["instance"] = instance
        used.add("service.instance.id")
    return ours, [(key, value) for key, value in resource if key not in used]
