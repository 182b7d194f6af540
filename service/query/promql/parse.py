"""Text to expressions, by PromQL's own grammar.

`promql-parser` parses and checks types; what it gives is turned once into nodes of ours, which are
quick to walk, and remembered.
"""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import promql_parser

from service.domain.errors import InvalidInput
from service.domain.series import NAME, Matcher, MatchType, Selector
from service.query.matchers import accepts, check_pattern, shorten
from service.query.promql.expressions import (
    SET_OPERATORS,
    Aggregate,
    At,
    Binary,
    Call,
    Cardinality,
    Expr,
    Labels,
    Matching,
    Negate,
    Number,
    Range,
    Select,
    String,
    Subquery,
    ValueType,
    type_of,
)
from service.query.promql.functions import FUNCTIONS
from service.query.promql.lexical import LABELS_ONLY, QUOTED, plain, unmarked, with_labels_only

TEXT_MAX = 16_384
#: Operators and open brackets; the parser goes down a level of its stack for each, and so do we.
DEPTH_MAX = 250

_MATCH_TYPES = {
    "MatchOp.Equal": MatchType.EQUAL,
    "MatchOp.NotEqual": MatchType.NOT_EQUAL,
    "MatchOp.Re": MatchType.REGEX,
    "MatchOp.NotRe": MatchType.NOT_REGEX,
}
_CARDINALITIES = {
    "OneToOne": Cardinality.ONE_TO_ONE,
    "ManyToOne": Cardinality.MANY_TO_ONE,
    "OneToMany": Cardinality.ONE_TO_MANY,
    "ManyToMany": Cardinality.MANY_TO_MANY,
}
_NO_MATCHER = "vector selector must contain at least one non-empty matcher"
_DEEPER = re.compile(r"[-+*/%^<>([{]|[=!]=|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)
#: How the parser's own text shows a time before 1970, which it cannot hand over.
_BEFORE_1970 = re.compile(r"tv_sec: (-\d+),\s+tv_nsec: (\d+)")


@lru_cache(maxsize=20_000)
def parse(text: str) -> Expr:
    """The expression that `text` writes; `InvalidInput` says what is wrong with it."""
    if not text.strip():
        raise InvalidInput("an expression is empty")
    if len(text) > TEXT_MAX:
        raise InvalidInput(
            f"an expression may have {TEXT_MAX:,} characters, this one has {len(text):,}"
        )
    if sum(1 for _ in _DEEPER.finditer(QUOTED.sub('""', text))) > DEPTH_MAX:
        raise InvalidInput(f"{shorten(text)!r} has more than {DEPTH_MAX} operators and brackets")
    try:
        return _turned(_parsed(plain(text)))
    except ValueError as error:
        raise InvalidInput(f"{error} in {shorten(text)!r}") from error


def formatted(text: str) -> str:
    """The expression as it is best read, over several lines if it is long; `InvalidInput`."""
    parse(text)
    pretty: str = _parsed(plain(text)).prettify()
    return unmarked(pretty)


def _parsed(text: str) -> Any:
    """The parser's tree; `ValueError` says what is wrong with the text."""
    try:
        return promql_parser.parse(text)
    except ValueError as error:
        if _NO_MATCHER not in str(error):
            raise
    # The labels of `info` need not exclude anything, which the parser does not know. Selectors that
    # must are looked at again when they are turned.
    return promql_parser.parse(with_labels_only(text))


def register(
    name: str,
    takes: Sequence[ValueType],
    *,
    variadic: int = 0,
    check: Callable[[Call], None] | None = None,
) -> None:
    """Make a function of ours known, which gives an instant vector.

    `takes` are the types of its arguments; with `variadic` the last one may be absent or stand that
    many times, with -1 as often as one likes. `check` raises `InvalidInput` for a call that cannot
    be. The parser knows one set of functions a process.
    """
    types = [_VALUE_TYPES[kind] for kind in takes]
    known = promql_parser.Function(name, types, promql_parser.ValueType.Vector, variadic=variadic)
    promql_parser.register_extra_functions([known])
    if check is not None:
        _CHECKS[name] = check


_VALUE_TYPES = {
    ValueType.SCALAR: promql_parser.ValueType.Scalar,
    ValueType.VECTOR: promql_parser.ValueType.Vector,
    ValueType.MATRIX: promql_parser.ValueType.Matrix,
    ValueType.STRING: promql_parser.ValueType.String,
}
_CHECKS: dict[str, Callable[[Call], None]] = {}


def _turned(node: Any) -> Expr:
    return _TURN[type(node)](node)


def _select(node: Any) -> Select:
    matchers = _matchers(node)
    if accepts(matchers, {}):
        raise ValueError(_NO_MATCHER)
    return Select(Selector(matchers, unmarked(str(node))), _milliseconds(node.offset), _at(node))


def _labels(node: Any) -> Labels:
    if not isinstance(node, promql_parser.VectorSelector):
        raise ValueError("expected label selectors only")
    if node.name:
        raise ValueError("expected label selectors only, got vector selector instead")
    return Labels(_matchers(node))


def _matchers(node: Any) -> tuple[Matcher, ...]:
    if node.matchers.or_matchers:
        raise InvalidInput("`or` between matchers is not PromQL; write `a or b` between selectors")
    matchers = [
        Matcher(m.name, _MATCH_TYPES[str(m.op)], m.value)
        for m in node.matchers.matchers
        if m.name != LABELS_ONLY
    ]
    if node.name and not any(m.name == NAME for m in matchers):
        matchers.insert(0, Matcher(NAME, MatchType.EQUAL, node.name))
    for matcher in matchers:
        if matcher.type in (MatchType.REGEX, MatchType.NOT_REGEX):
            check_pattern(matcher.value)
    return tuple(matchers)


def _range(node: Any) -> Range:
    return Range(_select(node.vector_selector), _length(node.range))


def _subquery(node: Any) -> Subquery:
    return Subquery(
        _turned(node.expr),
        _length(node.range),
        None if node.step is None else _length(node.step),
        _milliseconds(node.offset),
        _at(node),
    )


def _call(node: Any) -> Call:
    if node.func.name not in FUNCTIONS:  # the parser knows more of them
        raise InvalidInput(f'unknown function with name "{node.func.name}"')
    labels_only = FUNCTIONS[node.func.name].labels_only
    returns = ValueType(str(node.func.return_type).removeprefix("ValueType.").lower())
    args = [
        _labels(arg) if place in labels_only else _turned(arg)
        for place, arg in enumerate(node.args)
    ]
    found = Call(node.func.name, tuple(args), returns)
    if found.name in _CHECKS:
        _CHECKS[found.name](found)
    return found


def _negate(node: Any) -> Expr:
    inner = _turned(node.expr)
    return Number(-inner.value) if isinstance(inner, Number) else Negate(inner)


def _aggregate(node: Any) -> Aggregate:
    modifier = node.modifier
    return Aggregate(
        str(node.op),
        _turned(node.expr),
        None if node.param is None else _turned(node.param),
        () if modifier is None else tuple(modifier.labels),
        modifier is not None and str(modifier.type).endswith("Without"),
    )


def _binary(node: Any) -> Binary:
    left, right = _turned(node.lhs), _turned(node.rhs)
    modifier = node.modifier
    if modifier is None:
        return Binary(str(node.op), left, right)
    by, fill = modifier.matching, modifier.fill_values
    if fill is not None and (fill.lhs is not None or fill.rhs is not None):
        _check_fill(str(node.op), left, right)
    matching = Matching(
        _CARDINALITIES[str(modifier.card).rpartition(".")[2]],
        by is not None and str(by.type).endswith("Include"),
        () if by is None else tuple(by.labels),
        tuple(modifier.group_labels or ()),
        None if fill is None else fill.lhs,
        None if fill is None else fill.rhs,
    )
    return Binary(str(node.op), left, right, modifier.return_bool, matching)


def _check_fill(op: str, left: Expr, right: Expr) -> None:
    if not type_of(left) is type_of(right) is ValueType.VECTOR:
        raise ValueError("filling in missing series only allowed between instant vectors")
    if op in SET_OPERATORS:
        raise ValueError("filling in missing series not allowed for set operators")


def _at(node: Any) -> At:
    modifier = node.at
    if modifier is None:
        return None
    kind = str(modifier.type).rpartition(".")[2]
    if kind != "At":
        return "start" if kind == "Start" else "end"
    if before := _BEFORE_1970.search(repr(node)):
        return int(before[1]) * 1000 + round(int(before[2]) / 1_000_000)
    return round(modifier.at.timestamp() * 1000)


def _length(length: timedelta) -> int:
    milliseconds = _milliseconds(length)
    if milliseconds <= 0:
        raise ValueError("duration must be greater than 0")
    return milliseconds


def _milliseconds(length: timedelta | None) -> int:
    """Whole milliseconds of a length, what is beyond them cut off."""
    if length is None:
        return 0
    whole = abs(length) // timedelta(milliseconds=1)
    return whole if length >= timedelta() else -whole


_TURN: dict[type, Callable[[Any], Expr]] = {
    promql_parser.NumberLiteral: lambda node: Number(node.val),
    promql_parser.StringLiteral: lambda node: String(node.val),
    promql_parser.VectorSelector: _select,
    promql_parser.MatrixSelector: _range,
    promql_parser.SubqueryExpr: _subquery,
    promql_parser.Call: _call,
    promql_parser.UnaryExpr: _negate,
    promql_parser.AggregateExpr: _aggregate,
    promql_parser.BinaryExpr: _binary,
    promql_parser.ParenExpr: lambda node: _turned(node.expr),
}
