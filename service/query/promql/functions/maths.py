"""Functions of one number, of every series alike."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.vectors import Array, Vector, without_names

_LOG2_E = 1.4426950408889634
_LOG10_E = 0.4342944819032518


def _enter(name: str, compute: Callable[[Array], Array]) -> None:
    @function(name)
    def call(asked: Asked, args: Sequence[Value]) -> Value:
        return mapped(cast(Vector, args[0]), compute)


def mapped(vector: Vector, compute: Callable[[Array], Array]) -> Vector:
    """The series without their names, each value replaced by what is computed of it."""
    # Contiguous, so that a number is rounded the same whatever stands beside it.
    values = compute(np.ascontiguousarray(vector.values))
    return without_names(Vector(vector.labels, values, vector.present))


def _log2(x: Array) -> Array:
    """As Go does it, which is exact for powers of two alone."""
    fraction, exponent = np.frexp(x)
    found: Array = np.log(fraction) * _LOG2_E + exponent
    return np.where(fraction == 0.5, exponent - 1.0, found)


def _log10(x: Array) -> Array:
    """As Go does it."""
    found: Array = np.log(x) * _LOG10_E
    return found


def _sign(x: Array) -> Array:
    return np.where(x < 0, -1.0, np.where(x > 0, 1.0, x))


def _smaller(a: Array, b: Array) -> Array:
    """The smaller one; infinity before NaN and -0 before 0, as in Go."""
    least = np.where((a == 0) & (b == 0), -(-a - b), np.minimum(a, b))
    return np.where(np.isneginf(a) | np.isneginf(b), -np.inf, least)


def _larger(a: Array, b: Array) -> Array:
    """The larger one; infinity before NaN and 0 before -0, as in Go."""
    most = np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))
    return np.where(np.isposinf(a) | np.isposinf(b), np.inf, most)


def _clamped(vector: Vector, low: Array, high: Array) -> Vector:
    """Within bounds (steps,); at steps where they are crossed there is nothing."""
    present = vector.present & ~(high < low)
    values = _larger(low, _smaller(high, vector.values))
    return without_names(Vector(vector.labels, values, present))


@function("clamp")
def _clamp(asked: Asked, args: Sequence[Value]) -> Value:
    return _clamped(cast(Vector, args[0]), cast(Array, args[1]), cast(Array, args[2]))


@function("clamp_min")
def _clamp_min(asked: Asked, args: Sequence[Value]) -> Value:
    low = cast(Array, args[1])
    return _clamped(cast(Vector, args[0]), low, np.full(low.shape, np.inf))


@function("clamp_max")
def _clamp_max(asked: Asked, args: Sequence[Value]) -> Value:
    high = cast(Array, args[1])
    return _clamped(cast(Vector, args[0]), np.full(high.shape, -np.inf), high)


@function("max_of")
def _max_of(asked: Asked, args: Sequence[Value]) -> Value:
    return _larger(cast(Array, args[0]), cast(Array, args[1]))


@function("min_of")
def _min_of(asked: Asked, args: Sequence[Value]) -> Value:
    return _smaller(cast(Array, args[0]), cast(Array, args[1]))


@function("round")
def _round(asked: Asked, args: Sequence[Value]) -> Value:
    nearest = cast(Array, args[1]) if len(args) > 1 else np.ones(asked.steps.count)
    inverse = 1.0 / nearest
    return mapped(cast(Vector, args[0]), lambda x: np.floor(x * inverse + 0.5) / inverse)


@function("pi")
def _pi(asked: Asked, args: Sequence[Value]) -> Value:
    return np.full(asked.steps.count, np.pi)


@function("scalar")
def _scalar(asked: Asked, args: Sequence[Value]) -> Value:
    vector = cast(Vector, args[0])
    only = vector.present & (vector.present.sum(axis=0) == 1)
    found = np.full(asked.steps.count, np.nan)
    series, step = np.nonzero(only)
    found[step] = vector.values[series, step]
    return found


@function("vector")
def _vector(asked: Asked, args: Sequence[Value]) -> Value:
    values = cast(Array, args[0])[None, :]
    return Vector([()], values, np.ones(values.shape, np.bool_))


def _half_exp(x: Array) -> Array:
    """What Go takes for the hyperbolic cosine beyond 21; it becomes infinite a little earlier."""
    return np.exp(np.abs(x)) * 0.5


_PLAIN: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "ln": np.log,
    "log2": _log2,
    "log10": _log10,
    "sqrt": np.sqrt,
    "sgn": _sign,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": lambda x: np.where(np.abs(x) > 21, np.sign(x) * _half_exp(x), np.sinh(x)),
    "cosh": lambda x: np.where(np.abs(x) > 21, _half_exp(x), np.cosh(x)),
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "deg": lambda x: x * 180 / np.pi,
    "rad": lambda x: x * np.pi / 180,
}
for _name, _compute in _PLAIN.items():
    _enter(_name, _compute)
