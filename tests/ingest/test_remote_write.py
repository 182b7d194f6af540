"""Remote write bodies, however encoded, are read as a slow decoder on protobuf's library does."""

import struct

import cramjam
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain.errors import InvalidInput, TooLarge
from service.domain.series import MetricType, Series
from service.ingest import remote_write
from service.ingest.answer import Answer
from service.ingest.inflate import INFLATED_MAX
from service.ingest.remote_write import decode, inflate
from tests.support.slow_decoders import Read, Refused
from tests.support.slow_decoders.remote_write import read_message as slow

T = 1_700_000_000_000
STALE = 0x7FF0000000000002


def fast(message: bytes) -> Read:
    """What the decoder under test makes of it, as the slow one tells it."""
    answer = Answer()
    found = decode(message, answer)
    result = Read(rejected={item.index for item in answer.items})
    assert all("histograms" in item.reason for item in answer.items)
    bits = found.values.view(np.uint64).tolist()
    for row, (place, t) in enumerate(zip(found.index, found.t_ms.tolist(), strict=True)):
        series = found.series(row)
        assert isinstance(found.name(row), str)
        if isinstance(series, Series):
            result.add(place, series.labels, series.metric_type.value, t, bits[row])
        else:
            result.add(place, None, "", t, bits[row])
    return result


# The slow encoder, which may also write what is allowed and odd.


def varint(value: int, padding: int = 0) -> bytes:
    """With up to `padding` bytes more than needed."""
    value &= (1 << 64) - 1
    out = []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes([*(byte | 128 for byte in out), *[128] * (padding - 1), 0] if padding else out)


def field(number: int, wire_type: int, value: bytes, padding: int = 0) -> bytes:
    if wire_type == 2:
        value = varint(len(value), padding) + value
    return varint(number << 3 | wire_type, padding) + value


def label(name: str, value: str) -> bytes:
    return field(1, 2, field(1, 2, name.encode()) + field(2, 2, value.encode()))


def sample(t: int, bits: int) -> bytes:
    """As proto3 writes it: without what is 0."""
    value = field(1, 1, bits.to_bytes(8, "little")) if bits else b""
    return field(2, 2, value + (field(2, 0, varint(t)) if t else b""))


def series(labels: dict[str, str], *samples: bytes) -> bytes:
    return field(1, 2, b"".join([*(label(*pair) for pair in labels.items()), *samples]))


def bits_of(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


NAMES = st.sampled_from(["a", "b", "le", "__meta", "job", "instance", "x" * 128, "no-name", ""])
TEXT = st.text(max_size=20) | st.sampled_from(["y" * 126, "y" * 127, "y" * 300, "ü" * 600])
METRICS = st.sampled_from(["up", "m_total", "m", "", "bad name", "m:expected", "n" * 129])
TIMES = st.integers(T - 10**9, T + 10**9) | st.sampled_from([0, 1, -1, -(2**63), 2**63 - 1, 2**41])
BITS = (
    st.floats(width=64).map(bits_of)
    | st.integers(0, 2**64 - 1)
    | st.sampled_from([0, STALE, 0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000000, 1])
    | st.just(int.from_bytes(b"\x12\x07\x10\x80\x81\x82\x83\x84", "little"))  # as a sample begins
)
PAIRS = st.dictionaries(NAMES, TEXT, max_size=6)
PADDING = st.sampled_from([0, 0, 0, 1, 3])


@st.composite
def plain_series(draw: st.DrawFn) -> bytes:
    """As Prometheus writes them."""
    labels = dict(sorted((draw(PAIRS) | {"__name__": draw(METRICS)}).items()))
    count = draw(st.sampled_from([1, 1, 1, 2, 7]))
    return series(labels, *(sample(draw(TIMES), draw(BITS)) for _ in range(count)))


NOWHERE = st.sampled_from([5, 15, 16, 2047, 2048, 2**29 - 1])


@st.composite
def unknown(draw: st.DrawFn, numbers: st.SearchStrategy[int] = NOWHERE) -> bytes:
    """A field that mostly means nothing, groups included."""
    n = draw(numbers)
    kind = draw(st.sampled_from([0, 1, 2, 3, 5]))
    if kind == 3:
        inner = draw(st.lists(unknown(), max_size=2)) if draw(st.booleans()) else []
        return field(n, 3, b"".join(inner) + varint(n << 3 | 4))
    value = {
        0: varint(draw(st.integers(0, 2**64 - 1))),
        1: draw(st.binary(min_size=8, max_size=8)),
        2: draw(st.binary(max_size=20)),
        5: draw(st.binary(min_size=4, max_size=4)),
    }[kind]
    return field(n, kind, value)


@st.composite
def odd_series(draw: st.DrawFn) -> bytes:
    """Anything that the format allows: order, padding, repetition, unknown fields."""
    parts = []
    for name, value in (draw(PAIRS) | {"__name__": draw(METRICS)}).items():
        inside = [
            field(1, 2, name.encode(), draw(PADDING)),
            field(2, 2, value.encode(), draw(PADDING)),
            *draw(st.lists(unknown(), max_size=1)),
        ]
        if draw(st.integers(0, 9)) == 0:
            inside.append(field(draw(st.sampled_from([1, 2])), 2, draw(st.binary(max_size=5))))
        parts.append(field(1, 2, b"".join(draw(st.permutations(inside))), draw(PADDING)))
    for _ in range(draw(st.integers(0, 4))):
        inside = [
            field(1, 1, draw(BITS).to_bytes(8, "little"), draw(PADDING)),
            field(2, 0, varint(draw(TIMES)), draw(PADDING)),
            *draw(st.lists(unknown(st.sampled_from([1, 2, 3, 7])), max_size=1)),
        ]
        if draw(st.integers(0, 4)) == 0:
            inside.pop(draw(st.integers(0, len(inside) - 1)))
        parts.append(field(2, 2, b"".join(draw(st.permutations(inside))), draw(PADDING)))
    parts += [field(n, 2, b"??") for n in draw(st.lists(st.sampled_from([3, 4]), max_size=2))]
    parts += draw(st.lists(unknown(), max_size=2))
    if draw(st.booleans()):
        parts = draw(st.permutations(parts))
    return field(1, 2, b"".join(parts), draw(PADDING))


METADATA = field(3, 2, field(1, 0, varint(1)) + field(2, 2, b"up"))
MESSAGES = st.lists(
    plain_series() | plain_series() | odd_series() | unknown() | st.just(METADATA), max_size=8
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(message=MESSAGES)
@example(message=b"")
@example(message=field(1, 2, b""))
@example(message=series({"__name__": "up"}, sample(0, 0)))
@example(message=series({"__name__": "up"}, sample(T, 1)) + field(1, 2, b""))
@example(message=series({f"l{i}": "x" for i in range(31)} | {"__name__": "up"}, sample(T, 1)))
@example(message=series({"__name__": "up", "a": "y" * 70_000}, sample(T, 1)))
def test_every_encoding_is_read_alike(message: bytes) -> None:
    assert fast(message) == slow(message)


def _both(message: bytes) -> None:
    try:
        found = fast(message)
    except InvalidInput:
        with pytest.raises(Refused):
            slow(message)
    else:
        assert found == slow(message)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x0a", "a number is cut off at byte 1"),
        (b"\x0a\x05abc", "byte 0: a field ends at byte 7, beyond its message at 5"),
        (b"\x0a\x04\x0a\x05ab", "byte 2: a field ends at byte 9, beyond its message at 6"),
        (b"\x28" + b"\xff" * 10, "a number that ends at byte 11 is too long"),
        (b"\x0a\xff\xff\xff\xff\x7f", "a number that ends at byte 6 is too long"),
        (b"\x02\x00", "byte 0: there is no field 0"),
        (b"\x0e", "byte 0: wire type 6 does not begin a field"),
        (b"\x0b\x14", "byte 1: the end of a group that did not begin"),
        (b"\x0b" * 101 + b"\x0c" * 101, "byte 100: groups are nested too deep"),
    ],
)
def test_a_message_that_is_none_says_where(message: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(message, Answer())
    assert str(refused.value) == f"the body is no prometheus.WriteRequest: {reason}"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    message = bytearray(draw(MESSAGES.filter(bool)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(message) - 1)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and message:
            message[at] = draw(st.integers(0, 255))
        elif kind == 1:
            del message[at : at + draw(st.integers(1, 10))]
        elif kind == 2:
            message[at:at] = draw(st.binary(min_size=1, max_size=10))
        else:
            del message[at:]
    return bytes(message)


@settings(max_examples=200, deadline=None)
@given(message=damaged())
def test_a_damaged_message_is_refused_where_protobuf_refuses_it(message: bytes) -> None:
    _both(message)


@settings(max_examples=200, deadline=None)
@given(message=st.binary(max_size=60) | st.lists(unknown(), max_size=3).map(b"".join))
def test_any_bytes_are_read_as_protobuf_reads_them(message: bytes) -> None:
    _both(message)
    _both(field(1, 2, message))
    _both(field(1, 2, field(2, 2, message)))


@settings(max_examples=200, deadline=None)
@given(message=damaged(), body=st.binary(max_size=60), at=st.integers(0, 200), byte=st.binary())
def test_any_body_is_inflated_or_refused(message: bytes, body: bytes, at: int, byte: bytes) -> None:
    good = bytes(cramjam.snappy.compress_raw(message))
    assert inflate(good) == message
    for bad in (body, good[:at] + byte + good[at + 1 :], varint(len(message)) + body):
        try:
            inflated = inflate(bad)
        except InvalidInput:
            continue
        assert len(inflated) <= INFLATED_MAX


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        (b"", InvalidInput, "does not begin with its length"),
        (b"\xff\x06\x00\x00sNaPpY", InvalidInput, "takes the block"),
        (varint(INFLATED_MAX + 1), TooLarge, "inflates to 10485761 bytes; 10485760 are taken"),
        (b"\xff\xff\xff\xff\x0f" + b"x", TooLarge, "4294967295"),
        (varint(5) + b"\x00a", InvalidInput, "is not snappy"),
        (bytes(cramjam.snappy.compress_raw(b"abcdef")) + b"\0a", InvalidInput, "is not snappy"),
    ],
)
def test_a_body_that_is_no_snappy_block_says_so(
    body: bytes, error: type[InvalidInput], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        inflate(body)


@pytest.mark.parametrize(
    "many",
    [
        field(1, 2, b"") * (remote_write.ITEMS_MAX + 1),
        field(1, 2, label("__name__", "up") + sample(0, 0) * (remote_write.ITEMS_MAX + 1)),
    ],
)
def test_too_many_items_are_refused(many: bytes) -> None:
    with pytest.raises(TooLarge, match="over 250000"):
        decode(many, Answer())


@pytest.mark.parametrize(
    "between",
    [
        label("text", ""),
        label("text", "a" * 13),  # 16 bytes with its own, like a sample
        field(1, 2, field(1, 2, b"t") + field(2, 2, sample(T, 1)[2:])),  # holds a sample's bytes
        field(1, 2, field(1, 2, b"t") + field(2, 2, b"x" + sample(T, 0))),
        sample(T + 1, bits_of(2.0)),  # a second one
        field(1, 2, b"") + sample(T + 1, 0),
        field(3, 2, sample(T, 5)),  # an exemplar that looks like one
        field(5, 2, sample(T, 0)),
    ],
)
def test_what_looks_like_a_sample_is_no_end_of_a_series(between: bytes) -> None:
    first, last = label("__name__", "up"), label("zone", "x" * 130)
    around = [series({"__name__": "m", "i": str(i)}, sample(T + i, i)) for i in range(3)]
    for inside in (first + between + last, first + last + between, between + first):
        for tail in (sample(T, bits_of(1.5)), sample(T, 0), b"", sample(T, 1) + last):
            message = around[0] + field(1, 2, inside + tail) + around[1] + around[2]
            for _ in range(2):  # what labels look like is remembered
                assert fast(message) == slow(message)


def test_values_keep_their_bits() -> None:
    wanted = [STALE, 0x7FF8000000000001, 0x7FF4DEADBEEF0001, 0xFFF0000000000000, 1 << 63, 0]
    up = {"__name__": "up"}
    each = b"".join(series(up, sample(T + i, bits)) for i, bits in enumerate(wanted))
    together = series(up, *[sample(T + i, bits) for i, bits in enumerate(wanted)])
    for message in (each, together):
        assert [row.bits for row in fast(message).rows] == wanted


def test_bits_of_a_number_beyond_64_are_dropped_as_prometheus_does() -> None:
    time = varint(-5)[:-1] + b"\x43"  # its tenth byte may only be 1
    message = series({"__name__": "a"}, field(2, 2, field(2, 0, time)))
    _both(message)
    assert fast(message).rows[0].t_ms == -5


def test_nobody_looks_into_a_group_that_is_unknown() -> None:
    for inside in (b"\x03\x04", b"\x00\x01", b"\x02\x00"):  # all of them field 0
        message = b"\x0b" + inside + b"\x0c" + series({"__name__": "a"}, sample(T, 1))
        _both(message)
        assert len(fast(message).rows) == 1


def test_labels_in_any_order_are_one_series() -> None:
    pairs = {"__name__": "up", "a": "1", "b": "2", "empty": ""}
    message = series(pairs, sample(T, 1)) + series(dict(reversed(pairs.items())), sample(T + 1, 2))
    found = decode(message, Answer())
    assert found.keys[0] != found.keys[1]
    assert found.series(0) == found.series(1) == Series.of("up", {"a": "1", "b": "2"})


def test_the_order_of_the_request_is_kept() -> None:
    up = {"__name__": "up"}
    twice = field(1, 2, sample(T, 2) + label("__name__", "up") + sample(T, 3))
    message = series(up, sample(T, 1)) + twice + series(up, sample(T, 4))
    assert [(row.item, row.bits) for row in fast(message).rows] == [
        (0, 1),
        (1, 2),
        (1, 3),
        (2, 4),
    ]


def test_series_of_many_samples_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are 0, which is not written."""
    monkeypatch.delattr(remote_write._Odd, "walk")
    up, down = {"__name__": "up"}, {"__name__": "down"}
    message = series(up, *(sample(T + i, i % 3) for i in range(1000)))
    message += METADATA + series(down, sample(T, 0)) + series(up, sample(T, 1), sample(T + 1, 0))
    assert fast(message) == slow(message)


def test_a_time_that_is_no_time_is_not_taken_for_now() -> None:
    (t,) = decode(series({"__name__": "up"}, sample(-(2**63), 1)), Answer()).t_ms.tolist()
    assert t == -(2**63) + 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("requests_total", MetricType.COUNTER),
        ("seconds_bucket", MetricType.COUNTER),
        ("seconds_count", MetricType.COUNTER),
        ("seconds_sum", MetricType.COUNTER),
        ("temperature", MetricType.GAUGE),
    ],
)
def test_what_only_grows_is_known_by_its_name(name: str, expected: MetricType) -> None:
    found = decode(series({"__name__": name}, sample(T, 1)), Answer()).series(0)
    assert isinstance(found, Series)
    assert found.metric_type is expected


TWICE = label("__name__", "up") + label("a", "1") + label("a", "2")


@pytest.mark.parametrize(
    ("labels", "name", "reason"),
    [
        (b"", "", "no label __name__"),
        (label("a", "1"), '{a="1"}', "no label __name__"),
        (label("__name__", "http.requests"), "http.requests", "try 'http_requests'"),
        (label("__name__", "up:expected"), "up:expected", "only models write"),
        (label("__name__", "up") + label("a-b", "1"), 'up{a-b="1"}', "label name 'a-b'"),
        (TWICE, 'up{a="2"}', "label 'a' comes more than once"),
        (label("__name__", "up") + field(1, 2, b"\x0a\x09x"), "", "cannot be read"),
        (field(1, 2, field(1, 2, b"\xff")), '{\ufffd=""}', "not UTF-8"),
        (label("__name__", "up") + label("a", "y" * 65_536), "", "labels of"),
    ],
)
def test_a_series_that_is_none_is_named(labels: bytes, name: str, reason: str) -> None:
    found = decode(field(1, 2, labels + sample(T, 1)), Answer())
    assert found.name(0) == name
    said = found.series(0)
    assert isinstance(said, str)
    assert reason in said


def test_samples_beside_a_native_histogram_are_kept() -> None:
    message = field(1, 2, label("__name__", "h") + field(4, 2, b"\x08\x01") + sample(T, 7))
    answer = Answer()
    found = decode(message, answer)
    assert list(found.keys) == [label("__name__", "h")]
    assert [(item.index, item.name) for item in answer.items] == [(0, "h")]
    assert "native histograms" in answer.items[0].reason


def test_what_looks_like_a_sample_where_no_series_is_is_passed_over() -> None:
    within = series({"__name__": "a"}, sample(T, bits_of(1.0)))
    _both(field(9, 2, within))
    _both(field(9, 2, within) + field(1, 2, within) + field(9, 2, within))
