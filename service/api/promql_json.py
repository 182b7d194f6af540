"""Results of queries as Prometheus' JSON, joined from pieces: an answer has a million numbers.

Numbers are text as Go's `strconv.FormatFloat` writes the shortest that is read back the same.
"""

import json
import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from service.domain.series import LabelPairs
from service.query.promql.evaluate import Result
from service.query.promql.expressions import ValueType
from service.query.promql.numerals import fixed, general
from service.query.promql.vectors import Array, Flags, Vector
from service.query.promql.windows import Windows
from service.storage.columns import Times

TRUNCATED = "results truncated due to limit"


def succeeded(data: bytes, warnings: Iterable[str] = (), infos: Iterable[str] = ()) -> bytes:
    """The answer around `data`, which is JSON."""
    parts = [b'{"status":"success","data":', data]
    for name, texts in ((b"warnings", list(warnings)), (b"infos", list(infos))):
        if texts:
            parts += [b',"', name, b'":', msgspec.json.encode(texts)]
    return b"".join([*parts, b"}"])


def failed(kind: str, message: str) -> bytes:
    """The answer for an error."""
    said = message.encode("utf-8", "replace").decode()
    return json.dumps({"status": "error", "errorType": kind, "error": said}).encode()


def shown(result: Result, instant: bool, limit: int | None = None) -> bytes:
    """The whole answer: at one time, or at all steps a matrix; of `limit` series at most."""
    value, warnings = result.value, list(result.warnings)
    kind = result.type
    if isinstance(value, Vector):
        if instant:
            pieces = _vector(value, result.steps.start_ms)
        else:
            kind, pieces = ValueType.MATRIX, _matrix(value, result.steps.times)
    elif isinstance(value, Windows):
        pieces = _windows(value)
    elif isinstance(value, str):
        return _answered(kind, _pair(result.steps.start_ms, _text(value)), result, warnings)
    elif instant:
        number = b'"' + numbers(value[:1])[0] + b'"'
        return _answered(kind, _pair(result.steps.start_ms, number), result, warnings)
    else:  # a scalar at many steps is a series without labels
        kind = ValueType.MATRIX
        pieces = [_series((), points(stamps(result.steps.times), value), b"values")]
    if limit is not None and len(pieces) > limit:
        pieces = pieces[:limit]
        warnings.append(TRUNCATED)
    return _answered(kind, b"[" + b",".join(pieces) + b"]", result, warnings)


def _answered(kind: ValueType, value: bytes, result: Result, warnings: Sequence[str]) -> bytes:
    data = b'{"resultType":"' + str(kind).encode() + b'","result":' + value + b"}"
    return succeeded(data, warnings, result.infos)


def _vector(vector: Vector, at_ms: int) -> list[bytes]:
    there = np.flatnonzero(vector.present[:, 0])
    texts = numbers(vector.values[there, 0])
    return [
        _series(vector.labels[i], _pair(at_ms, b'"' + text + b'"'), b"value")
        for i, text in zip(there.tolist(), texts, strict=True)
    ]


def _matrix(vector: Vector, times: Times) -> list[bytes]:
    written, pieces = stamps(times), []
    frame = _frame(written)
    order = sorted(range(len(vector.labels)), key=vector.labels.__getitem__)
    full: Flags = np.asarray(vector.present.all(axis=1))
    for i in order:
        if full[i]:
            text = frame % tuple(numbers(vector.values[i]))
        elif vector.present[i].any():
            there = np.flatnonzero(vector.present[i])
            text = points([written[k] for k in there.tolist()], vector.values[i, there])
        else:
            continue
        pieces.append(_series(vector.labels[i], text, b"values"))
    return pieces


def _windows(windows: Windows) -> list[bytes]:
    pieces = []
    for i in sorted(range(len(windows.labels)), key=windows.labels.__getitem__):
        part = slice(int(windows.first[i, 0]), int(windows.last[i, 0]))
        if part.stop > part.start:
            written = points(stamps(windows.t[part]), windows.v[part])
            pieces.append(_series(windows.labels[i], written, b"values"))
    return pieces


def _series(labels: LabelPairs, value: bytes, name: bytes) -> bytes:
    return b'{"metric":' + msgspec.json.encode(dict(labels)) + b',"' + name + b'":' + value + b"}"


def points(written: Sequence[bytes], values: Array) -> bytes:
    """`[[time,"number"],…]` of times that are written already and numbers (n,), at least one."""
    return _frame(written) % tuple(numbers(values))


def _frame(written: Sequence[bytes]) -> bytes:
    """The same with a place for each number; a second series at the same times may use it."""
    return b"[[" + b',"%b"],['.join(written) + b',"%b"]]'


def _pair(at_ms: int, value: bytes) -> bytes:
    return b"[" + _stamp(at_ms).encode() + b"," + value + b"]"


def stamps(times: Times) -> list[bytes]:
    """Milliseconds (n,) as seconds, with three places where they are no whole ones."""
    return [_stamp(t).encode() for t in times.tolist()]


def _stamp(milliseconds: int) -> str:
    sign = "-" if milliseconds < 0 else ""
    seconds, rest = divmod(abs(milliseconds), 1000)
    return f"{sign}{seconds}.{rest:03}" if rest else f"{sign}{seconds}"


def _is_plain(values: Array) -> Flags:
    """Which numbers (n,) the encoder writes as Go does, but for the end of `1.0`."""
    size = np.abs(values)
    plain: Flags = (size >= 1e-5) & (size < 1e16) | (size == 0)
    return plain


def numbers(values: Array) -> list[bytes]:
    """Each number (n,) as text, without quotes."""
    if len(values) and _is_plain(values).all():
        # The encoder writes what Go does, but for the end of `1.0`.
        written = msgspec.json.encode(values.tolist())[1:-1] + b","
        return written.replace(b".0,", b",")[:-1].split(b",")
    return [number(value).encode() for value in values.tolist()]


def number(value: float) -> str:
    """One number as text."""
    return fixed(value) if 1e-6 <= abs(value) < 1e21 or not value else general(value)


def scientific(value: float | None) -> str:
    """One number as text, always with an exponent, as alerts have it."""
    if value is None or not math.isfinite(value):
        return number(math.nan if value is None else value)
    return np.format_float_scientific(value, trim="-", exp_digits=2)


def _text(value: str) -> bytes:
    return msgspec.json.encode(value)
