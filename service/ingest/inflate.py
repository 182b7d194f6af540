"""Compressed bodies, inflated piece by piece and never beyond a limit."""

import zlib

from service.domain.errors import InvalidInput, TooLarge

#: What a body may inflate to, as in the limit of plain bodies.
INFLATED_MAX = 10 << 20
_PIECE = 1 << 16


def gunzip(body: bytes, limit: int = INFLATED_MAX) -> bytes:
    """A gzip body, of one member or more.

    Raises `TooLarge` as soon as more than `limit` bytes come out, `InvalidInput` if it is no gzip
    or ends too early.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        stream = zlib.decompressobj(wbits=31)
        rest = body
        while not stream.eof:
            try:
                piece = stream.decompress(rest, _PIECE)
            except zlib.error as error:
                raise InvalidInput(
                    "the body is not valid gzip", where="Content-Encoding"
                ) from error
            size += len(piece)
            if size > limit:
                raise TooLarge(f"the body inflates to more than {limit >> 20} MiB; send less")
            if not piece and not stream.eof and not stream.unconsumed_tail:
                raise InvalidInput("the gzip body is cut off", where="Content-Encoding")
            pieces.append(piece)
            rest = stream.unconsumed_tail
        body = stream.unused_data
        if not body:
            return b"".join(pieces)
