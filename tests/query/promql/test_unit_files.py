"""Our own unit tests of the language, `tests/promql/*.yaml`: they pass, and leave nothing out."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from service.query.promql.expressions import (
    Aggregate,
    Binary,
    Call,
    Expr,
    Range,
    Select,
    Subquery,
    children,
)
from service.query.promql.functions import FUNCTIONS
from service.query.promql.parse import parse
from service.rules.unit_tests.runner import run_file
from service.rules.unit_tests.schema import parse_test_file

FILES = sorted((Path(__file__).parents[2] / "promql").glob("*.yaml"))
AGGREGATIONS = frozenset(
    (
        *("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"),
        *("topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"),
    )
)
COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
OPERATORS = COMPARISONS | {"+", "-", "*", "/", "%", "^", "atan2", "and", "or", "unless"}


@cache
def cases(path: Path) -> tuple[str, ...]:
    """The expressions of a file, as often as they stand there."""
    file = parse_test_file(path.read_bytes(), str(path))
    return tuple(case.expr for group in file.groups for case in group.exprs)


@cache
def nodes() -> tuple[Expr, ...]:
    """Every node of every expression."""

    def below(expr: Expr) -> Iterator[Expr]:
        yield expr
        for child in children(expr):
            yield from below(child)

    texts = {text for path in FILES for text in cases(path)}
    return tuple(node for text in sorted(texts) for node in below(parse(text)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_case_passes(path: Path) -> None:
    report = run_file(path)
    wrong = [f"{one.name}: {one.difference}" for one in report.outcomes if not one.passed]
    assert not wrong, "\n".join(wrong)
    assert len(report.outcomes) == len(cases(path)) > 0
    assert not report.notes


def test_there_are_many() -> None:
    assert sum(len(cases(path)) for path in FILES) >= 800


def test_every_function_occurs() -> None:
    called = {node.name for node in nodes() if isinstance(node, Call)}
    # Those that other rooms enter are tested there.
    own = {
        name
        for name, known in FUNCTIONS.items()
        if known.call.__module__.startswith("service.query.promql.")
    }
    assert len(own) > 80
    assert own <= called


def test_every_aggregation_and_operator_occurs() -> None:
    aggregates = [node for node in nodes() if isinstance(node, Aggregate)]
    assert {node.op for node in aggregates} == AGGREGATIONS
    for op in AGGREGATIONS - {"limitk", "limit_ratio"}:
        assert any(node.op == op and (node.labels or node.without) for node in aggregates), op
    operators = {(node.op, node.returns_bool) for node in nodes() if isinstance(node, Binary)}
    assert {op for op, _ in operators} == OPERATORS
    assert {op for op, returns_bool in operators if returns_bool} == COMPARISONS


def test_every_modifier_occurs() -> None:
    selects = [node for node in nodes() if isinstance(node, Select)]
    ranges = [node.select for node in nodes() if isinstance(node, Range)]
    subqueries = [node for node in nodes() if isinstance(node, Subquery)]
    for what in (selects, ranges, subqueries):
        assert any(node.offset_ms > 0 for node in what)
        assert any(node.offset_ms < 0 for node in what)
        assert any(isinstance(node.at, int) for node in what)
        assert any(node.at and node.offset_ms for node in what)
    assert {"start", "end"} <= {node.at for node in selects}
    assert {True, False} == {node.step_ms is None for node in subqueries}
    matchings = [node.matching for node in nodes() if isinstance(node, Binary)]
    assert {"one-to-one", "many-to-one", "one-to-many", "many-to-many"} == {
        str(matching.cardinality) for matching in matchings
    }
    assert {True, False} == {matching.on for matching in matchings if matching.labels}
    assert any(matching.include for matching in matchings)
    assert any(matching.fill_left is not None for matching in matchings)
    assert any(matching.fill_right is not None for matching in matchings)
