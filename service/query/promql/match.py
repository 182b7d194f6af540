"""Binary operators: arithmetic, comparisons and sets, over scalars and vectors that match."""

from typing import cast

import numpy as np

from service.query.promql.budget import Notes
from service.query.promql.expressions import COMPARISONS, SET_OPERATORS, Binary
from service.query.promql.functions.registry import Value
from service.query.promql.joins import joined
from service.query.promql.operators import ARITHMETIC, COMPARING
from service.query.promql.sets import combined
from service.query.promql.vectors import Array, Vector, without_names


def binary(expr: Binary, left: Value, right: Value, notes: Notes) -> Value:
    """Both sides put together at each step; scalars give a scalar, all else a vector.

    Raises `Unprocessable` where series match that must not, `QueryTooDear` where too many do.
    """
    if isinstance(left, Vector):
        if not isinstance(right, Vector):
            return _with_scalar(expr, left, cast(Array, right), scalar_left=False)
        return (combined if expr.op in SET_OPERATORS else joined)(expr, left, right)
    if isinstance(right, Vector):
        return _with_scalar(expr, right, cast(Array, left), scalar_left=True)
    one, other = cast(Array, left), cast(Array, right)
    if expr.op in COMPARISONS:
        return COMPARING[expr.op](one, other).astype(np.float64)
    return ARITHMETIC[expr.op](one, other)


def _with_scalar(expr: Binary, vector: Vector, scalar: Array, *, scalar_left: bool) -> Vector:
    sides = (scalar, vector.values) if scalar_left else (vector.values, scalar)
    if expr.op not in COMPARISONS:
        values = ARITHMETIC[expr.op](*sides)
        return without_names(Vector(vector.labels, values, vector.present))
    holds = COMPARING[expr.op](*sides)
    if expr.returns_bool:
        return without_names(Vector(vector.labels, holds.astype(np.float64), vector.present))
    return Vector(vector.labels, vector.values, vector.present & holds)
