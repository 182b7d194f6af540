"""Protocol Buffers on the wire, read in place: fields one by one, no schema, no objects.

https://protobuf.dev/programming-guides/encoding/. Whoever reads decides by a field's tag (number
and wire type) what it is; a known number with another wire type is an unknown field, as there.
"""

from collections.abc import Iterator

from service.domain.errors import InvalidInput

#: Longest varints: numbers, and tags and lengths.
NUMBER_BYTES = 10
LENGTH_BYTES = 5

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

_GROUPS_MAX = 100
_WORD = 1 << 64


class Malformed(InvalidInput):
    """Bytes that are no message."""


def tag_of(number: int, wire_type: int) -> int:
    """What stands before a field's value."""
    return number << 3 | wire_type


def varint(data: bytes, pos: int, end: int, bytes_max: int) -> tuple[int, int]:
    """The unsigned number at `pos`, and where it ends. Bits beyond 64 are dropped, as elsewhere."""
    value = 0
    for count in range(bytes_max):
        if pos >= end:
            raise Malformed(f"a number is cut off at byte {end}")
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            if bytes_max == LENGTH_BYTES and value >= 1 << 32:
                break
            return value & (_WORD - 1), pos
    raise Malformed(f"a number that ends at byte {pos} is too long")


def signed(value: int) -> int:
    """A varint as int64."""
    return value - _WORD if value >= _WORD >> 1 else value


def field_at(data: bytes, pos: int, end: int) -> tuple[int, int, int]:
    """The field at `pos`: its tag, its value, and where it ends.

    The value is the number of a varint, else the offset of the first byte. Raises `Malformed`.
    """
    tag, value = varint(data, pos, end, LENGTH_BYTES)
    if tag < 8:
        raise Malformed(f"byte {pos}: there is no field 0")
    return tag, *_value_at(data, pos, value, end, tag)


def _value_at(data: bytes, pos: int, value: int, end: int, tag: int) -> tuple[int, int]:
    """The value of the field at `pos`, whose tag ends at `value`, and where it ends."""
    wire_type = tag & 7
    if wire_type == VARINT:
        return varint(data, value, end, NUMBER_BYTES)
    if wire_type == BYTES:
        size, value = varint(data, value, end, LENGTH_BYTES)
        stop = value + size
    elif wire_type == FIXED64:
        stop = value + 8
    elif wire_type == FIXED32:
        stop = value + 4
    elif wire_type == GROUP:
        stop = _group_end(data, value, end, tag)
    else:
        raise Malformed(f"byte {pos}: wire type {wire_type} does not begin a field")
    if stop > end:
        raise Malformed(f"byte {pos}: a field ends at byte {stop}, beyond its message at {end}")
    return value, stop


def fields(data: bytes, pos: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, first byte, value and end of each field of a message; see `field_at`."""
    while pos < end:
        tag, value, stop = field_at(data, pos, end)
        yield tag, pos, value, stop
        pos = stop


def _group_end(data: bytes, pos: int, end: int, tag: int) -> int:
    """Where a group ends that began with `tag`; groups nest, in unknown fields only.

    Nobody looks into them, so a field 0 in one is overlooked, as by Prometheus and by protobuf.
    """
    still_open = [tag >> 3]
    while still_open:
        tag, after = varint(data, pos, end, LENGTH_BYTES)
        if tag & 7 == GROUP_END:
            if tag >> 3 != still_open.pop():
                raise Malformed(f"byte {pos}: the end of a group that did not begin")
            pos = after
        elif tag & 7 == GROUP:
            still_open.append(tag >> 3)
            if len(still_open) > _GROUPS_MAX:
                raise Malformed(f"byte {pos}: groups are nested too deep")
            pos = after
        else:
            _, pos = _value_at(data, pos, after, end, tag)
    return pos
