"""Prometheus' functions of templates: queries, text, numbers and times."""

import ipaddress
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, urlsplit

import re2

from service.domain.durations import duration_ms
from service.domain.errors import InvalidInput
from service.rules.go_format import Loose, Moment, Sample, Span, float_text, quoted, type_name
from service.rules.template_registry import (
    ANY,
    SAMPLE,
    TEXT,
    VECTOR,
    CallFailed,
    Surroundings,
    function,
)

# Those of Prometheus: queries


@function("query", TEXT)
def _query(around: Surroundings, text: str) -> list[Sample]:
    try:
        return around.query(text)
    except InvalidInput as error:
        raise CallFailed(str(error)) from error


@function("first", VECTOR)
def _first(_: Surroundings, vector: list[Sample]) -> Sample:
    if not vector:
        raise CallFailed("first() called on vector with no elements")
    return vector[0]


@function("label", TEXT, SAMPLE)
def _label(_: Surroundings, name: str, sample: Sample) -> str:
    return sample.labels.get(name, "")


@function("value", SAMPLE)
def _value(_: Surroundings, sample: Sample) -> float:
    return sample.value


@function("strvalue", SAMPLE)
def _strvalue(_: Surroundings, sample: Sample) -> str:
    return sample.labels.get("__value__", "")


@function("args", rest=ANY)
def _args(_: Surroundings, *values: Any) -> Loose:
    return Loose({f"arg{i}": value for i, value in enumerate(values)})


@function("sortByLabel", TEXT, VECTOR)
def _sorted(_: Surroundings, label: str, vector: list[Sample]) -> list[Sample]:
    return sorted(vector, key=lambda sample: _natural(sample.labels.get(label, "")))


def _natural(text: str) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"\d+|\D+", text, re.ASCII)
    return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


# Those of Prometheus: text


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = 1 << 20
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        what, _, where = reason.replace("missing )", "missing closing )").partition(": ")
        raise CallFailed(f"error parsing regexp: {what}: `{where or pattern}`") from error


_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)


@function("reReplaceAll", TEXT, TEXT, TEXT)
def _replaced(_: Surroundings, pattern: str, replacement: str, text: str) -> str:
    try:
        compiled = _compiled(pattern)
    except CallFailed as failed:
        raise CallFailed(f"regexp: Compile(`{pattern}`): {failed}") from failed

    def written(found: Any) -> str:
        def reference(mark: re.Match[str]) -> str:
            name = mark[1] or mark[2]
            if name is None:
                return "$"
            if name.isdigit():
                inside = int(name) <= compiled.groups
                return (found.group(int(name)) or "") if inside else ""
            return (found.group(name) or "") if name in compiled.groupindex else ""

        return _REFERENCE.sub(reference, replacement)

    return str(compiled.sub(written, text))


@function("match", TEXT, TEXT)
def _match(_: Surroundings, pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@function("title", TEXT)
def _title(_: Surroundings, text: str) -> str:
    return re.sub(r"\w+", lambda found: found[0][:1].upper() + found[0][1:], text)


@function("toUpper", TEXT)
def _upper(_: Surroundings, text: str) -> str:
    return text.upper()


@function("toLower", TEXT)
def _lower(_: Surroundings, text: str) -> str:
    return text.lower()


@function("safeHtml", TEXT)
def _safe_html(_: Surroundings, text: str) -> str:
    return text


@function("urlQueryEscape", TEXT)
def _url_query_escape(_: Surroundings, text: str) -> str:
    return quote_plus(text, safe="~")


@function("graphLink", TEXT)
def _graph_link(_: Surroundings, text: str) -> str:
    return f"/graph?g0.expr={quote_plus(text, safe='~')}&g0.tab=0"


@function("tableLink", TEXT)
def _table_link(_: Surroundings, text: str) -> str:
    return f"/graph?g0.expr={quote_plus(text, safe='~')}&g0.tab=1"


def _split(address: str) -> tuple[str, str] | None:
    """Host and port of `host:port` or `[host]:port`."""
    found = re.fullmatch(r"\[([^\[\]]*)\]:([^:\[\]]*)|([^:\[\]]*):([^:\[\]]*)", address)
    if found is None:
        return None
    return (found[1], found[2]) if found[1] is not None else (found[3], found[4])


@function("stripPort", TEXT)
def _strip_port(_: Surroundings, address: str) -> str:
    found = _split(address)
    return address if found is None else found[0]


@function("stripDomain", TEXT)
def _strip_domain(_: Surroundings, address: str) -> str:
    host, port = _split(address) or (address, "")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        short = host.split(".", 1)[0]
        return f"{short}:{port}" if port else short
    return address


@function("pathPrefix")
def _path_prefix(around: Surroundings) -> str:
    return urlsplit(around.external_url).path


@function("externalURL")
def _external_url(around: Surroundings) -> str:
    return around.external_url


# Those of Prometheus: numbers


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise CallFailed("can't convert bool to float")
    if isinstance(value, float | int):
        return float(value)
    if isinstance(value, Span):
        return value.ns / 1e9
    if isinstance(value, str):
        word = value.lower().lstrip("+-")
        if word in ("inf", "infinity", "nan") or re.fullmatch(
            r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?", value, re.ASCII
        ):
            return float(value)
        raise CallFailed(f"strconv.ParseFloat: parsing {quoted(value)}: invalid syntax")
    raise CallFailed(f"can't convert {type_name(value)} to float")


def _four(value: float) -> str:
    return float_text(value, "g", 4)


def _scaled(value: float, step: float, prefixes: Sequence[str]) -> str:
    prefix = ""
    for name in prefixes:
        if abs(value) < step:
            break
        prefix, value = name, value / step
    return _four(value) + prefix


def _small(value: float) -> str:
    prefix = ""
    for name in "munpfazy":
        if abs(value) >= 1:
            break
        prefix, value = name, value * 1000
    return _four(value) + prefix


@function("humanize", ANY)
def _humanize(_: Surroundings, number: Any) -> str:
    value = _float(number)
    if value == 0 or not math.isfinite(value):
        return _four(value)
    return _scaled(value, 1000, "kMGTPEZY") if abs(value) >= 1 else _small(value)


@function("humanize1024", ANY)
def _humanize1024(_: Surroundings, number: Any) -> str:
    value = _float(number)
    if abs(value) <= 1 or not math.isfinite(value):
        return _four(value)
    return _scaled(value, 1024, [f"{letter}i" for letter in "kMGTPEZY"])


@function("humanizeDuration", ANY)
def _humanize_duration(_: Surroundings, number: Any) -> str:
    value = _float(number)
    if not math.isfinite(value):
        return _four(value)
    if value == 0:
        return f"{_four(value)}s"
    if abs(value) < 1:
        return f"{_small(value)}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return f"{sign}{_four(value)}s"


@function("humanizePercentage", ANY)
def _humanize_percentage(_: Surroundings, number: Any) -> str:
    return f"{_four(_float(number) * 100)}%"


def _moment(value: float) -> Moment:
    if not math.isfinite(value):
        raise CallFailed("value is NaN or Inf")
    if abs(value) * 1e9 >= 2**63:
        raise CallFailed(
            f"{float_text(value)} cannot be represented as a nanoseconds timestamp since it "
            "overflows int64"
        )
    nanoseconds = int(value * 1e9)
    return Moment(int(nanoseconds / 1_000_000) if nanoseconds < 0 else nanoseconds // 1_000_000)


@function("humanizeTimestamp", ANY)
def _humanize_timestamp(_: Surroundings, number: Any) -> str:
    value = _float(number)
    return str(_moment(value)) if math.isfinite(value) else _four(value)


@function("toTime", ANY)
def _to_time(_: Surroundings, number: Any) -> Moment:
    return _moment(_float(number))


@function("toDuration", ANY)
def _to_duration(_: Surroundings, number: Any) -> Span:
    value = _float(number)
    if not math.isfinite(value):
        raise CallFailed("value is NaN or Inf")
    if abs(value) * 1e9 >= 2**63:
        raise CallFailed(
            f"{float_text(value)} cannot be represented as a nanoseconds timestamp since it "
            "overflows int64"
        )
    return Span(int(value * 1e9))


@function("now")
def _now(around: Surroundings) -> float:
    return around.now_ms / 1000


@function("parseDuration", TEXT)
def _parse_duration(_: Surroundings, text: str) -> float:
    try:
        return duration_ms(text) / 1000
    except InvalidInput as error:
        raise CallFailed(str(error).replace("'", '"')) from error
