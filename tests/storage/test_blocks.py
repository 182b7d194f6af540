"""Blocks that are unpacked together are those unpacked one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import Damaged
from service.storage.blocks import unpack_all
from service.storage.sealed import pack, unpack

FLOATS = st.floats(width=64) | st.sampled_from([0.0, -0.0, np.inf, np.nan, 1e300, 0.1])


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """One of few rows, of the kinds that roll-ups are and of others."""
    n = draw(st.sampled_from([1, 2, 3, 72]))
    random = np.random.default_rng(draw(st.integers(0, 50)))
    t = draw(st.integers(-(2**62), 2**62)) + np.cumsum(
        draw(
            st.sampled_from(
                [np.full(n, 300_000), random.integers(0, 9, n), random.integers(0, 2**40, n)]
            )
        )
    )
    columns = []
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["decimal", "walk", "bits", "same", "any"]))
        if kind == "decimal":
            v = random.integers(0, 10 ** draw(st.integers(1, 9)), n) / 10 ** draw(st.integers(0, 9))
        elif kind == "walk":
            v = np.cumsum(random.integers(-100, 100, n)) / 100
        elif kind == "bits":
            v = random.normal(size=n)
        elif kind == "same":
            v = np.full(n, draw(FLOATS))
        else:
            v = np.array(draw(st.lists(FLOATS, min_size=n, max_size=n)))
        columns.append(v)
    return pack(t, columns)


@given(st.lists(blocks(), max_size=12), st.integers(1, 2), st.none() | st.integers(0, 400))
def test_they_are_the_same(values: list[bytes], columns: int, cut: int | None) -> None:
    if values and cut is not None:
        values[0] = values[0][:cut]
    found, damaged = unpack_all(values, columns)
    wrong = {place: str(error) for place, error in damaged}
    seen = set(wrong)
    for group in found:
        for row, place in enumerate(group.which.tolist()):
            t, each = unpack(values[place], columns)
            assert group.t[row].tolist() == t.tolist()
            for ours, theirs in zip(group.columns, each, strict=True):
                assert np.ascontiguousarray(ours[row]).tobytes() == theirs.tobytes()
            seen.add(place)
    assert seen == set(range(len(values)))
    for place, said in wrong.items():
        with pytest.raises(Damaged) as refused:
            unpack(values[place], columns)
        assert str(refused.value) == said
