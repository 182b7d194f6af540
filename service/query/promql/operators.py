"""What binary operators do to floats, as Go's `math` has it, which Prometheus is written with."""

from collections.abc import Callable

import numpy as np

from service.query.promql.vectors import Array, Flags

#: Exponents beyond these, of either sign, overflow whatever they are multiplied with.
_EXPONENT_MAX = 4096
_INT64_BEYOND = 2.0**63


def power(x: Array, y: Array) -> Array:
    """`x ** y`; whole exponents by squaring mantissas, in Go's order, so to its last bit.

    The special cases are those of C99, which Go's are too. A fraction of the exponent goes through
    a logarithm, whose last bit may be another than Go's.
    """
    x, y = np.broadcast_arrays(x, y)
    result: Array = np.power(x, y)
    whole = np.trunc(np.abs(y))
    rest = np.abs(y) - whole
    plain = np.isfinite(x) & np.isfinite(y) & (x != 0) & (x != 1) & (y != 0) & (y != 1)
    half = plain & (np.abs(y) == 0.5)
    plain &= ~half & (whole < _INT64_BEYOND) & ((x > 0) | (rest == 0))
    # numpy takes a root for the exponent 0.5, which is another for -Inf and -0.
    odd = (np.abs(y) == 0.5) & ((x == 0) | np.isneginf(x))
    if odd.any():
        result[odd] = np.where((y[odd] > 0) == (x[odd] == 0), 0.0, np.inf)
    if half.any():
        root = np.sqrt(x[half])
        result[half] = np.where(y[half] > 0, root, 1 / root)
    if plain.any():
        result[plain] = _by_squaring(x[plain], y[plain] < 0, whole[plain], rest[plain])
    return result


def arc_tangent(y: Array, x: Array) -> Array:
    """The angle of a point, as Go has it: by the quotient, even where that underflows."""
    angle = np.arctan(y / x)
    angle = np.where(x < 0, np.where(angle <= 0, angle + np.pi, angle - np.pi), angle)
    plain = np.isfinite(x) & np.isfinite(y) & (x != 0) & (y != 0)
    return np.where(plain, angle, np.arctan2(y, x))


def _by_squaring(x: Array, inverse: Flags, whole: Array, rest: Array) -> Array:
    """`x ** (whole + rest)` or its inverse; all (n,), `rest` below one."""
    up = rest > 0.5
    rest, bits = np.where(up, rest - 1, rest), (whole + up).astype(np.int64)
    mantissa = np.where(rest != 0, np.exp(rest * np.log(np.abs(x))), 1.0)
    exponent = np.zeros(len(x), np.int64)
    base, base_exponent = np.frexp(x)
    base_exponent = base_exponent.astype(np.int64)
    while bits.any():
        beyond = (bits != 0) & (np.abs(base_exponent) > _EXPONENT_MAX)
        exponent += np.where(beyond, base_exponent, 0)
        bits[beyond] = 0
        odd = (bits & 1) == 1
        mantissa = np.where(odd, mantissa * base, mantissa)
        exponent += np.where(odd, base_exponent, 0)
        base = base * base
        small = base < 0.5
        base = np.where(small, base + base, base)
        base_exponent = np.where(bits != 0, 2 * base_exponent - small, 0)
        bits >>= 1
    mantissa = np.where(inverse, 1 / mantissa, mantissa)
    exponent = np.where(inverse, -exponent, exponent)
    raised: Array = np.ldexp(mantissa, np.clip(exponent, -100_000, 100_000).astype(np.int32))
    return raised


ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": power,
    "atan2": arc_tangent,
}

COMPARING: dict[str, Callable[[Array, Array], Flags]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
