"""Prometheus remote write 1.0 to columns.

https://prometheus.io/docs/specs/prw/remote_write_spec/. A body is snappy (block format) around
`WriteRequest{timeseries=1}`, `TimeSeries{labels=1, samples=2, exemplars=3, histograms=4}`,
`Label{name=1, value=2}`, `Sample{double value=1, int64 timestamp_ms=2}`.

The raw bytes of a series' labels are the key of the tenant's series cache, so that labels are
parsed once a series. A request as Prometheus writes most, each series of labels with one sample at
its end, is cut up by its samples, all at once with numpy; that each cut is where a series must end
is then checked by the lengths. Of other requests the series are found one by one; those of labels
and then samples, however many, are cut up together, and any that look different are walked field by
field.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, repeat

import cramjam
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import NAME, MetricType, Series
from service.ingest.answer import Answer
from service.ingest.decoded import NO_TIME, Decoded
from service.ingest.inflate import INFLATED_MAX
from service.ingest.limits import LABELS_MAX, check_labels, check_name
from service.ingest.protobuf import (
    BYTES,
    FIXED64,
    LENGTH_BYTES,
    VARINT,
    Malformed,
    field_at,
    fields,
    signed,
    tag_of,
    varint,
)
from service.storage.columns import Times, Values

#: Series, and samples, in a request.
ITEMS_MAX = 250_000
#: Largest labels of a series, as sent.
_KEY_MAX = 64 << 10

_SERIES = _LABEL = tag_of(1, BYTES)
_SAMPLE = tag_of(2, BYTES)
_HISTOGRAM = tag_of(4, BYTES)
_LABEL_NAME, _LABEL_VALUE = tag_of(1, BYTES), tag_of(2, BYTES)
_VALUE, _TIMESTAMP = tag_of(1, FIXED64), tag_of(2, VARINT)

_FRAMED = b"\xff\x06\x00\x00sNaPpY"
# How Prometheus names what only grows; the type itself it sends apart from the samples, or never.
_COUNTERS = ("_total", "_bucket", "_count", "_sum")

_EIGHT, _SIX = np.arange(8), np.arange(6)
_SIX_WEIGHTS = np.left_shift(np.int64(1), 7 * _SIX.astype(np.int64))

Offsets = NDArray[np.int64]


def inflate(body: bytes) -> bytes:
    """The message in a body. `InvalidInput` if it is no snappy block, `TooLarge`."""
    if body.startswith(_FRAMED):
        raise InvalidInput("the body is snappy in the framed format; remote write takes the block")
    try:
        size, _ = varint(body, 0, len(body), LENGTH_BYTES)
    except Malformed as error:
        raise InvalidInput("the body is not snappy: it does not begin with its length") from error
    if size > INFLATED_MAX:
        raise TooLarge(f"the body inflates to {size} bytes; {INFLATED_MAX} are taken at once")
    try:
        inflated = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise InvalidInput(f"the body is not snappy: {error}") from error
    if len(inflated) != size:
        raise InvalidInput(f"the body inflates to {len(inflated)} bytes and declares {size}")
    return inflated


def decode(message: bytes, answer: Answer) -> Decoded:
    """Columns of a `WriteRequest`; native histograms go into `answer`.

    An item's index is that of its series in the request. Metadata and exemplars are left out.
    Values keep their bits: Prometheus tells NaN of a series' end from other NaN. Raises
    `InvalidInput` if it is no such message, `TooLarge`.
    """
    try:
        return _decode(message, answer)
    except Malformed as error:
        raise InvalidInput(f"the body is no prometheus.WriteRequest: {error}") from error


def _decode(message: bytes, answer: Answer) -> Decoded:
    if (regular := _regular(message)) is not None:
        keys, t, v = regular
        return _decoded(range(len(keys)), keys, t, v)
    starts, ends = _spans(message)
    labels_end, counts, t, v = _plain(message, starts, ends)
    plain = counts > 0
    cuts = zip(starts[plain].tolist(), labels_end[plain].tolist(), strict=True)
    each = [message[a:b] for a, b in cuts]
    keys = list(chain.from_iterable(map(repeat, each, counts[plain].tolist())))
    rows: list[int] = np.repeat(np.arange(len(starts)), counts).tolist()
    if not plain.all():
        odd = _Odd(message)
        for row in np.flatnonzero(~plain).tolist():
            odd.walk(row, int(starts[row]), int(ends[row]), answer)
        rows, keys = rows + odd.rows, keys + odd.keys
        # Of equal timestamps the last written wins, so the order of the request counts.
        order = np.argsort(np.array(rows, np.int64), kind="stable").tolist()
        rows, keys = [rows[i] for i in order], [keys[i] for i in order]
        t = np.concatenate([t, np.array(odd.times, np.int64)])[order]
        v = np.concatenate([v, np.array(odd.bits, np.uint64).view(np.float64)])[order]
    return _decoded(rows, keys, t, v)


def _decoded(rows: Sequence[int], keys: list[bytes], t: Times, v: Values) -> Decoded:
    # A series may have many samples, and labels that take long to read.
    named = lru_cache(maxsize=16)(name_of)
    return Decoded(
        protocol="remote_write",
        index=rows,
        keys=keys,
        t_ms=np.maximum(t, NO_TIME + 1),
        values=v,
        series=lambda row: series_of(keys[row]),
        name=lambda row: named(keys[row]),
    )


def _regular(message: bytes) -> tuple[list[bytes], Times, Values] | None:
    """Labels (n,), t, v (n,) of a message of nothing but usual series; None for any other.

    Where a sample may stand is guessed from its tags. The guess holds if the series that end with
    these samples fill the message, each of the length that it declares, and if what stands before
    each sample is labels.
    """
    size = len(message)
    data = np.zeros(size + 32, np.uint8)  # a look past the end sees no field
    data[:size] = np.frombuffer(message, np.uint8)
    at, with_value = _usual(data, size)
    ends = at + np.where(with_value, 18, 9)
    if not len(ends) or ends[-1] != size:
        return None
    tags = np.append(0, ends[:-1])
    low, high = data[tags + 1].astype(np.int64), data[tags + 2].astype(np.int64)
    long = low > 127
    starts = tags + np.where(long, 3, 2)
    declared = np.where(long, low & 127 | high << 7, low)
    fits = (data[tags] == _SERIES) & ~(long & (high > 127)) & (starts + declared == ends)
    fits &= _are_times(_digits(data, at, with_value))
    if not fits.all():
        return None
    _bounded(len(ends), "series")
    keys = [message[a:b] for a, b in zip(starts.tolist(), at.tolist(), strict=True)]
    if not _LABELS.are_all(keys):
        return None
    return keys, *_read(data, at, with_value)


def _usual(data: NDArray[np.uint8], size: int) -> tuple[Offsets, NDArray[np.bool_]]:
    """Where usual samples seem to stand (k,), and which of them have a value (k,).

    Usual is a value of eight bytes, or none where it is 0, then a time of six, in this order.
    """
    tagged = data[:size] == _SAMPLE
    tagged &= (data[2 : size + 2] == _VALUE) | (data[2 : size + 2] == _TIMESTAMP)
    at = np.flatnonzero(tagged)
    length, first = data[at + 1], data[at + 2]
    with_value = (length == 16) & (first == _VALUE) & (data[at + 11] == _TIMESTAMP)
    found = with_value | ((length == 7) & (first == _TIMESTAMP))
    return at[found], with_value[found]


def _digits(
    data: NDArray[np.uint8], at: Offsets, with_value: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The bytes of the times of usual samples (k, 6)."""
    return data[np.where(with_value, at + 12, at + 3)[:, None] + _SIX]


def _are_times(digits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of them (k, 6) are numbers of six bytes (k,)."""
    return np.asarray((digits[:, :5] > 127).all(axis=1) & (digits[:, 5] < 128))


def _read(
    data: NDArray[np.uint8], at: Offsets, with_value: NDArray[np.bool_]
) -> tuple[Times, Values]:
    """Times and values (k,) of usual samples."""
    t = (_digits(data, at, with_value) & 127).astype(np.int64) @ _SIX_WEIGHTS
    v = data[at[:, None] + 3 + _EIGHT].view("<f8").ravel()
    v[~with_value] = 0.0
    return t, v


#: What an entry of a set takes besides its bytes.
_ENTRY_BYTES = 100


class _Labels:
    """Which parts of series are labels and nothing else, remembered: they come with each scrape."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._seen: set[bytes] = set()

    def are_all(self, parts: list[bytes]) -> bool:
        """Whether each of the parts is."""
        if self._seen.issuperset(parts):
            return True
        fresh = [part for part in parts if part not in self._seen]
        if not all(map(_are_labels, fresh)):
            return False
        size = sum(map(len, fresh)) + _ENTRY_BYTES * len(fresh)
        if self._bytes + size > self._bytes_max:
            self._seen, self._bytes = set(), 0
        if size <= self._bytes_max:
            self._seen.update(fresh)
            self._bytes += size
        return True


def _are_labels(part: bytes) -> bool:
    try:
        return all(tag == _LABEL for tag, _, _, _ in fields(part, 0, len(part)))
    except Malformed:
        return False


_LABELS = _Labels(64 << 20)


def _spans(message: bytes) -> tuple[Offsets, Offsets]:
    """Where each series begins and ends, without its own tag and length."""
    starts: list[int] = []
    ends: list[int] = []
    pos, end = 0, len(message)
    while pos < end:
        tag, start, stop = message[pos], pos + 2, end + 1
        if tag == _SERIES and start < end:
            size = message[pos + 1]
            if size > 127:
                size += (message[start] << 7) - 128
                start += 1
            if size < 1 << 14:  # two bytes of length are common, more are not
                stop = start + size
        if stop > end:
            tag, start, stop = field_at(message, pos, end)
        if tag == _SERIES:
            starts.append(start)
            ends.append(stop)
        pos = stop
    _bounded(len(starts), "series")
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _plain(
    message: bytes, starts: Offsets, ends: Offsets
) -> tuple[Offsets, Offsets, Times, Values]:
    """Where labels end (n,), how many samples follow (n,), t and v of all of them (samples,).

    No samples are counted of a series that is not labels and then usual samples to its end.
    """
    data = np.zeros(len(message) + 32, np.uint8)  # a look past the end sees no field
    data[: len(message)] = np.frombuffer(message, np.uint8)
    at = starts.copy()
    for _ in range(LABELS_MAX + 2):
        size = data[at + 1].astype(np.int64)
        is_label = (data[at] == _LABEL) & (at < ends)
        if not is_label.any():
            break
        step = size + 2
        long = size > 127
        if long.any():
            second = data[at + 2].astype(np.int64)
            is_label &= ~long | (second < 128)
            step = np.where(long, (size & 127 | second << 7) + 3, step)
        # A label that ends beyond its series leaves no room for a sample: it is not plain.
        at = np.where(is_label, np.minimum(at + step, ends), at)
    if not len(starts):  # only fields of other kinds
        none = np.empty(0, np.int64)
        return at, none, none, np.empty(0)
    # What looks like a sample within one breaks the row, and its series is walked.
    sample, with_value = _usual(data, len(message))
    of = np.searchsorted(starts, sample, side="right") - 1
    within = (of >= 0) & (sample >= at[of]) & (sample < ends[of])
    sample, with_value, of = sample[within], with_value[within], of[within]
    after = sample + np.where(with_value, 18, 9)
    first, last = np.ones(len(of), np.bool_), np.ones(len(of), np.bool_)
    first[1:] = last[:-1] = of[1:] != of[:-1]
    follows = sample == np.where(first, at[of], np.append(0, after[:-1]))
    follows &= ~last | (after == ends[of])
    follows &= _are_times(_digits(data, sample, with_value))
    plain = np.ones(len(starts), np.bool_)
    plain[of[~follows]] = False
    kept = plain[of]
    counts = np.bincount(of[kept], minlength=len(starts))
    _bounded(int(counts.sum()), "samples")
    return at, counts, *_read(data, sample[kept], with_value[kept])


class _Odd:
    """Samples of series that are not plain, in columns; `bits` are those of the values."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self.rows: list[int] = []
        self.keys: list[bytes] = []
        self.times: list[int] = []
        self.bits: list[int] = []

    def walk(self, row: int, start: int, end: int, answer: Answer) -> None:
        """Take in one series, field by field."""
        message = self._message
        labels: list[bytes] = []
        before = len(self.rows)
        histograms = 0
        for tag, first, value, stop in fields(message, start, end):
            if tag == _LABEL:
                labels.append(message[first:stop])
            elif tag == _SAMPLE:
                t, bits = _sample(message, value, stop)
                self.rows.append(row)
                self.times.append(t)
                self.bits.append(bits)
            elif tag == _HISTOGRAM:
                histograms += 1
        _bounded(len(self.rows), "samples")
        key = b"".join(labels)
        self.keys += [key] * (len(self.rows) - before)
        name = name_of(key) if histograms else ""
        for _ in range(histograms):
            answer.reject(row, name, "native histograms are not taken, only samples")


def _sample(message: bytes, start: int, end: int) -> tuple[int, int]:
    """Milliseconds and the value's bits; what is absent is 0."""
    t = bits = 0
    for tag, _, value, stop in fields(message, start, end):
        if tag == _VALUE:
            bits = int.from_bytes(message[value:stop], "little")
        elif tag == _TIMESTAMP:
            t = signed(value)
    return t, bits


def _bounded(count: int, what: str) -> None:
    if count > ITEMS_MAX:
        raise TooLarge(f"the request has over {ITEMS_MAX} {what}; send fewer at once")


def series_of(key: bytes) -> Series | str:
    """The series of raw labels, or what is wrong with them."""
    if len(key) > _KEY_MAX:
        return f"labels of {len(key)} bytes; {_KEY_MAX} are allowed"
    try:
        pairs = [(name.decode(), value.decode()) for name, value in _pairs(key)]
    except Malformed as error:
        return f"its labels cannot be read: {error}"
    except UnicodeDecodeError:
        return "a label is not UTF-8"
    labels = dict(pairs)
    if len(labels) < len(pairs):
        names = [name for name, _ in pairs]
        return f"label {max(names, key=names.count)[:100]!r} comes more than once"
    if NAME not in labels:
        return f"it has no label {NAME}"
    name = labels.pop(NAME)
    if problem := check_name(name):
        return problem
    labels = {key: value for key, value in labels.items() if value}
    if problem := check_labels(labels):
        return problem
    grows = name.endswith(_COUNTERS)
    return Series.of(name, labels, MetricType.COUNTER if grows else MetricType.GAUGE)


def name_of(key: bytes) -> str:
    """How a series is named to its sender, whatever is wrong with it: `name{label="value"}`."""
    try:
        labels = {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in _pairs(key[:_KEY_MAX])
        }
    except Malformed:
        return ""
    name = labels.pop(NAME, "")
    tags = ",".join(f'{key}="{value}"' for key, value in labels.items())
    text = f"{name}{{{tags}}}" if tags else name
    return text if len(text) <= 300 else f"{text[:299]}…"


def _pairs(key: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of raw labels."""
    pairs = []
    for _, _, start, end in fields(key, 0, len(key)):
        found = {_LABEL_NAME: b"", _LABEL_VALUE: b""}
        for tag, _, value, stop in fields(key, start, end):
            if tag in found:
                found[tag] = key[value:stop]
        pairs.append((found[_LABEL_NAME], found[_LABEL_VALUE]))
    return pairs
