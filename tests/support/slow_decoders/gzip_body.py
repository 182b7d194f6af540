"""gzip, its header read byte by byte as RFC 1952 has it."""

import zlib

from tests.support.slow_decoders.result import Refused

_TEXT, _HEADER_CRC, _EXTRA, _NAME, _COMMENT = 1, 2, 4, 8, 16


def gunzip(body: bytes, limit: int = 10 << 20) -> bytes:
    """What all members of a body hold. Raises `Refused`."""
    out = b""
    at = 0
    try:
        while True:
            at, member = _member(body, at)
            out += member
            if len(out) > limit:
                raise Refused("too large")
            if at == len(body):
                return out
    except (IndexError, zlib.error) as error:
        raise Refused(str(error)) from error


def _member(body: bytes, begin: int) -> tuple[int, bytes]:
    """Where a member ends, and what it holds."""
    at = begin
    if body[at : at + 3] != b"\x1f\x8b\x08":
        raise Refused("no gzip")
    flags = body[at + 3]
    if flags >= 32:
        raise Refused("reserved flags")
    at += 10
    if flags & _EXTRA:
        at += 2 + body[at] + (body[at + 1] << 8)
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            while body[at]:
                at += 1
            at += 1
    if flags & _HEADER_CRC:
        crc = zlib.crc32(body[begin:at]) & 0xFFFF
        if body[at] | body[at + 1] << 8 != crc:
            raise Refused("the header's sum is wrong")
        at += 2
    stream = zlib.decompressobj(wbits=-15)
    out = stream.decompress(body[at:])
    if not stream.eof or len(stream.unused_data) < 8:
        raise Refused("cut off")
    at = len(body) - len(stream.unused_data)
    crc = int.from_bytes(body[at : at + 4], "little")
    size = int.from_bytes(body[at + 4 : at + 8], "little")
    if crc != zlib.crc32(out) or size != len(out) & 0xFFFFFFFF:
        raise Refused("the sum or the length is wrong")
    return at + 8, out
