"""What is sealed comes back bit for bit, and what was changed is refused."""

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain.errors import Damaged
from service.storage.columns import POINT, Columns
from service.storage.sealed import pack, read_values, scan, seal, unpack

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
T0 = 1_760_000_000_000

times = st.integers(-(2**63), 2**63 - 1)
#: Any 64 bits are a float; most of what people record is a short decimal number.
bits = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0.1, 0.25, 19.99, 1e9, -3.5, 0.0, -0.0, float("inf"), STALE]).map(
        lambda x: struct.unpack("<q", struct.pack("<d", x))[0]
    ),
    st.decimals(-(10**6), 10**6, places=3).map(
        lambda x: struct.unpack("<q", struct.pack("<d", float(x)))[0]
    ),
)


def columns(t: object, v: object) -> Columns:
    return Columns(np.array(t, np.int64), np.array(v, np.float64))


def records(c: Columns) -> bytes:
    points = np.empty(len(c.t), POINT)
    points["t"], points["v"] = c
    return points.tobytes()


def same(a: Columns, b: Columns) -> bool:
    return np.array_equal(a.t, b.t) and np.array_equal(a.v.view(np.int64), b.v.view(np.int64))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(times, bits), min_size=1, max_size=60))
@example([(T0, 0x7FF0000000000002)])
@example([(-(2**63), 0), (2**63 - 1, -(2**63))])
@example([(T0 + i, 0x7FF0000000000002 if i == 30 else 0) for i in range(60)])
def test_every_time_and_every_value_comes_back_bit_for_bit(samples: list[tuple[int, int]]) -> None:
    t, v = zip(*samples, strict=True)
    given = Columns(np.array(t, np.int64), np.array(v, np.int64).view(np.float64))
    block = seal(given)
    assert len(block) % 16 == 0
    assert same(read_values([block])[0], given)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32), st.integers(0, 9), st.booleans(), st.booleans())
def test_regular_series_come_back_bit_for_bit(
    n: int, seed: int, places: int, jitter: bool, walk: bool
) -> None:
    rng = np.random.default_rng(seed)
    t = T0 + 10_000 * np.arange(n) + (rng.integers(-300, 300, n) if jitter else 0)
    v = np.round(50 + np.cumsum(rng.normal(0, 1, n)) if walk else rng.normal(0, 1e4, n), places)
    v[rng.random(n) < 0.03] = STALE
    v[rng.random(n) < 0.03] = -0.0
    assert same(read_values([seal(Columns(t, v))])[0], Columns(t, v))


def test_blocks_and_records_follow_each_other() -> None:
    parts = [columns([T0 + i, T0 + i + 1], [i, i / 3]) for i in range(0, 8, 2)]
    value = seal(parts[0]) + seal(parts[1]) + records(parts[2]) + records(parts[3])
    blocks, at = scan(value)
    assert len(blocks) == 2
    assert len(value) - at == 4 * 16
    got, bounds = read_values([value, records(parts[0])])
    assert bounds.tolist() == [0, 8, 10]
    assert got.t.tolist() == [*range(T0, T0 + 8), T0, T0 + 1]
    assert got.v.tolist() == [*(x for p in parts for x in p.v.tolist()), *parts[0].v.tolist()]


def test_several_columns_share_their_times() -> None:
    t = T0 + 300_000 * np.arange(72)
    rng = np.random.default_rng(3)
    given = [np.round(rng.normal(0, 9, 72), 2), rng.normal(0, 9, 72), np.full(72, 30.0)]
    got_t, got = unpack(pack(t, given), 3)
    assert np.array_equal(got_t, t)
    assert all(np.array_equal(a, b) for a, b in zip(got, given, strict=True))
    with pytest.raises(Damaged, match="has 3 columns, not 1"):
        unpack(pack(t, given), 1)
    with pytest.raises(Damaged, match="not one sealed block"):
        unpack(pack(t, given) * 2, 3)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused(data: st.DataObject) -> None:
    rng = np.random.default_rng(1)
    n = 50
    block = bytearray(
        seal(Columns(T0 + 10_000 * np.arange(n), np.round(np.cumsum(rng.normal(0, 1, n)), 2)))
    )
    _, size, _ = struct.unpack_from("<qII", block)
    at = data.draw(st.integers(0, 16 + size - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    if block[7] == 0x80:  # else it is records, which have no checksum: the time tells (chunks)
        with pytest.raises(Damaged):
            read_values([bytes(block)])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\0" * 15, "15 bytes are left"),
        (seal(columns([T0], [1.0]))[:-16], "cut short"),
        (seal(columns([T0], [1.0])) + b"\0" * 7, "7 bytes are left"),
        (b"\x02OFFBT\0\x80" + b"\0" * 40, "a version that we do not know"),
        (struct.pack("<qII", -(2**63), 4, 1), "a version that we do not know"),
        (seal(columns([T0], [1.0]))[:8] + b"\0" * 8, "cut short"),
        (seal(columns([T0], [1.0]))[:8] + struct.pack("<II", 16, 1) + b"\0" * 16, "cut short"),
    ],
)
def test_what_is_no_chunk_is_refused_with_the_reason(value: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        read_values([value])


def test_what_people_record_takes_a_byte_or_two() -> None:
    rng = np.random.default_rng(0)
    n = 2160
    t = T0 + 10_000 * np.arange(n)
    late = t + rng.integers(-3, 4, n)
    counter = np.cumsum(rng.integers(0, 50, n)).astype(float)
    gauge = np.round(50 + np.cumsum(rng.normal(0, 0.1, n)), 3)
    gone = np.where(rng.random(n) < 0.01, STALE, gauge)
    whole = 50 + np.cumsum(rng.normal(0, 0.1, n))
    for at, values, most in (
        (t, np.ones(n), 0.05),
        (t, counter, 0.9),
        (t, gauge, 1.5),
        (late, gauge, 2.1),
        (t, gone, 1.6),
        (t, whole, 6.5),
    ):
        assert len(seal(Columns(at, values))) / n < most
