"""JSON metrics to columns.

A sample's labels stay raw bytes: with the name they are the key of the tenant's series cache, so
that labels are parsed, checked and sorted once a series and not once a sample. A body that does
not decode as a whole is decoded item by item, so that a bad item is named and the others kept.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np

from service.domain.errors import InvalidInput
from service.domain.series import MetricType, Series
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded, MadeLate
from service.ingest.limits import check_labels, check_name

#: Not a time, in seconds, from here on.
_NO_SECONDS = 1e15
#: From so many bytes on, columns of all items at once cost less than one item after the other.
_MANY = 2000
_NO_LABELS = msgspec.Raw(b"{}")


class Metric(msgspec.Struct, gc=False):
    """One item of a body."""

    name: str
    value: float
    timestamp: float | str | None = None
    metric_type: Literal["gauge", "counter", "histogram", "summary"] = "gauge"
    labels: msgspec.Raw = _NO_LABELS
    tenant_id: str | None = None


class _Usual(msgspec.Struct, gc=False):
    """One with a time in seconds, as nearly all are."""

    name: str
    value: float
    timestamp: float
    metric_type: Literal["gauge", "counter", "histogram", "summary"] = "gauge"
    labels: msgspec.Raw = _NO_LABELS
    tenant_id: str | None = None


_usual_batch = msgspec.json.Decoder(list[_Usual])
_batch = msgspec.json.Decoder(list[Metric])
_raw_batch = msgspec.json.Decoder(list[msgspec.Raw])
_one = msgspec.json.Decoder(Metric)
_labels = msgspec.json.Decoder(dict[str, str])
_encoder = msgspec.json.Encoder()


def decode(body: bytes, tenant: str, answer: Answer) -> Decoded:
    """Columns of a body; bad items go into `answer`. `InvalidInput` if it is no metrics at all."""
    start = body.lstrip(b" \t\r\n")[:1]
    if start == b"{":
        body = b"[" + body + b"]"
    elif start != b"[":
        raise InvalidInput("the body is a metric or an array of metrics, in JSON")
    usual = _usual(body, tenant) if len(body) >= _MANY else None
    if usual is not None:
        return usual
    metrics: Sequence[Metric | None]
    try:
        metrics = _batch.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        metrics = _one_by_one(body, answer)
    return _each(metrics, tenant, answer)


def _usual(body: bytes, tenant: str) -> Decoded | None:
    """Columns of items that all have a time in seconds and name no other tenant, else None."""
    try:
        metrics = _usual_batch.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    seconds = np.array([metric.timestamp for metric in metrics], np.float64)
    if not {metric.tenant_id for metric in metrics} <= {None, tenant}:
        return None
    if not (np.abs(seconds) < _NO_SECONDS).all():
        return None
    names = [metric.name for metric in metrics]
    labels = [metric.labels for metric in metrics]
    # Each value in a line of its own, so that none can be taken for a part of another.
    text = _encoder.encode_lines([names, *labels])
    return Decoded(
        protocol="json",
        index=range(len(metrics)),
        keys=MadeLate(len(metrics), lambda: list(zip(names, map(bytes, labels), strict=True))),
        t_ms=np.rint(seconds * 1000).astype(np.int64),
        values=np.array([metric.value for metric in metrics], np.float64),
        series=lambda row: _series(names[row], bytes(labels[row]), metrics[row].metric_type),
        name=lambda row: names[row],
        text=text if text.count(b"\n") == len(metrics) + 1 else None,
    )


def _each(metrics: Sequence[Metric | None], tenant: str, answer: Answer) -> Decoded:
    """Columns of the items one by one; bad ones go into `answer`, None is one that was named."""
    indexes: list[int] = []
    keys: list[tuple[str, bytes]] = []
    types: list[str] = []
    times: list[int] = []
    values: list[float] = []
    for index, metric in enumerate(metrics):
        if metric is None:
            continue
        t_ms = NO_TIME
        timestamp = metric.timestamp
        if isinstance(timestamp, float):
            if not abs(timestamp) < _NO_SECONDS:
                answer.reject(index, metric.name, f"timestamp {timestamp:g} is no time")
                continue
            t_ms = round(timestamp * 1000)
        elif timestamp is not None:
            found = _iso_ms(timestamp)
            if isinstance(found, str):
                answer.reject(index, metric.name, found)
                continue
            t_ms = found
        if metric.tenant_id is not None and metric.tenant_id != tenant:
            answer.reject(
                index, metric.name, "tenant_id is not the tenant of the key; leave it out"
            )
            continue
        indexes.append(index)
        keys.append((metric.name, bytes(metric.labels)))
        types.append(metric.metric_type)
        times.append(t_ms)
        values.append(metric.value)
    return Decoded(
        protocol="json",
        index=indexes,
        keys=keys,
        t_ms=np.array(times, np.int64),
        values=np.array(values, np.float64),
        series=lambda row: _series(*keys[row], types[row]),
        name=lambda row: keys[row][0],
    )


def _one_by_one(body: bytes, answer: Answer) -> list[Metric | None]:
    try:
        raws = _raw_batch.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not valid JSON: {_plain(error)}") from error
    metrics: list[Metric | None] = []
    for index, raw in enumerate(raws):
        try:
            metrics.append(_one.decode(raw))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            metrics.append(None)
            answer.reject(index, _name_of(raw), _plain(error))
    return metrics


class _Named(msgspec.Struct):
    name: str = ""


_named = msgspec.json.Decoder(_Named)


def _name_of(raw: msgspec.Raw) -> str:
    try:
        return _named.decode(raw).name[:128]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


def _plain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return str(error).replace("`", "").replace("$[0]", "$").replace(" - at $", ", at $")


def _iso_ms(text: str) -> int | str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return f"timestamp {text[:40]!r} is neither Unix seconds nor ISO 8601"
    if moment.tzinfo is None:
        return f"timestamp {text!r} has no zone; add Z or an offset such as +02:00"
    try:
        return round(moment.timestamp() * 1000)
    except (OverflowError, ValueError):
        return f"timestamp {text!r} is out of range"


def _series(name: str, raw: bytes, metric_type: str) -> Series | str:
    if problem := check_name(name):
        return problem
    try:
        labels = _labels.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return f"labels: {_plain(error)}"
    if problem := check_labels(labels):
        return problem
    return Series.of(name, labels, MetricType(metric_type))
