"""Snappy's block format, byte by byte: https://github.com/google/snappy/blob/main/format_description.txt."""

from tests.support.slow_decoders.result import Refused


def inflate(body: bytes) -> bytes:
    """What a block holds. Raises `Refused`."""
    try:
        return _inflate(body)
    except IndexError as error:
        raise Refused("cut off") from error


def _inflate(body: bytes) -> bytes:
    size, at = 0, 0
    for place in range(5):
        size |= (body[at] & 127) << (7 * place)
        at += 1
        if body[at - 1] < 128:
            break
    else:
        raise Refused("no length")
    if size > 10 << 20:
        raise Refused("too large")
    out = bytearray()
    while at < len(body):
        tag, kind = body[at] >> 2, body[at] & 3
        at += 1
        if kind == 0:
            length = tag + 1
            if tag >= 60:
                # The library looks at four bytes. No encoder writes so short a literal so long.
                if at + 4 > len(body):
                    raise Refused("cut off")
                length = _number(body, at, tag - 59) + 1
                at += tag - 59
            if at + length > len(body):
                raise Refused("cut off")
            out += body[at : at + length]
            at += length
        else:
            if kind == 1:
                length, offset = (tag & 7) + 4, (tag >> 3) << 8 | body[at]
                at += 1
            else:
                width = 2 if kind == 2 else 4
                length, offset = tag + 1, _number(body, at, width)
                at += width
            if not 0 < offset <= len(out):
                raise Refused("a copy from nowhere")
            for _ in range(length):
                out.append(out[-offset])
        if len(out) > size:
            raise Refused("longer than it says")
    if len(out) != size:
        raise Refused("shorter than it says")
    return bytes(out)


def _number(body: bytes, at: int, width: int) -> int:
    return sum(body[at + place] << (8 * place) for place in range(width))
