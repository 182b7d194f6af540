"""Text to expressions, by PromQL's own grammar.

`promql-parser` parses and checks types; what it gives is turned once into nodes of ours, which are
quick to walk, and remembered.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
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
from service.query.promql.memo import Memo
from service.query.promql.spelling import LABELS_ONLY, QUOTED, respelt, unmarked, with_labels_only

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
#: Lengths of time are below 292 years, as Go's are, and times are within four-digit years.
_LENGTH_MAX = timedelta(microseconds=2**63 // 1000)
_AT_MAX_MS = 253_402_300_799_999
#: How the parser's own text shows a time, also before 1970, which it cannot hand over. The node's
#: own is the last in it.
_TIME = re.compile(r"tv_sec: (-?\d+),\s+tv_nsec: (\d+)")
#: Of a megabyte of texts the nodes take a few hundred at the worst; of rules as people write them,
#: there are ten thousand in it.
_KNOWN: Memo[Expr] = Memo(1 << 20)


def parse(text: str) -> Expr:
    """The expression that `text` writes; `InvalidInput` says what is wrong with it."""
    return _KNOWN.of(text, _parsed)


def _parsed(text: str) -> Expr:
    if not text.strip():
        raise InvalidInput("an expression is empty")
    if len(text) > TEXT_MAX:
        raise InvalidInput(
            f"an expression may have {TEXT_MAX:,} characters, this one has {len(text):,}"
        )
    if sum(1 for _ in _DEEPER.finditer(QUOTED.sub('""', text))) > DEPTH_MAX:
        raise InvalidInput(f"{shorten(text)!r} has more than {DEPTH_MAX} operators and brackets")
    return _turned(_tree(text))


def prettified(text: str) -> str:
    """An expression that `parse` accepts, as it is best read."""
    return unmarked(_tree(text).prettify())


def _tree(text: str) -> Any:
    try:
        return _by_grammar(respelt(text))
    except ValueError as error:
        raise InvalidInput(f"{error} in {shorten(text)!r}") from error
    except BaseException as error:
        # At lengths of time beyond its own bounds Rust panics, with what is not even an Exception.
        if not isinstance(error, OverflowError) and type(error).__name__ != "PanicException":
            raise
        raise InvalidInput(f"duration out of range in {shorten(text)!r}") from error


def _by_grammar(text: str) -> Any:
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
    text = unmarked(str(node))
    if accepts(matchers, {}):
        raise InvalidInput(f"{_NO_MATCHER} in {shorten(text)!r}")
    selector = Selector(matchers, text)
    return Select(selector, _milliseconds(_length(node, "offset")), _at(node))


def _labels(node: Any) -> Labels:
    if not isinstance(node, promql_parser.VectorSelector):
        raise InvalidInput("expected label selectors only")
    if node.name:
        raise InvalidInput("expected label selectors only, got vector selector instead")
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
    return Range(_select(node.vector_selector), _positive(_length(node, "range")))


def _subquery(node: Any) -> Subquery:
    step = _length(node, "step")
    return Subquery(
        _turned(node.expr),
        _positive(_length(node, "range")),
        None if step is None else _positive(step),
        _milliseconds(_length(node, "offset")),
        _at(node),
    )


def _call(node: Any) -> Call:
    if node.func.name not in FUNCTIONS:  # the parser knows more of them
        raise InvalidInput(f'unknown function with name "{node.func.name}"')
    labels_only = FUNCTIONS[node.func.name].labels_only
    returns = ValueType(str(node.func.return_type).removeprefix("ValueType.").lower())
    args = (
        _labels(arg) if place in labels_only else _turned(arg)
        for place, arg in enumerate(node.args)
    )
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
    binary = Binary(str(node.op), _turned(node.lhs), _turned(node.rhs))
    modifier = node.modifier
    if modifier is None:
        return binary
    by, fill = modifier.matching, modifier.fill_values
    matching = Matching(
        _CARDINALITIES[str(modifier.card).rpartition(".")[2]],
        by is not None and str(by.type).endswith("Include"),
        () if by is None else tuple(by.labels),
        tuple(modifier.group_labels or ()),
        None if fill is None else fill.lhs,
        None if fill is None else fill.rhs,
    )
    if matching.fill_left is not None or matching.fill_right is not None:
        _check_fill(binary)
    return replace(binary, returns_bool=modifier.return_bool, matching=matching)


def _check_fill(binary: Binary) -> None:
    if ValueType.SCALAR in (type_of(binary.left), type_of(binary.right)):
        raise InvalidInput("filling in missing series only allowed between instant vectors")
    if binary.op in SET_OPERATORS:
        raise InvalidInput("filling in missing series not allowed for set operators")


def _at(node: Any) -> At:
    modifier = node.at
    if modifier is None:
        return None
    kind = str(modifier.type).rpartition(".")[2]
    if kind != "At":
        return "start" if kind == "Start" else "end"
    seconds, nanoseconds = map(int, _TIME.findall(repr(node))[-1])
    at = seconds * 1000 + round(nanoseconds / 1_000_000)
    if abs(at) > _AT_MAX_MS:
        raise InvalidInput("timestamp out of bounds for @ modifier")
    return at


def _length(node: Any, name: str) -> timedelta | None:
    """An attribute that is a length of time."""
    try:
        length: timedelta | None = getattr(node, name)
    except OverflowError:
        length = timedelta.max
    if length is not None and abs(length) > _LENGTH_MAX:
        raise InvalidInput("duration out of range")
    return length


def _milliseconds(length: timedelta | None) -> int:
    """Whole ones, rounded to zero."""
    return 0 if length is None else int(length / timedelta(milliseconds=1))


def _positive(length: timedelta | None) -> int:
    if not length:
        raise InvalidInput("duration must be greater than 0")
    return _milliseconds(length)


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
