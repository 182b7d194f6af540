"""Set operators: `and`, `or`, `unless`."""

import numpy as np

from service.query.promql.expressions import Binary
from service.query.promql.grouping import numbered, present_in, with_labels, without_labels
from service.query.promql.vectors import Vector, merged


def combined(expr: Binary, left: Vector, right: Vector) -> Vector:
    """The series of both sides that the operator leaves at each step, those of the left first."""
    matching = expr.matching
    keyed = with_labels if matching.on else without_labels
    keys, row = numbered(keyed([*left.labels, *right.labels], matching.labels))
    of_left, of_right = row[: len(left.labels)], row[len(left.labels) :]
    if expr.op == "or":
        taken = present_in(of_left, len(keys), left.present) > 0
        others = Vector(right.labels, right.values, right.present & ~taken[of_right]).seen()
        return merged(
            Vector(
                [*left.labels, *others.labels],
                np.concatenate([left.values, others.values]),
                np.concatenate([left.present, others.present]),
            )
        )
    there = (present_in(of_right, len(keys), right.present) > 0)[of_left]
    return Vector(left.labels, left.values, left.present & (there if expr.op == "and" else ~there))
