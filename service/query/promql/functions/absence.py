"""Functions that say when there is nothing."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from service.domain.series import NAME, LabelPairs, MatchType, Selector
from service.query.promql.expressions import Expr, Range, Select
from service.query.promql.functions.registry import Asked, Value, function
from service.query.promql.vectors import Flags, Vector
from service.query.promql.windows import Windows


@function("absent")
def _absent(asked: Asked, args: Sequence[Value]) -> Value:
    present = cast(Vector, args[0]).present
    return _where_not(np.logical_or.reduce(present, axis=0), asked.node.args[0])


@function("absent_over_time")
def _absent_over_time(asked: Asked, args: Sequence[Value]) -> Value:
    present = cast(Windows, args[0]).counts > 0
    return _where_not(np.logical_or.reduce(present, axis=0), asked.node.args[0])


def _where_not(something: Flags, expr: Expr) -> Vector:
    """1 at the steps (steps,) without something, with the labels that the expression asks for."""
    return Vector([_labels(expr)], np.ones((1, len(something))), ~something[None, :])


def _labels(expr: Expr) -> LabelPairs:
    if isinstance(expr, Range):
        expr = expr.select
    return _fixed(expr.selector) if isinstance(expr, Select) else ()


def _fixed(selector: Selector) -> LabelPairs:
    """The labels that a selector fixes to one value; one with a second matcher is not fixed."""
    fixed: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in selector.matchers:
        if matcher.name == NAME:
            continue
        if matcher.type is MatchType.EQUAL and matcher.name not in seen:
            fixed[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            fixed.pop(matcher.name, None)
    return tuple(sorted((name, value) for name, value in fixed.items() if value))
