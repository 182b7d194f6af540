"""Sealed blocks: samples at one to three bytes instead of sixteen, back bit for bit.

A chunk's value is `[sealed block]* [16-byte record]*`. A block is

    header   16   magic i8, payload length u4, samples u4
    payload  32   crc u4, times' kind u1, times' width u1, columns u1, nothing u1, t0 i8, step i8,
                  planes that are stored as they are u8
             16   a column: kind u1, order u1, width u1, scale u1, patches u4, first i8
                  the planes that are stored as they are; zstd of the others and of the patches
    padding       to a multiple of 16, so that the records after it stay aligned

The magic's top byte is that of the smallest int64, which is no time that anybody records, so the
eighth byte of a value says whether a block or a record follows. Its lowest byte is the version.

Times are what is left after a regular grid (`t0 + i * step`), or deltas of deltas, whichever packs
better. Values are integers over a power of ten where that gives back the same bits, as they are or
as deltas; the few that do not fit (stale markers, infinities, -0.0) are patches: position and bits.
Where most do not fit, they are their bits, as they are or exclusive-or'ed with the ones before.
Residuals take the smallest width of 0, 1, 2, 4 or 8 bytes and are cut into planes: all first bytes,
all second bytes, and so on. Low planes are often noise, which zstd would only make slower to read;
these are stored as they are, and zstd packs the others together.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import cramjam
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import Damaged
from service.storage.columns import POINT, Columns, Times, Values

Ints = NDArray[np.int64]
Widths = dict[int, np.dtype[Any]]

_VERSION = 1
_MAGIC = int.from_bytes(bytes([_VERSION]) + b"OFFBT\0\x80", "little", signed=True)
#: The eighth byte of a block. No record has it: its time would be 285 million years ago.
_BLOCK = 0x80

HEADER = struct.Struct("<qII")
PAYLOAD = struct.Struct("<IBBBxqqQ")
COLUMN = struct.Struct("<BBBBIq")
_CRC_SIZE = 4
_ALIGN = 16

GRID, DELTAS = 0, 1
SCALED, BITS = 0, 1

SIGNED: Widths = {width: np.dtype(f"<i{width}") for width in (1, 2, 4, 8)}
UNSIGNED: Widths = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
SCALES_MAX = 9
#: Integers below this have each a float of their own.
_EXACT = float(2**53)
#: One value in so many may be a patch.
_PATCHED = 8
_PATCH = np.dtype([("at", "<u4"), ("bits", "<i8")])
_LEVEL = 3
#: So many values tell whether it is worth to look for decimal places in the others.
_HEAD = 64
#: A plane that zstd makes hardly shorter is stored as it is.
_WORTH_IT = 0.94
_COLUMNS_MAX = 7
_INDEX = np.arange(8192)


class _Stream(NamedTuple):
    """Residuals as planes (width × n bytes), which of them zstd does not help, and patches."""

    planes: list[bytes]
    kept: list[bool]
    patches: bytes
    cost: int


class Block(NamedTuple):
    """Where a block stands in a value: `start`, end of its payload, and its samples."""

    start: int
    end: int
    samples: int

    @property
    def next(self) -> int:
        """Where the next block or record stands."""
        return self.end + (-self.end + self.start) % _ALIGN


# writing


def seal(columns: Columns) -> bytes:
    """Samples of one series as one sealed block; t (n,) in any int64, v (n,) in any float64."""
    return pack(columns.t, [columns.v])


def pack(t: Times, columns: Sequence[Values]) -> bytes:
    """A block of up to seven columns (n,) over the same times (n,); n is at least 1."""
    if not 1 <= len(columns) <= _COLUMNS_MAX:
        raise ValueError(f"a block has 1 to {_COLUMNS_MAX} columns, not {len(columns)}")
    t0, step, kind, times = _times(t)
    heads, streams = [], [times]
    for column in columns:
        head, stream = _values(column)
        heads.append(head)
        streams.append(stream)
    planes = [plane for stream in streams for plane in stream.planes]
    kept = [keep for stream in streams for keep in stream.kept]
    mask = sum(1 << i for i, keep in enumerate(kept) if keep)
    others = [plane for plane, keep in zip(planes, kept, strict=True) if not keep]
    rest = b"".join(
        (
            PAYLOAD.pack(0, kind, len(times.planes), len(columns), t0, step, mask)[_CRC_SIZE:],
            *heads,
            *(plane for plane, keep in zip(planes, kept, strict=True) if keep),
            _zstd(b"".join((*others, *(stream.patches for stream in streams)))),
        )
    )
    header = HEADER.pack(_MAGIC, _CRC_SIZE + len(rest), len(t))
    crc = zlib.crc32(rest, zlib.crc32(header))
    block = header + crc.to_bytes(_CRC_SIZE, "little") + rest
    return block + bytes(-len(block) % _ALIGN)


def _times(t: Times) -> tuple[int, int, int, _Stream]:
    """First time, step, kind of coding and residuals of the kind that packs better."""
    t = np.ascontiguousarray(t, np.int64)
    t0 = int(t[0])
    if len(t) == 1:
        return t0, 0, GRID, _stream(t[:0])
    deltas = np.diff(t)  # wraps around, as the sum that undoes it does
    middle = len(deltas) // 2
    usual = int(np.partition(deltas, middle)[middle])
    grid = t - (np.arange(len(t)) * np.int64(usual) + t0)
    first = int(deltas[0])
    second = np.zeros(len(t), np.int64)
    second[2:] = np.diff(deltas)
    options = [(t0, usual, GRID, _stream(grid)), (t0, first, DELTAS, _stream(second))]
    return min(options, key=lambda option: option[3].cost)


def _values(v: Values) -> tuple[bytes, _Stream]:
    """Head and stream of the coding of a column that packs best."""
    bits = np.ascontiguousarray(v, np.float64).view(np.int64)
    options: list[tuple[bytes, _Stream]] = []
    scaled = _scaled(bits.view(np.float64), bits)
    if scaled is not None:
        scale, whole, patches = scaled
        for order, residual in ((0, whole - whole[0]), (1, np.diff(whole, prepend=whole[0]))):
            stream = _stream(residual, patches.tobytes())
            width = len(stream.planes)
            head = COLUMN.pack(SCALED, order, width, scale, len(patches), int(whole[0]))
            options.append((head, stream))
    if scaled is None or len(scaled[2]):
        chained = bits.copy()
        chained[1:] ^= bits[:-1]
        chained[0] = 0
        same = bits ^ bits[0]
        order = int(_bytes_set(chained) < _bytes_set(same))
        stream = _stream((chained if order else same).view(np.uint64))
        head = COLUMN.pack(BITS, order, len(stream.planes), 0, 0, int(bits[0]))
        options.append((head, stream))
    return min(options, key=lambda option: option[1].cost)


def _scaled(v: Values, bits: Ints) -> tuple[int, Ints, NDArray[Any]] | None:
    """Power of ten, integers (n,) and patches of nearly all values; None if there is no such."""
    if not _may_scale(v[:_HEAD]):
        return None
    best: tuple[int, Ints, NDArray[np.bool_]] | None = None
    fewest = len(v) // _PATCHED + 1
    for scale in range(SCALES_MAX + 1):
        with np.errstate(all="ignore"):
            rounded = np.rint(v * 10.0**scale)
            fits = np.abs(rounded) < _EXACT  # also refuses nan
            whole = np.where(fits, rounded, 0.0).astype(np.int64)
            misfits = ~fits | ((whole / 10.0**scale).view(np.int64) != bits)
        count = int(np.count_nonzero(misfits))
        if count < fewest:
            best, fewest = (scale, whole, misfits), count
        if not count:
            break
    if best is None:
        return None
    scale, whole, misfits = best
    at = np.flatnonzero(misfits)
    patches = np.empty(len(at), _PATCH)
    if len(at):
        patches["at"], patches["bits"] = at, bits[at]
        # A patch repeats its neighbour, so that it costs the deltas nothing.
        fitting = np.where(misfits, -1, np.arange(len(v)))
        nearest = np.maximum.accumulate(fitting)
        nearest[nearest < 0] = np.flatnonzero(~misfits)[0]
        whole = whole[nearest]
    return scale, whole, patches


def _may_scale(head: Values) -> bool:
    """Whether half of the values are integers over the highest power of ten that is exact."""
    with np.errstate(all="ignore"):
        power = np.clip(np.floor(15.9 - np.log10(np.abs(head))), 0, SCALES_MAX)
        scale = 10.0**power
        fits = np.rint(head * scale) / scale == head
    return 2 * int(np.count_nonzero(fits)) >= len(head)


def decimal_places(v: Values) -> int | None:
    """The fewest, up to nine, that give back every value of (n,); None if there are none such."""
    found = _scaled(v, v.view(np.int64)) if len(v) else None
    return found[0] if found is not None and not len(found[2]) else None


def _bytes_set(x: Ints) -> int:
    return int(np.count_nonzero(x.view(np.uint8)))


def _narrow(x: NDArray[Any]) -> NDArray[Any]:
    """The same integers at the smallest width; none at all if every one is zero."""
    low, high = (int(x.min()), int(x.max())) if len(x) else (0, 0)
    if low == high == 0:
        return x[:0]
    for dtype in (UNSIGNED if x.dtype.kind == "u" else SIGNED).values():
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return x.astype(dtype)
    raise AssertionError("an integer of eight bytes has eight bytes")


def _stream(x: NDArray[Any], patches: bytes = b"") -> _Stream:
    """The planes of integers (n,), lowest bytes first; none if every one is zero."""
    x = _narrow(x)
    table = x.view(np.uint8).reshape(len(x), x.dtype.itemsize)
    planes = [column.tobytes() for column in table.T] if len(x) else []
    sizes = [len(_zstd(plane)) for plane in planes]
    kept = [size > _WORTH_IT * len(x) for size in sizes]
    cost = sum(min(size, len(x)) for size in sizes) + len(patches)
    return _Stream(planes, kept, patches, cost)


def _zstd(raw: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(raw, _LEVEL)) if raw else b""


# reading


def scan(value: bytes) -> tuple[list[Block], int]:
    """The blocks of a chunk's value and where its records begin.

    Raises `Damaged` if it is neither, or a block was changed since it was sealed.
    """
    blocks: list[Block] = []
    at, end = 0, len(value)
    while end - at >= _ALIGN and value[at + 7] == _BLOCK:
        magic, size, samples = HEADER.unpack_from(value, at)
        if magic != _MAGIC:
            raise Damaged(f"at byte {at} stands a block of a version that we do not know")
        block = Block(at, at + HEADER.size + size, samples)
        if not samples or size < PAYLOAD.size or block.next > end:
            raise Damaged(f"the block at byte {at} is cut short")
        begin = at + HEADER.size
        view = memoryview(value)
        crc = zlib.crc32(view[begin + _CRC_SIZE : block.end], zlib.crc32(view[at:begin]))
        if crc != int.from_bytes(view[begin : begin + _CRC_SIZE], "little"):
            raise Damaged(f"the block at byte {at} was changed since it was sealed")
        blocks.append(block)
        at = block.next
    if (end - at) % _ALIGN:
        raise Damaged(f"{(end - at) % _ALIGN} bytes are left after the last whole record")
    return blocks, at


def read_block(value: bytes, block: Block, t: Times, columns: Sequence[Values]) -> None:
    """Fill `t` and each of `columns`, contiguous (samples,), from a block that `scan` found."""
    start, end, n = block
    at = start + HEADER.size
    _, kind, width, count, t0, step, mask = PAYLOAD.unpack_from(value, at)
    if count != len(columns):
        raise Damaged(f"the block at byte {start} has {count} columns, not {len(columns)}")
    # The checksum was right, so from here on the bytes are those that `pack` wrote.
    at += PAYLOAD.size
    heads = [COLUMN.unpack_from(value, at + i * COLUMN.size) for i in range(count)]
    at += count * COLUMN.size
    planes = width + sum(head[2] for head in heads)
    rows: list[NDArray[np.uint8]] = []
    stored = np.frombuffer(value, np.uint8, mask.bit_count() * n, at)
    packed = unzstd(memoryview(value)[at + len(stored) : end])
    here = there = 0
    for plane in range(planes):
        if mask >> plane & 1:
            rows.append(stored[here : here + n])
            here += n
        else:
            rows.append(packed[there : there + n])
            there += n
    _fill_times(t, kind, t0, step, _joined(rows[:width], SIGNED))
    at = width
    for out, (how, order, width, scale, patches, first) in zip(columns, heads, strict=True):
        table = SIGNED if how == SCALED else UNSIGNED
        _fill_values(out, how, order, scale, first, _joined(rows[at : at + width], table))
        at += width
        if patches:
            size = patches * _PATCH.itemsize
            found = np.frombuffer(packed[there : there + size].tobytes(), _PATCH)
            out.view(np.int64)[found["at"]] = found["bits"]
            there += size


def unzstd(packed: memoryview) -> NDArray[np.uint8]:
    """The bytes that zstd packed; none of nothing."""
    raw: Any = cramjam.zstd.decompress(packed) if len(packed) else b""
    return np.frombuffer(raw, np.uint8)


def _joined(planes: Sequence[NDArray[np.uint8]], dtypes: Widths) -> NDArray[Any] | None:
    """The integers (n,) of planes; None where all are zero."""
    if not planes:
        return None
    if len(planes) == 1:
        return planes[0].view(dtypes[1])
    joined = np.empty((len(planes[0]), len(planes)), np.uint8)
    for i, plane in enumerate(planes):  # three times as fast as a transposed copy
        joined[:, i] = plane
    return joined.reshape(-1).view(dtypes[len(planes)])


def _fill_times(t: Times, kind: int, t0: int, step: int, x: NDArray[Any] | None) -> None:
    if kind == DELTAS and x is not None:
        t[:] = x
        t[1] = step
        np.add.accumulate(t[1:], out=t[1:])
        t[0] = t0
        np.add.accumulate(t, out=t)
        return
    np.multiply(_INDEX[: len(t)] if len(t) <= len(_INDEX) else np.arange(len(t)), step, out=t)
    t += t0
    if x is not None:
        t += x


def _fill_values(
    v: Values, kind: int, order: int, scale: int, first: int, x: NDArray[Any] | None
) -> None:
    whole = v.view(np.int64)
    if x is None:
        whole[:] = first
    elif kind == SCALED:
        whole[:] = x
        if order:
            whole[0] = first  # the first residual is zero
            np.add.accumulate(whole, out=whole)
        else:
            whole += first
    else:
        whole.view(np.uint64)[:] = x
        if order:
            whole[0] = first
            np.bitwise_xor.accumulate(whole, out=whole)
        else:
            whole ^= first
    if kind == SCALED:
        if scale:
            np.divide(whole, 10.0**scale, out=v)
        else:
            v[:] = whole


def unpack(value: bytes, columns: int) -> tuple[Times, list[Values]]:
    """Times and columns, each (n,), of a value that is one block; `Damaged` if it is not."""
    blocks, records = scan(value)
    if len(blocks) != 1 or records != len(value):
        raise Damaged("it is not one sealed block")
    n = blocks[0].samples
    t = np.empty(n, np.int64)
    found = [np.empty(n, np.float64) for _ in range(columns)]
    read_block(value, blocks[0], t, found)
    return t, found


def read_records(value: bytes, at: int, t: Times, v: Values) -> None:
    """Fill `t` and `v` from the 16-byte records that begin at byte `at`."""
    points = np.frombuffer(value, POINT, offset=at)
    t[:] = points["t"]
    v[:] = points["v"]


def read_values(values: Sequence[bytes]) -> tuple[Columns, Ints]:
    """Every sample of chunks' values, one after the other, and where each value's begin and end.

    As written: not sorted, with duplicates. Raises `Damaged` if a value is neither blocks nor
    records, or was changed.
    """
    found = [scan(value) for value in values]
    sizes = [
        sum(block.samples for block in blocks) + (len(value) - records) // POINT.itemsize
        for value, (blocks, records) in zip(values, found, strict=True)
    ]
    t, v = np.empty(sum(sizes), np.int64), np.empty(sum(sizes), np.float64)
    at = 0
    for value, (blocks, records) in zip(values, found, strict=True):
        for block in blocks:
            end = at + block.samples
            read_block(value, block, t[at:end], [v[at:end]])
            at = end
        if records < len(value):
            end = at + (len(value) - records) // POINT.itemsize
            read_records(value, records, t[at:end], v[at:end])
            at = end
    return Columns(t, v), np.cumsum([0, *sizes])
