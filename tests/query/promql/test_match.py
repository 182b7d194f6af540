"""Binary operators say what they mean, step by step, and refuse what Prometheus refuses."""

import math
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import Unprocessable
from service.domain.series import NAME
from service.query.promql.budget import Notes, QueryTooDear
from service.query.promql.evaluate import evaluate
from service.query.promql.expressions import (
    SET_OPERATORS,
    Binary,
    Cardinality,
    Matching,
    Number,
)
from service.query.promql.functions.registry import Value
from service.query.promql.match import binary
from service.query.promql.operators import power
from service.query.promql.parse import parse
from service.query.promql.vectors import Array, Steps, Vector, written
from tests.support import plain_promql as plain
from tests.support.literal import Literal, every, labels
from tests.support.vectors import FLOATS, at, same, vectors

ARITHMETIC = ("+", "-", "*", "/", "%", "atan2")
FILLS = st.none() | st.sampled_from([0.0, 2.0, math.nan])


def put(expr: Binary, left: Value, right: Value) -> Value:
    with np.errstate(all="ignore"):
        return binary(expr, left, right, Notes())


def joined(expr: Binary, left: Vector, right: Vector) -> Vector:
    return cast(Vector, put(expr, left, right))


@st.composite
def matchings(draw: st.DrawFn) -> Matching:
    """`on` or `ignoring`, alone or with `group_left` or `group_right`, with or without fills."""
    on = draw(st.booleans())
    names = draw(st.lists(st.sampled_from(["x", "y", "z", NAME]), unique=True, max_size=3))
    kind = draw(st.sampled_from(["one-to-one", "many-to-one", "one-to-many"]))
    include = draw(st.lists(st.sampled_from(["y", "z", NAME]), unique=True, max_size=2))
    include = [name for name in include if not (on and name in names)]
    return Matching(
        Cardinality(kind),
        on,
        tuple(names),
        () if kind == "one-to-one" else tuple(include),
        draw(FILLS),
        draw(FILLS),
    )


def refusal_of(
    expr: Binary, left: Vector, right: Vector, step: int
) -> tuple[str | None, plain.Instant]:
    """What is plainly said at a step: how the error begins, or the answer."""
    try:
        return None, plain.joined(expr, at(left, step), at(right, step))
    except plain.Refused as refused:
        return str(refused), []


@settings(deadline=None)
@given(st.data())
def test_series_are_joined_at_each_step(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from([*ARITHMETIC, *plain.COMPARING]))
    returns_bool = op in plain.COMPARING and data.draw(st.booleans())
    expr = Binary(op, Number(0), Number(0), returns_bool, data.draw(matchings()))
    left = data.draw(vectors(3, names=("a", "b"), most=4))
    right = data.draw(vectors(3, names=("c", "b"), most=4))
    answers = [refusal_of(expr, left, right, step) for step in range(3)]
    refusals = [refusal for refusal, _ in answers if refusal is not None]
    if refusals:
        with pytest.raises(Unprocessable) as raised:
            joined(expr, left, right)
        assert any(str(raised.value).startswith(refusal) for refusal in refusals)
        return
    answer = joined(expr, left, right)
    assert len(set(answer.labels)) == len(answer.labels)
    assert all(same(at(answer, step), answers[step][1]) for step in range(3))


@settings(deadline=None)
@given(st.data())
def test_at_one_step_the_first_of_several_errors_is_said(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(["+", "==", ">"]))
    expr = Binary(op, Number(0), Number(0), False, data.draw(matchings()))
    left, right = data.draw(vectors(1, ("a", "b"))), data.draw(vectors(1, ("a", "b")))
    refusal, expected = refusal_of(expr, left, right, 0)
    if refusal is None:
        assert same(at(joined(expr, left, right), 0), expected)
        return
    with pytest.raises(Unprocessable) as raised:
        joined(expr, left, right)
    assert str(raised.value).startswith(refusal)


@settings(deadline=None)
@given(st.data())
def test_sets_at_each_step(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(["x", "y", NAME]), unique=True, max_size=2))
    matching = Matching(Cardinality.MANY_TO_MANY, data.draw(st.booleans()), tuple(names))
    op = data.draw(st.sampled_from(sorted(SET_OPERATORS)))
    expr = Binary(op, Number(0), Number(0), matching=matching)
    left, right = data.draw(vectors(3, ("a", "b"))), data.draw(vectors(3, ("a", "b")))
    answer = joined(expr, left, right)
    assert len(set(answer.labels)) == len(answer.labels)
    for step in range(3):
        assert same(at(answer, step), plain.combined(expr, at(left, step), at(right, step)))


@settings(deadline=None)
@given(st.data(), st.booleans())
def test_a_scalar_beside_a_vector(data: st.DataObject, scalar_left: bool) -> None:
    vector = data.draw(vectors(2))
    scalar = np.array(data.draw(st.lists(FLOATS, min_size=2, max_size=2)), np.float64)
    op = data.draw(st.sampled_from([*ARITHMETIC, *plain.COMPARING]))
    returns_bool = op in plain.COMPARING and data.draw(st.booleans())
    expr = Binary(op, Number(0), Number(0), returns_bool)
    sides = (scalar, vector) if scalar_left else (vector, scalar)
    answer = cast(Vector, put(expr, *sides))
    for step in range(2):
        expected = []
        for pairs, value in at(vector, step):
            number = float(scalar[step])
            floats = (number, value) if scalar_left else (value, number)
            bare = plain.dropped(pairs, [NAME])
            if op not in plain.COMPARING:
                expected.append((bare, plain.arithmetic(op, *floats)))
            elif returns_bool:
                expected.append((bare, float(plain.COMPARING[op](*floats))))
            elif plain.COMPARING[op](*floats):
                expected.append((pairs, value))
        assert same(at(answer, step), expected)


def test_two_scalars() -> None:
    one, other = np.array([1.0, math.nan]), np.array([2.0, math.nan])

    def of(op: str) -> list[float]:
        return cast(Array, put(Binary(op, Number(0), Number(0)), one, other)).tolist()

    assert of("+")[0] == 3
    assert of("<=") == [1, 0]
    assert of("!=") == [1, 1]
    assert of("^")[0] == 1


SOURCE = Literal(
    {
        labels("cpu", host="a", mode="idle"): every(60, [3]),
        labels("cpu", host="a", mode="user"): every(60, [1]),
        labels("cpu", host="b", mode="idle"): every(60, [8]),
        labels("role", host="a", role="db"): every(60, [1]),
        labels("role", host="c", role="web"): every(60, [5]),
        labels("memory", host="a"): every(60, [7]),
        labels("old", host="a"): every(60, [7]),
    }
)


def asked(text: str) -> dict[str, float]:
    """The answer at time 0."""
    value = evaluate(parse(text), SOURCE, Steps(0, 0)).value
    return {written(pairs): x for pairs, x in at(cast(Vector, value), 0)}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("memory + 1", {'{host="a"}': 8}),
        ("memory > 1", {'memory{host="a"}': 7}),
        ("1 < memory", {'memory{host="a"}': 7}),
        ("memory > bool 1", {'{host="a"}': 1}),
        ("memory == old", {'memory{host="a"}': 7}),
        ("memory == on(host) old", {'{host="a"}': 7}),
        ("memory == on(host, __name__) old", {}),
        ("memory == ignoring(x) old", {'memory{host="a"}': 7}),
        ("memory == bool old", {'{host="a"}': 1}),
        (
            "cpu * on(host) group_left(role) role",
            {
                '{host="a", mode="idle", role="db"}': 3,
                '{host="a", mode="user", role="db"}': 1,
            },
        ),
        (
            "cpu > on(host) group_left(role, __name__) role",
            {'role{host="a", mode="idle", role="db"}': 3},
        ),
        (
            "role < on(host) group_right(role) cpu",
            {'cpu{host="a", mode="idle", role="db"}': 1},
        ),
        (
            "cpu + on(host) group_left(role) fill_right(0) role",
            {
                '{host="a", mode="idle", role="db"}': 4,
                '{host="a", mode="user", role="db"}': 2,
                '{host="b", mode="idle"}': 8,
            },
        ),
        (
            "cpu + on(host) group_left(role) fill_left(100) role",
            {
                '{host="a", mode="idle", role="db"}': 4,
                '{host="a", mode="user", role="db"}': 2,
                '{host="c", role="web"}': 105,
            },
        ),
        # Fills go by the side that may have many, which is the right one here.
        (
            "role - on(host) group_right fill_left(100) cpu",
            {'{host="a", mode="idle"}': -2, '{host="a", mode="user"}': 0, '{host="c"}': -95},
        ),
        ("memory + fill(0) nothing", {'{host="a"}': 7}),
        ("memory + fill_left(0) nothing", {}),
        ("nothing + fill(0) nothing", {}),
        (
            "cpu and on(host) role",
            {'cpu{host="a", mode="idle"}': 3, 'cpu{host="a", mode="user"}': 1},
        ),
        ("cpu unless on(host) role", {'cpu{host="b", mode="idle"}': 8}),
        ("memory or old", {'memory{host="a"}': 7}),
        (
            "memory or on(host, __name__) old",
            {'memory{host="a"}': 7, 'old{host="a"}': 7},
        ),
        ("nothing or memory", {'memory{host="a"}': 7}),
        ("cpu + on(host) nothing", {}),
        ("nothing + on() cpu", {}),
    ],
)
def test_what_comes_out_and_under_which_name(text: str, answer: dict[str, float]) -> None:
    assert asked(text) == answer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "memory + on(host) cpu",
            'found duplicate series for the match group {host="a"} on the right hand-side of the '
            'operation: [{__name__="cpu", host="a", mode="user"}, '
            '{__name__="cpu", host="a", mode="idle"}]'
            ";many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "cpu + on(host) group_right memory",
            'found duplicate series for the match group {host="a"} on the left hand-side of the '
            'operation: [{__name__="cpu", host="a", mode="user"}, '
            '{__name__="cpu", host="a", mode="idle"}]'
            ";many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "cpu + on(host) memory",
            "multiple matches for labels: many-to-one matching must be explicit "
            "(group_left/group_right)",
        ),
        # Whether the comparison keeps them or not.
        (
            "cpu > on(host) memory",
            "multiple matches for labels: many-to-one matching must be explicit "
            "(group_left/group_right)",
        ),
        (
            "cpu + on(host) group_left(mode) memory",
            "multiple matches for labels: grouping labels must ensure unique matches",
        ),
        ('{__name__=~"memory|old"} + 1', "vector cannot contain metrics with the same labelset"),
    ],
)
def test_what_matches_ambiguously_is_refused(text: str, message: str) -> None:
    with pytest.raises(Unprocessable) as raised:
        asked(text)
    assert str(raised.value).startswith(message)


def test_duplicates_at_different_steps_are_one_series() -> None:
    source = Literal(
        {
            labels("many", host="a"): every(600, [1, 2]),
            labels("one", host="a", v="1"): every(600, [10, None]),
            labels("one", host="a", v="2"): every(600, [None, 20]),
        }
    )
    steps = Steps(0, 600_000, 600_000)
    found = cast(Vector, evaluate(parse("many + on(host) one"), source, steps).value)
    assert found.values.tolist() == [[11, 22]]
    found = cast(Vector, evaluate(parse("one + on(host) many"), source, steps).value)
    assert found.values.tolist() == [[11, 22]]
    text = "many + on(host) group_left(v) one"
    found = cast(Vector, evaluate(parse(text), source, steps).value)
    assert found.labels == [labels(host="a", v="1"), labels(host="a", v="2")]
    assert found.present.tolist() == [[True, False], [False, True]]


def test_joins_that_are_too_large_are_refused() -> None:
    names = [labels("m", i=str(i)) for i in range(3000)]
    shape = (3000, 10_000)
    there = np.broadcast_to(np.True_, shape)
    many = Vector(names, np.broadcast_to(np.float64(1), shape), there)
    with pytest.raises(QueryTooDear, match="would join"):
        joined(Binary("+", Number(0), Number(0)), many, many)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (2, 10, 1024),
        (3, 20, 3486784401),
        (-3, 3, -27),
        (-2, -3, -0.125),
        (10, -3, 1 / 1000),
        (9, 0.5, 3),
        (4, -0.5, 0.5),
        (-8, 1 / 3, math.nan),
        (-1, math.inf, 1),
        (-1, 1e300, 1),
        (-2, 1e300, math.inf),
        (0.5, 1e300, 0),
        (0, 0, 1),
        (math.nan, 0, 1),
        (1, math.nan, 1),
        (-0.0, -3, -math.inf),
        (math.inf, -1, 0),
        (-math.inf, 3, -math.inf),
        (2, 1024, math.inf),
        (2, -1074, 5e-324),
        (2, -1080, 0),
        (1e200, -5000, 0),
        (1e-200, 5001.5, 0),
        (-1e200, 5001, -math.inf),
    ],
)
def test_powers(x: float, y: float, expected: float) -> None:
    with np.errstate(all="ignore"):
        found = float(power(np.array([x], np.float64), np.array([y], np.float64))[0])
    assert found == expected or (math.isnan(found) and math.isnan(expected))


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-30, 30))
def test_powers_are_near_what_the_machine_says(x: float, y: float) -> None:
    with np.errstate(all="ignore"):
        found = float(power(np.array([x]), np.array([y]))[0])
    assert found == pytest.approx(x**y, rel=1e-13)


@settings(deadline=None)
@given(st.integers(-9, 9), st.integers(0, 16))
def test_whole_powers_are_exact(x: int, y: int) -> None:
    with np.errstate(all="ignore"):
        assert float(power(np.array([float(x)]), np.array([float(y)]))[0]) == x**y
