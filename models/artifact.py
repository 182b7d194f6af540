"""Models on disk: arrays and a manifest in one npz file, signed; never pickle.

A file is a plain `.npz` (numpy opens it) whose entry `manifest.json` holds UTF-8 JSON, followed
by 32 bytes of HMAC-SHA256 over `bound_to`, a zero byte and everything before. The signature is
checked before anything is parsed; `bound_to` (say, tenant and series) keeps a good file from
being taken for another.
"""

import hashlib
import hmac
import io
import json
import math
import os
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
from numpy.typing import NDArray

from models.base import ArrayMap, Arrays

FORMAT = 1
SIGNATURE_BYTES = 32
MANIFEST = "manifest.json"

#: The fixed part of an entry's own header: what counts are the lengths of its name and extra field.
_ENTRY = struct.Struct("<26xHH")
#: How an `.npy` file of version 1.0 begins; the length of its header follows.
_NPY = b"\x93NUMPY\x01\x00"
_LENGTH = struct.Struct("<H")


class ArtifactError(Exception):
    """A file that is missing, truncated, tampered with, foreign or of another format."""


def content_hash(arrays: ArrayMap) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the arrays, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def pack(
    kind: str, arrays: ArrayMap, manifest: Mapping[str, Any], key: bytes, bound_to: str = ""
) -> bytes:
    """The file's bytes. `manifest` gets `format`, `kind` and `sha256` added."""
    if MANIFEST in arrays:
        raise ValueError(f"arrays: {MANIFEST!r} is reserved")
    full = {**manifest, "format": FORMAT, "kind": kind, "sha256": content_hash(arrays)}
    text = json.dumps(full, sort_keys=True, allow_nan=False).encode()
    entries: dict[str, Any] = {**arrays, MANIFEST: np.frombuffer(text, np.uint8)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **entries)
    body = buffer.getvalue()
    return body + _sign(body, key, bound_to)


def unpack(raw: bytes, kind: str, key: bytes, bound_to: str = "") -> tuple[Arrays, dict[str, Any]]:
    """Arrays and manifest of a file's bytes. Raises ArtifactError unless all of it is right."""
    body, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(body, key, bound_to)):
        raise ArtifactError("the signature does not match: truncated, changed or not ours")
    try:
        arrays = _arrays(body)
        manifest = json.loads(arrays.pop(MANIFEST).tobytes())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, struct.error) as error:
        raise ArtifactError(f"not a model file: {error}") from error
    if manifest.get("format") != FORMAT:
        raise ArtifactError(f"format {manifest.get('format')!r}, this program reads {FORMAT}")
    if manifest.get("kind") != kind:
        raise ArtifactError(f"kind {manifest.get('kind')!r} instead of {kind!r}")
    if manifest.get("sha256") != content_hash(arrays):
        raise ArtifactError("the content does not match its hash")
    return arrays, manifest


def _arrays(body: bytes) -> Arrays:
    """What `numpy.load` finds in a file whose entries are stored as they are, in a tenth of time.

    A worker that starts reads thousands of files of a hundred small arrays each.
    """
    found: Arrays = {}
    with zipfile.ZipFile(io.BytesIO(body)) as entries:
        for entry in entries.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.filename} is compressed")
            name, extra = _ENTRY.unpack_from(body, entry.header_offset)
            start = entry.header_offset + _ENTRY.size + name + extra
            raw = body[start : start + entry.file_size]
            found[entry.filename.removesuffix(".npy")] = _array(raw)
    return found


def _array(raw: bytes) -> NDArray[Any]:
    """The array of an `.npy` file."""
    if raw[:8] != _NPY:  # what numpy writes for headers of any ordinary length
        raise ValueError("an entry is no array of version 1.0")
    (length,) = _LENGTH.unpack_from(raw, 8)
    start = 10 + length
    shape, fortran, dtype = _header(raw[8:start])
    if dtype.hasobject:
        raise ValueError("an entry holds objects")
    # a copy: aligned, and writable like any other array
    values = np.frombuffer(raw, dtype, math.prod(shape), start).copy()
    return values.reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=4096)
def _header(raw: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type that a header tells; most files have the same few."""
    return npy.read_array_header_1_0(io.BytesIO(raw))


def write(path: Path, raw: bytes) -> None:
    """Put bytes at `path` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(path: Path) -> bytes:
    """The bytes of a file. Raises ArtifactError if there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from error


def _sign(body: bytes, key: bytes, bound_to: str) -> bytes:
    return hmac.digest(key, bound_to.encode() + b"\0" + body, "sha256")
