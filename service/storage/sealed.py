"""Sealed blocks: samples at one to three bytes instead of sixteen, back bit for bit.

A chunk's value is `[sealed block]* [16-byte record]*`. A block is

    header   16   magic i8, payload length u4, samples u4
    payload       crc u4, times' kind u1, times' width u1, columns u1, packing u1, t0 i8, step i8
             16   a column: kind u1, order u1, width u1, scale u1, patches u4, first i8
                  body: residuals of the times, then of each column with its patches
    padding       to a multiple of 16, so that the records after it stay aligned

The magic's top byte is that of the smallest int64, which is no time that anybody records, so the
eighth byte of a value says whether a block or a record follows. Its lowest byte is the version.

Times are what is left after a regular grid (`t0 + i * step`), or deltas of deltas, whichever packs
better. Values are integers over a power of ten where that gives back the same bits, as they are or
as deltas; the few that do not fit (stale markers, infinities, -0.0) are patches: position and bits.
Where most do not fit, they are their bits, as they are or exclusive-or'ed with the ones before.
Residuals take the smallest width of 0, 1, 2, 4 or 8 bytes, byte planes one after the other, and go
through zstd together unless that makes them longer.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cramjam
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import Damaged
from service.storage.columns import POINT, Columns, Times, Values

Ints = NDArray[np.int64]
_Widths = dict[int, np.dtype[Any]]

_VERSION = 1
_MAGIC = int.from_bytes(bytes([_VERSION]) + b"OFFBT\0\x80", "little", signed=True)
#: The eighth byte of a block. No record has it: its time would be 285 million years ago.
_BLOCK = 0x80

_HEADER = struct.Struct("<qII")
_PAYLOAD = struct.Struct("<IBBBBqq")
_COLUMN = struct.Struct("<BBBBIq")
_CRC_SIZE = 4
_ALIGN = 16

_GRID, _DELTAS = 0, 1
_SCALED, _BITS = 0, 1
_STORED, _ZSTD = 0, 1

_SIGNED: _Widths = {width: np.dtype(f"<i{width}") for width in (1, 2, 4, 8)}
_UNSIGNED: _Widths = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
_SCALES_MAX = 9
#: Integers below this have each a float of their own.
_EXACT = float(2**53)
#: One value in so many may be a patch.
_PATCHED = 8
_PATCH = np.dtype([("at", "<u4"), ("bits", "<i8")])
_LEVEL = 3
_INDEX = np.arange(8192)
#: More samples than a chunk can hold in memory anyway: a length above it is damage.
_SAMPLES_MAX = 1 << 28


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
    """A block of several columns (n,) over the same times (n,); n is at least 1."""
    t0, step, kind, times = _times(t)
    heads, residuals = [], [times]
    for column in columns:
        head, body = _values(column)
        heads.append(head)
        residuals += body
    width = times.dtype.itemsize if len(times) else 0
    raw = b"".join(_planes(x) for x in residuals)
    small = _zstd(raw)
    packing = _ZSTD if len(small) < len(raw) else _STORED
    rest = b"".join(
        (
            _PAYLOAD.pack(0, kind, width, len(columns), packing, t0, step)[_CRC_SIZE:],
            *heads,
            small if packing == _ZSTD else raw,
        )
    )
    size = _CRC_SIZE + len(rest)
    header = _HEADER.pack(_MAGIC, size, len(t))
    crc = zlib.crc32(rest, zlib.crc32(header))
    block = header + crc.to_bytes(_CRC_SIZE, "little") + rest
    return block + bytes(-len(block) % _ALIGN)


def _times(t: Times) -> tuple[int, int, int, NDArray[Any]]:
    """First time, step, kind of coding and residuals of the kind that packs better."""
    t = np.ascontiguousarray(t, np.int64)
    t0 = int(t[0])
    if len(t) == 1:
        return t0, 0, _GRID, _narrow(t[:0])
    deltas = np.diff(t)  # wraps around, as the sum that undoes it does
    middle = len(deltas) // 2
    usual = int(np.partition(deltas, middle)[middle])
    grid = t - (np.arange(len(t)) * np.int64(usual) + t0)
    first = int(deltas[0])
    second = np.zeros(len(t), np.int64)
    second[2:] = np.diff(deltas)
    options = [(t0, usual, _GRID, _narrow(grid)), (t0, first, _DELTAS, _narrow(second))]
    return min(options, key=lambda option: _cost([option[3]]))


def _values(v: Values) -> tuple[bytes, list[NDArray[Any]]]:
    """Head and body of the coding of a column that packs best."""
    bits = np.ascontiguousarray(v, np.float64).view(np.int64)
    options: list[tuple[bytes, list[NDArray[Any]]]] = []
    scaled = _scaled(bits.view(np.float64), bits)
    if scaled is not None:
        scale, whole, patches = scaled
        for order, residual in ((0, whole - whole[0]), (1, np.diff(whole, prepend=whole[0]))):
            body = _narrow(residual)
            options.append(
                (_head(_SCALED, order, body, scale, len(patches), int(whole[0])), [body, patches])
            )
    if scaled is None or len(scaled[2]):
        chained = bits.copy()
        chained[1:] ^= bits[:-1]
        chained[0] = 0
        for order, residual in ((0, bits ^ bits[0]), (1, chained)):
            body = _narrow(residual.view(np.uint64))
            options.append((_head(_BITS, order, body, 0, 0, int(bits[0])), [body]))
    return min(options, key=lambda option: _cost(option[1]))


def _head(kind: int, order: int, body: NDArray[Any], scale: int, patches: int, v0: int) -> bytes:
    width = body.dtype.itemsize if len(body) else 0
    return _COLUMN.pack(kind, order, width, scale, patches, v0)


def _scaled(v: Values, bits: Ints) -> tuple[int, Ints, NDArray[Any]] | None:
    """Power of ten, integers (n,) and patches of nearly all values; None if there is no such."""
    best: tuple[int, Ints, NDArray[np.bool_]] | None = None
    fewest = len(v) // _PATCHED + 1
    for scale in range(_SCALES_MAX + 1):
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


def _narrow(x: NDArray[Any]) -> NDArray[Any]:
    """The same integers at the smallest width; none at all if every one is zero."""
    low, high = (int(x.min()), int(x.max())) if len(x) else (0, 0)
    if low == high == 0:
        return x[:0]
    for dtype in (_UNSIGNED if x.dtype.kind == "u" else _SIGNED).values():
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return x.astype(dtype)
    raise AssertionError("an integer of eight bytes has eight bytes")


def _planes(x: NDArray[Any]) -> bytes:
    """Every element's lowest byte, then every second byte, and so on."""
    if x.dtype == _PATCH:
        return x.tobytes()
    return x.view(np.uint8).reshape(len(x), x.dtype.itemsize).T.tobytes()


def _cost(parts: Iterable[NDArray[Any]]) -> int:
    return len(_zstd(b"".join(_planes(x) for x in parts)))


def _zstd(raw: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(raw, _LEVEL)) if raw else b""


# reading


def scan(value: bytes) -> tuple[list[Block], int]:
    """The blocks of a chunk's value and where its records begin; `Damaged` if it is neither."""
    blocks: list[Block] = []
    at, end = 0, len(value)
    while end - at >= _ALIGN and value[at + 7] == _BLOCK:
        magic, size, samples = _HEADER.unpack_from(value, at)
        if magic != _MAGIC:
            raise Damaged(f"at byte {at} stands a block of a version that we do not know")
        block = Block(at, at + _HEADER.size + size, samples)
        if not 0 < samples <= _SAMPLES_MAX or block.next > end:
            raise Damaged(f"the block at byte {at} is cut short")
        blocks.append(block)
        at = block.next
    if (end - at) % _ALIGN:
        raise Damaged(f"{(end - at) % _ALIGN} bytes are left after the last whole record")
    return blocks, at


def read_block(value: bytes, block: Block, t: Times, columns: Sequence[Values]) -> None:
    """Fill `t` and each of `columns`, contiguous (samples,), from a block.

    Raises `Damaged` if it was changed since it was sealed.
    """
    start, end, n = block
    view = memoryview(value)
    crc, kind, width, count, packing, t0, step = _payload(view, start, end)
    rest = start + _HEADER.size + _CRC_SIZE
    if crc != zlib.crc32(view[rest:end], zlib.crc32(view[start : start + _HEADER.size])):
        raise Damaged(f"the block at byte {start} was changed since it was sealed")
    if count != len(columns):
        raise Damaged(f"the block at byte {start} has {count} columns, not {len(columns)}")
    # From here on the bytes are those that `pack` wrote.
    at = start + _HEADER.size + _PAYLOAD.size
    heads = [_COLUMN.unpack_from(value, at + i * _COLUMN.size) for i in range(count)]
    body: Any = view[at + count * _COLUMN.size : end]
    if packing == _ZSTD:
        sizes = (n * head[2] + head[4] * _PATCH.itemsize for head in heads)
        body = cramjam.zstd.decompress(body, n * width + sum(sizes))
    raw = np.frombuffer(body, np.uint8)
    _fill_times(t, kind, t0, step, _residuals(raw, 0, n, width, _SIGNED))
    at = n * width
    for out, (how, order, width, scale, patches, first) in zip(columns, heads, strict=True):
        table = _SIGNED if how == _SCALED else _UNSIGNED
        _fill_values(out, how, order, scale, first, _residuals(raw, at, n, width, table))
        at += n * width
        if patches:
            found = np.frombuffer(raw[at : at + patches * _PATCH.itemsize].tobytes(), _PATCH)
            out.view(np.int64)[found["at"]] = found["bits"]
            at += patches * _PATCH.itemsize


def _payload(view: memoryview, start: int, end: int) -> tuple[Any, ...]:
    if end - start < _HEADER.size + _PAYLOAD.size:
        raise Damaged(f"the block at byte {start} is cut short")
    return _PAYLOAD.unpack_from(view, start + _HEADER.size)


def _residuals(
    raw: NDArray[np.uint8], at: int, n: int, width: int, dtypes: _Widths
) -> NDArray[Any] | None:
    """The integers (n,) of byte planes; None where all are zero."""
    if not width:
        return None
    planes = raw[at : at + n * width]
    if width > 1:
        joined = np.empty((n, width), np.uint8)
        for i in range(width):  # three times as fast as a transposed copy
            joined[:, i] = planes[i * n : (i + 1) * n]
        planes = joined.reshape(-1)
    return planes.view(dtypes[width])


def _fill_times(t: Times, kind: int, t0: int, step: int, x: NDArray[Any] | None) -> None:
    if kind == _DELTAS and x is not None:
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
    elif kind == _SCALED:
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
    if kind == _SCALED:
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
    """Every sample of chunks' values, one after the other, and where each value's begin.

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
    return Columns(t, v), np.cumsum([0, *sizes[:-1]])
