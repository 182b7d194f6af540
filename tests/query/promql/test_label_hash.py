"""Hashes are XXH64 and depend on every byte."""

import numpy as np
import pytest

from service.domain.series import LabelPairs
from service.query.promql.label_hash import offsets, xxh64
from tests.support.literal import labels


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Call me Ishmael. Some years ago--never mind how long precisely-", 0x02A2E85470D6FD96),
    ],
)
def test_known_hashes(text: bytes, digest: int) -> None:
    texts = np.frombuffer(text * 2, np.uint8).reshape(2, len(text))
    assert xxh64(texts).tolist() == [digest, digest]


def test_label_sets_are_hashed_whole_whatever_their_lengths() -> None:
    sets: list[LabelPairs] = [labels("m", a="x" * size) for size in (1, 254, 255, 256, 70_000)]
    sets += [labels("m", a="1", b="2"), labels("m", a="12", b=""), labels("m", a="é")]
    found = offsets(sets)
    assert len(set(found.tolist())) == len(sets)
    assert ((found >= 0) & (found <= 1)).all()
    assert offsets(sets[::-1]).tolist() == found[::-1].tolist()
    assert offsets([]).tolist() == []
