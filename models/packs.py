"""Many models in one file: artifacts one after the other, and a signed index at the end.

A segment is written once and never changed. It begins with `MAGIC`; each record is an artifact
(`models.artifact`, signed on its own), found by offset and length; after the last one stand the
index as UTF-8 JSON, 32 bytes of HMAC-SHA256 over the segment's name and the index, and the
length of the index as 8 bytes. Whoever knows a record's place reads nothing but the record.
"""

import hmac
import json
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from models.artifact import SIGNATURE_BYTES, ArtifactError

MAGIC = b"OFFBEATPACK1\n"
_LENGTH = struct.Struct("<Q")
#: What follows the index.
TRAILER_BYTES = SIGNATURE_BYTES + _LENGTH.size


class Entry(NamedTuple):
    """Where a record lies in its segment, and what its artifact is bound to."""

    bound_to: str
    offset: int
    length: int


def build(name: str, records: Iterable[tuple[str, bytes]], key: bytes) -> tuple[bytes, list[Entry]]:
    """The bytes of a segment of that name, and where each record (bound_to, artifact) lies."""
    parts, entries, offset = [MAGIC], [], len(MAGIC)
    for bound_to, raw in records:
        entries.append(Entry(bound_to, offset, len(raw)))
        parts.append(raw)
        offset += len(raw)
    index = json.dumps(entries, separators=(",", ":")).encode()
    parts += [index, _sign(name, index, key), _LENGTH.pack(len(index))]
    return b"".join(parts), entries


def index_bytes(trailer: bytes, size: int) -> int:
    """Length of the index, from the last `TRAILER_BYTES` of a segment of `size` bytes.

    Raises ArtifactError if that cannot be.
    """
    if len(trailer) != TRAILER_BYTES:
        raise ArtifactError("the segment is cut off")
    (length,) = _LENGTH.unpack(trailer[SIGNATURE_BYTES:])
    if len(MAGIC) + length + TRAILER_BYTES > size:
        raise ArtifactError("the segment is cut off")
    return int(length)


def read_index(name: str, index: bytes, trailer: bytes, key: bytes) -> Sequence[Entry]:
    """The entries of a segment, from its index and trailer; ArtifactError unless all is right."""
    signature = trailer[:SIGNATURE_BYTES]
    if not hmac.compare_digest(signature, _sign(name, index, key)):
        raise ArtifactError("the signature of the index does not match: changed or not ours")
    try:
        return [Entry(str(bound), int(at), int(length)) for bound, at, length in json.loads(index)]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"not an index: {error}") from error


def _sign(name: str, index: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"index\0" + name.encode() + b"\0" + index, "sha256")
