"""The nodes of an expression. Durations and times are milliseconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from service.domain.series import Matcher, Selector

#: A time that a selector is pinned to: milliseconds, or where the query begins or ends.
At = int | Literal["start", "end"] | None


class ValueType(StrEnum):
    """What an expression evaluates to, as Prometheus names it."""

    SCALAR = "scalar"
    VECTOR = "vector"
    MATRIX = "matrix"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Number:
    """`1.5`."""

    value: float


@dataclass(frozen=True, slots=True)
class String:
    """`"text"`."""

    value: str


@dataclass(frozen=True, slots=True)
class Select:
    """`m{a="b"} offset 5m @ 1700000000`: the newest sample of each series."""

    selector: Selector
    offset_ms: int = 0
    at: At = None


@dataclass(frozen=True, slots=True)
class Labels:
    """`{a="b"}` where only labels are named, by which nothing is selected: in `info(v, {…})`."""

    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """`m[5m]`: the samples of each series within a window."""

    select: Select
    range_ms: int


@dataclass(frozen=True, slots=True)
class Subquery:
    """`expr[1h:1m]`; without a step it is the query's default one."""

    expr: "Expr"
    range_ms: int
    step_ms: int | None
    offset_ms: int = 0
    at: At = None


@dataclass(frozen=True, slots=True)
class Call:
    """`name(args…)`; whether the arguments fit has been checked."""

    name: str
    args: tuple["Expr", ...]
    type: ValueType


@dataclass(frozen=True, slots=True)
class Negate:
    """`-expr`."""

    expr: "Expr"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`op by (labels) (param, expr)`; `without` turns the labels around."""

    op: str
    expr: "Expr"
    param: "Expr | None" = None
    labels: tuple[str, ...] = ()
    without: bool = False


class Cardinality(StrEnum):
    """Which side of a binary operation may have several series for one of the other."""

    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"  # group_left
    ONE_TO_MANY = "one-to-many"  # group_right
    MANY_TO_MANY = "many-to-many"  # and, or, unless


@dataclass(frozen=True, slots=True)
class Matching:
    """Which series of two vectors belong together.

    By the labels `labels` if `on`, else by all others. `include` are those that the side with many
    series takes from the other. A series without a partner meets the fill of its other side.
    """

    cardinality: Cardinality = Cardinality.ONE_TO_ONE
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right`; a comparison with `returns_bool` gives 0 or 1 instead of filtering."""

    op: str
    left: "Expr"
    right: "Expr"
    returns_bool: bool = False
    matching: Matching = Matching()


Expr = Number | String | Select | Labels | Range | Subquery | Call | Negate | Aggregate | Binary

COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
SET_OPERATORS = frozenset({"and", "or", "unless"})


def type_of(expr: Expr) -> ValueType:
    """What the expression evaluates to."""
    if isinstance(expr, Number):
        return ValueType.SCALAR
    if isinstance(expr, String):
        return ValueType.STRING
    if isinstance(expr, Range | Subquery):
        return ValueType.MATRIX
    if isinstance(expr, Call):
        return expr.type
    if isinstance(expr, Negate):
        return type_of(expr.expr)
    if isinstance(expr, Binary):
        scalars = type_of(expr.left) is type_of(expr.right) is ValueType.SCALAR
        return ValueType.SCALAR if scalars else ValueType.VECTOR
    return ValueType.VECTOR


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions right below this one, in order."""
    if isinstance(expr, Call):
        return expr.args
    if isinstance(expr, Negate | Subquery):
        return (expr.expr,)
    if isinstance(expr, Aggregate):
        return (expr.expr,) if expr.param is None else (expr.param, expr.expr)
    if isinstance(expr, Binary):
        return (expr.left, expr.right)
    if isinstance(expr, Range):
        return (expr.select,)
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all below it."""
    yield expr
    for child in children(expr):
        yield from walk(child)
