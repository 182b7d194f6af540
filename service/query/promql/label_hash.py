"""The hash of label sets by which `limit_ratio` chooses: XXH64 of how Prometheus 3 stores them.

XXH64: Yann Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. Computed side by
side for all label sets whose encodings are equally long.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.domain.series import LabelPairs
from service.query.promql.vectors import Array

Words = NDArray[np.uint64]

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_STRIPE = 32
_LONG = 255


def offsets(labels: Sequence[LabelPairs]) -> Array:
    """Where in [0, 1] each label set lies (n,): its hash over the greatest that there is."""
    encoded = [_encoded(pairs) for pairs in labels]
    by_length: dict[int, list[int]] = {}
    for i, text in enumerate(encoded):
        by_length.setdefault(len(text), []).append(i)
    hashes = np.empty(len(labels), np.uint64)
    for length, places in by_length.items():
        joined = b"".join(encoded[i] for i in places)
        hashes[places] = xxh64(np.frombuffer(joined, np.uint8).reshape(len(places), length))
    return hashes.astype(np.float64) / float(2**64 - 1)


def _encoded(labels: LabelPairs) -> bytes:
    """Names and values in order, each after its length: one byte, or 255 and three."""
    parts = []
    for text in (part for pair in labels for part in pair):
        raw = text.encode(errors="surrogatepass")
        size = len(raw)
        parts.append(bytes((size,)) if size < _LONG else b"\xff" + size.to_bytes(3, "little"))
        parts.append(raw)
    return b"".join(parts)


def xxh64(texts: NDArray[np.uint8]) -> Words:
    """The hashes (n,) of n texts (n, length), with seed 0."""
    many, length = texts.shape
    stripes = length // _STRIPE
    with np.errstate(over="ignore"):
        if stripes:
            words = _words(texts[:, : stripes * _STRIPE], "<u8").reshape(many, stripes, 4)
            start = np.array([0], np.uint64)
            lanes = np.repeat(
                np.concatenate([start + _P1 + _P2, start + _P2, start, start - _P1])[None], many, 0
            )
            for stripe in range(stripes):
                lanes = _round(lanes, words[:, stripe])
            turns = np.array([1, 7, 12, 18], np.uint64)
            digest = _left(lanes, turns).sum(axis=1, dtype=np.uint64)
            for lane in range(4):
                digest = (digest ^ _round(np.uint64(0), lanes[:, lane])) * _P1 + _P4
        else:
            digest = np.full(many, _P5)
        digest = digest + np.uint64(length)
        at = stripes * _STRIPE
        while at + 8 <= length:
            word = _words(texts[:, at : at + 8], "<u8")[:, 0]
            digest = _left(digest ^ _round(np.uint64(0), word), 27) * _P1 + _P4
            at += 8
        if at + 4 <= length:
            half = _words(texts[:, at : at + 4], "<u4")[:, 0].astype(np.uint64)
            digest = _left(digest ^ (half * _P1), 23) * _P2 + _P3
            at += 4
        for byte in range(at, length):
            digest = _left(digest ^ (texts[:, byte].astype(np.uint64) * _P5), 11) * _P1
        digest = (digest ^ (digest >> np.uint64(33))) * _P2
        digest = (digest ^ (digest >> np.uint64(29))) * _P3
    hashes: Words = digest ^ (digest >> np.uint64(32))
    return hashes


def _words(texts: NDArray[np.uint8], kind: str) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.ascontiguousarray(texts).view(kind)
    return words


def _round(lane: Words | np.uint64, word: Words) -> Words:
    turned: Words = _left(lane + word * _P2, 31) * _P1
    return turned


def _left(word: Words, turns: int | Words) -> Words:
    by = np.asarray(turns, np.uint64)
    turned: Words = (word << by) | (word >> (np.uint64(64) - by))
    return turned
