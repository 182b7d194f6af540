"""Many sealed blocks unpacked together: blocks of one layout are rows of the same arrays.

What a block of 72 rows costs is mostly the price of calling numpy, which is paid once a layout so.
Roll-ups of many series and days have few layouts: lengths, and widths and codings of columns.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import Damaged
from service.storage.columns import Times, Values
from service.storage.sealed import (
    COLUMN,
    DELTAS,
    HEADER,
    PAYLOAD,
    SCALED,
    SCALES_MAX,
    SIGNED,
    UNSIGNED,
    Widths,
    scan,
    unpack,
    unzstd,
)

_POWERS = np.array([10.0**scale for scale in range(SCALES_MAX + 1)])


class Unpacked(NamedTuple):
    """Blocks (k,) of n samples each: `which` of the values they are, `t` and columns (k, n)."""

    which: NDArray[np.int64]
    t: Times
    columns: list[Values]


def unpack_all(
    values: Sequence[bytes], columns: int
) -> tuple[list[Unpacked], list[tuple[int, Damaged]]]:
    """As `unpack` of each value; and which of them are damaged, with what is wrong."""
    groups: dict[bytes, list[int]] = {}
    found: list[Unpacked] = []
    damaged: list[tuple[int, Damaged]] = []
    for place, value in enumerate(values):
        try:
            groups.setdefault(_layout(value, columns), []).append(place)
        except Damaged as error:
            damaged.append((place, error))
    for which in groups.values():
        found.append(Unpacked(np.array(which), *_unpacked([values[i] for i in which], columns)))
    return found, damaged


def _layout(value: bytes, columns: int) -> bytes:
    """What must be the same of blocks that are unpacked together, of their heads."""
    blocks, records = scan(value)
    if len(blocks) != 1 or records != len(value):
        raise Damaged("it is not one sealed block")
    if value[_COLUMNS] != columns:
        raise Damaged(f"the block at byte 0 has {value[_COLUMNS]} columns, not {columns}")
    heads = [
        value[at : at + _SCALE] + value[at + _PATCHES : at + _FIRST]
        for at in range(_HEADS, _HEADS + columns * COLUMN.size, COLUMN.size)
    ]
    return b"".join((value[_SAMPLES], value[_KINDS], value[_MASK], *heads))


# Where the parts of a block's heads stand, as `storage.sealed` has them.
_SAMPLES, _KINDS, _COLUMNS, _T0 = slice(12, 16), slice(20, 22), 22, 24
_STEP, _MASK = 32, slice(40, 48)
_HEADS = HEADER.size + PAYLOAD.size
#: Within the head of a column.
_SCALE, _PATCHES, _FIRST = 3, 4, 8


def _unpacked(values: Sequence[bytes], count: int) -> tuple[Times, list[Values]]:
    """Times and columns (k, n) of blocks of one layout."""
    _, _, n = HEADER.unpack_from(values[0])
    _, kind, times_width, _, _, _, mask = PAYLOAD.unpack_from(values[0], HEADER.size)
    begin = _HEADS + count * COLUMN.size
    layouts = [head[:3] for head in COLUMN.iter_unpack(values[0][_HEADS:begin])]
    patched = [head[4] for head in COLUMN.iter_unpack(values[0][_HEADS:begin])]
    if any(patched):
        return _one_by_one(values, count)
    k, kept = len(values), mask.bit_count()
    heads = np.frombuffer(b"".join([value[:begin] for value in values]), np.uint8).reshape(k, begin)
    planes = times_width + sum(width for _, _, width in layouts)
    middle = begin + kept * n
    stored = _rows([value[begin:middle] for value in values], k, kept, n)
    packed = stored[:, :0]
    if kept < planes:
        ends = [HEADER.size + int.from_bytes(value[8:12], "little") for value in values]
        rest = [
            unzstd(memoryview(value)[middle:end]).tobytes()
            for value, end in zip(values, ends, strict=True)
        ]
        packed = _rows(rest, k, planes - kept, n)
    here, there = iter(range(kept)), iter(range(planes - kept))
    every = [
        stored[:, next(here)] if mask >> plane & 1 else packed[:, next(there)]
        for plane in range(planes)
    ]
    t0, step = _numbers(heads, _T0), _numbers(heads, _STEP)
    t = _times(n, kind, t0, step, _joined(every[:times_width], SIGNED))
    at, columns = times_width, []
    for i, (how, order, width) in enumerate(layouts):
        table = SIGNED if how == SCALED else UNSIGNED
        x = _joined(every[at : at + width], table)
        head = _HEADS + i * COLUMN.size
        first, scale = _numbers(heads, head + _FIRST), heads[:, head + _SCALE]
        whole = _whole((k, n), how == SCALED, order, first, x)
        if how == SCALED:
            columns.append(whole / _POWERS[scale][:, None])
        else:
            columns.append(whole.view(np.float64))
        at += width
    return t, columns


def _one_by_one(values: Sequence[bytes], count: int) -> tuple[Times, list[Values]]:
    """The same of blocks with patches, which are few."""
    found = [unpack(value, count) for value in values]
    columns = zip(*(each for _, each in found), strict=True)
    return np.stack([t for t, _ in found]), [np.stack(column) for column in columns]


def _rows(parts: Sequence[bytes], k: int, planes: int, n: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), np.uint8).reshape(k, planes, n)


def _numbers(heads: NDArray[np.uint8], at: int) -> NDArray[np.int64]:
    """The integers (k, 1) that stand in the heads (k, bytes) at byte `at`."""
    return np.ascontiguousarray(heads[:, at : at + 8]).view("<i8")


def _joined(planes: Sequence[NDArray[np.uint8]], dtypes: Widths) -> NDArray[Any] | None:
    """The integers (k, n) of planes (k, n); None where all are zero."""
    if not planes:
        return None
    return np.stack(planes, axis=-1).view(dtypes[len(planes)])[..., 0]


def _times(
    n: int, kind: int, t0: NDArray[np.int64], step: NDArray[np.int64], x: NDArray[Any] | None
) -> Times:
    if kind == DELTAS and x is not None:
        t = x.astype(np.int64)
        t[:, 1:2] = step
        np.add.accumulate(t[:, 1:], axis=1, out=t[:, 1:])
        t[:, :1] = t0
        return np.asarray(np.add.accumulate(t, axis=1))
    t = np.arange(n) * step + t0
    return t if x is None else t + x


def _whole(
    shape: tuple[int, int],
    scaled: bool,
    order: int,
    first: NDArray[np.int64],
    x: NDArray[Any] | None,
) -> NDArray[np.int64]:
    """The integers of a column (k, n) from its residuals."""
    if x is None:
        return np.repeat(first, shape[1], axis=1)
    undo = np.add if scaled else np.bitwise_xor
    whole = x.astype(np.int64) if scaled else x.astype(np.uint64).view(np.int64)
    if not order:
        return np.asarray(undo(whole, first))
    whole[:, :1] = first  # the first residual is zero
    return np.asarray(undo.accumulate(whole, axis=1))
