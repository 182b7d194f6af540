"""Vectors for tests: made up by hypothesis, and looked at one step at a time."""

import numpy as np
from hypothesis import strategies as st

from service.domain.series import NAME, LabelPairs
from service.query.promql.vectors import Vector

#: Floats that sums and comparisons are bad at.
FLOATS = st.sampled_from(
    [0.0, -0.0, 1.0, 2.0, 2.0, 0.1, -0.3, 1e16, 1e-16, -1e16, np.nan, np.inf, -np.inf, 1.7e308]
) | st.floats(-100, 100)


@st.composite
def vectors(draw: st.DrawFn, steps: int, names: tuple[str, ...] = ("a",), most: int = 7) -> Vector:
    """Up to so many series at so many steps, with gaps, in any order."""
    label_sets = draw(
        st.lists(
            st.fixed_dictionaries(
                {NAME: st.sampled_from(names)},
                optional={
                    "x": st.sampled_from("12"),
                    "y": st.sampled_from("pq"),
                    "z": st.just("u"),
                },
            ),
            max_size=most,
            unique_by=lambda labels: tuple(sorted(labels.items())),
        )
    )
    shape = (len(label_sets), steps)
    count = shape[0] * steps
    values = draw(st.lists(FLOATS, min_size=count, max_size=count))
    present = draw(st.lists(st.booleans() | st.just(True), min_size=count, max_size=count))
    return Vector(
        [tuple(sorted(labels.items())) for labels in label_sets],
        np.array(values, np.float64).reshape(shape),
        np.array(present, np.bool_).reshape(shape),
    )


def at(vector: Vector, step: int) -> list[tuple[LabelPairs, float]]:
    """The series that have a value at a step, in order."""
    return [
        (vector.labels[i], float(vector.values[i, step]))
        for i in np.flatnonzero(vector.present[:, step])
    ]


def same(found: list[tuple[LabelPairs, float]], expected: list[tuple[LabelPairs, float]]) -> bool:
    """Whether both have the same labels with the same bits, all NaN being one, in any order."""
    return sorted((labels, _bits(value)) for labels, value in found) == sorted(
        (labels, _bits(value)) for labels, value in expected
    )


def _bits(value: float) -> str:
    return "nan" if np.isnan(value) else np.float64(value).hex()
