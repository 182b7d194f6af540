"""What can be called. Files of this folder enter their functions; rooms above may enter more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.domain.series import Selector
from service.query.promql.budget import Budget, Notes
from service.query.promql.expressions import Call, Expr, Select
from service.query.promql.source import Source
from service.query.promql.vectors import Array, Steps, Vector
from service.query.promql.windows import Windows
from service.storage.columns import Times

#: What an expression evaluates to: a scalar (steps,), an instant vector, a range vector, a string.
Value = Array | Vector | Windows | str


class Asked(Protocol):
    """A call and what surrounds it. `whole` are the steps of the query, `steps` those asked for."""

    node: Call
    steps: Steps
    whole: Steps
    source: Source
    notes: Notes
    budget: Budget

    @property
    def times(self) -> Times:
        """The times of evaluation (steps,), in milliseconds."""
        ...

    def value(self, expr: Expr) -> Value:
        """What an argument evaluates to, for functions that are `lazy`."""
        ...

    def vector(self, expr: Expr) -> Vector:
        """An argument that is an instant vector."""
        ...

    def scalar(self, expr: Expr) -> Array:
        """An argument that is a scalar (steps,)."""
        ...

    def text(self, expr: Expr) -> str:
        """An argument that is a string."""
        ...

    def newest(self, select: Select) -> tuple[Vector, Times]:
        """The samples of a selector, and their times (n, steps)."""
        ...


class Reach(NamedTuple):
    """A selector, and what of it is looked at: from before a step to after it.

    With `newest` at least as much before as selectors look back on.
    """

    selector: Selector
    past_ms: int
    ahead_ms: int = 0
    newest: bool = False


Implementation = Callable[[Asked, Sequence[Value]], Value]

#: What a function asks its source for besides its arguments.
Also = Callable[[Call], Sequence[Reach]]


@dataclass(frozen=True, slots=True)
class Function:
    """One function. With `lazy` it gets no values, but evaluates its arguments by itself.

    `also` names what it reads besides its arguments, to be fetched before. The arguments at the
    places `labels_only` are `Labels`.
    """

    name: str
    call: Implementation
    lazy: bool = False
    also: Also | None = None
    labels_only: frozenset[int] = frozenset()


FUNCTIONS: dict[str, Function] = {}


def function(
    name: str,
    *,
    lazy: bool = False,
    also: Also | None = None,
    labels_only: frozenset[int] = frozenset(),
) -> Callable[[Implementation], Implementation]:
    """Enter a function that the parser knows."""

    def enter(call: Implementation) -> Implementation:
        FUNCTIONS[name] = Function(name, call, lazy, also, labels_only)
        return call

    return enter
