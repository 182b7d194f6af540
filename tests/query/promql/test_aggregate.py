"""Aggregations say what they mean, step by step, to the last bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import Unprocessable
from service.domain.series import LabelPairs
from service.query.promql.aggregate import aggregate
from service.query.promql.budget import Notes, QueryTooDear
from service.query.promql.expressions import Aggregate, Number
from service.query.promql.grouping import blocks
from service.query.promql.vectors import Array, Vector
from tests.support import plain_promql as plain
from tests.support.literal import labels
from tests.support.vectors import at, same, vectors

GROUPINGS = st.tuples(
    st.lists(st.sampled_from(["x", "y", "__name__", "none"]), unique=True, max_size=2).map(tuple),
    st.booleans(),
)


def reduced(
    op: str,
    vector: Vector,
    param: Array | float | str | None = None,
    by: tuple[str, ...] = (),
    without: bool = False,
    notes: Notes | None = None,
) -> Vector:
    if isinstance(param, float | int):
        param = np.full(vector.values.shape[1], float(param))
    expr = Aggregate(op, Number(0), None, by, without)
    with np.errstate(all="ignore"):
        return aggregate(expr, vector, param, notes or Notes())


def column(*values: float) -> Vector:
    """Series `m{i="0"}`, `m{i="1"}` and so on at one step."""
    names: list[LabelPairs] = [labels("m", i=f"{i:03}") for i in range(len(values))]
    return Vector(names, np.array(values)[:, None], np.ones((len(values), 1), np.bool_))


def order(vector: Vector) -> list[int]:
    return [int(dict(pairs)["i"]) for pairs in vector.labels]


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(plain.REDUCTIONS)), GROUPINGS)
def test_each_group_is_reduced_at_each_step(
    data: st.DataObject, op: str, grouping: tuple[tuple[str, ...], bool]
) -> None:
    vector = data.draw(vectors(3, names=("a", "b")))
    by, without = grouping
    answer = reduced(op, vector, by=by, without=without)
    for step in range(3):
        groups = plain.groups(at(vector, step), by, without=without)
        expected = [
            (group, plain.REDUCTIONS[op]([value for _, value in members]))
            for group, members in groups.items()
        ]
        assert same(at(answer, step), expected)


@settings(deadline=None)
@given(st.data(), st.floats(-0.2, 1.2) | st.sampled_from([0.0, 0.5, 1.0, math.nan]))
def test_quantiles(data: st.DataObject, q: float) -> None:
    vector = data.draw(vectors(2))
    answer = reduced("quantile", vector, np.array([q, 0.5]), by=("x",))
    for step, wanted in enumerate((q, 0.5)):
        groups = plain.groups(at(vector, step), ("x",), without=False)
        expected = [
            (group, plain.quantile(wanted, [value for _, value in members]))
            for group, members in groups.items()
        ]
        assert same(at(answer, step), expected)


@settings(deadline=None)
@given(st.data(), st.sampled_from(["topk", "bottomk", "limitk"]))
def test_rankings_keep_the_most_extreme_of_each_group(data: st.DataObject, op: str) -> None:
    vector = data.draw(vectors(2))
    k = data.draw(st.lists(st.floats(-1, 9), min_size=2, max_size=2).map(np.array))
    answer = reduced(op, vector, k, by=("x",))

    def rank(value: float) -> tuple[bool, float]:
        return math.isnan(value), 0 if math.isnan(value) else value if op == "bottomk" else -value

    for step in range(2):
        chosen = at(answer, step)
        assert set(map(repr, chosen)) <= set(map(repr, at(vector, step)))
        found = plain.groups(chosen, ("x",), without=False)
        for group, members in plain.groups(at(vector, step), ("x",), without=False).items():
            ranks = [rank(value) for _, value in members]
            if op != "limitk":
                ranks.sort()
            expected = ranks[: max(0, int(k[step]))]
            kept = [rank(value) for _, value in found.get(group, [])]
            assert kept == expected if op == "limitk" else sorted(kept) == expected


@settings(deadline=None)
@given(st.data())
def test_what_one_step_ranks_a_range_ranks_too(data: st.DataObject) -> None:
    vector = data.draw(vectors(2))
    op, k = data.draw(st.sampled_from(["topk", "bottomk"])), float(data.draw(st.integers(1, 4)))
    answer = reduced(op, vector, k)
    for step in range(2):
        single = Vector(vector.labels, vector.values[:, [step]], vector.present[:, [step]])
        assert same(at(reduced(op, single, k), 0), at(answer, step))


def test_a_single_step_is_in_order() -> None:
    vector = column(1, math.nan, 3, 2)
    assert order(reduced("topk", vector, 3)) == [2, 3, 0]
    assert order(reduced("topk", vector, 9)) == [2, 3, 0, 1]
    assert order(reduced("bottomk", vector, 9)) == [0, 3, 2, 1]


def test_groups_stay_together_in_a_ranking() -> None:
    members = [labels("m", x=x, y=y) for y in "pq" for x in "12"]
    vector = Vector(members, np.array([[1.0], [2], [3], [4]]), np.ones((4, 1), np.bool_))
    ranked = reduced("topk", vector, 2, by=("x",))
    assert [(dict(pairs)["x"], value) for pairs, value in at(ranked, 0)] == [
        ("1", 3),
        ("1", 1),
        ("2", 4),
        ("2", 2),
    ]


def test_of_equal_values_a_heap_decides() -> None:
    """What goes is the root of the heap, the first of equal numbers and the last of NaN."""
    assert order(reduced("topk", column(1, 1, 2), 2)) == [2, 1]
    assert order(reduced("topk", column(1, 1, 1, 1), 2)) == [0, 1]
    assert order(reduced("bottomk", column(2, 2, 1), 2)) == [2, 1]
    assert order(reduced("topk", column(math.nan, math.nan, 5), 2)) == [2, 0]


def test_long_rankings_are_in_order() -> None:
    values = np.random.default_rng(1).permutation(40).astype(np.float64)
    ranked = reduced("topk", column(*values), 30)
    assert ranked.values[:, 0].tolist() == list(range(39, 9, -1))


def test_k_may_change_with_time() -> None:
    vector = Vector(
        [labels("m", i="0"), labels("m", i="1")],
        np.array([[1.0, 1, 1, 1], [2, 2, 2, 2]]),
        np.ones((2, 4), np.bool_),
    )
    kept = reduced("topk", vector, np.array([0.0, 1.9, 2.0, 1e12])).present
    assert kept.tolist() == [[False, False, True, True], [False, True, True, True]]


@pytest.mark.parametrize(
    ("op", "k", "message"),
    [
        ("topk", math.nan, "Parameter value is NaN"),
        ("limitk", math.inf, "Scalar value +Inf overflows int64"),
        ("bottomk", 1e19, "Scalar value 1e+19 overflows int64"),
        ("limit_ratio", math.nan, "Ratio value is NaN"),
    ],
)
def test_numbers_that_are_none(op: str, k: float, message: str) -> None:
    with pytest.raises(Unprocessable, match="^" + message.replace("+", r"\+") + "$"):
        reduced(op, column(1, 2), k)


def test_a_number_too_small_beside_a_good_one() -> None:
    vector = Vector([labels("m")], np.ones((1, 2)), np.ones((1, 2), np.bool_))
    with pytest.raises(Unprocessable, match=r"^Scalar value -1e\+30 underflows int64$"):
        reduced("topk", vector, np.array([1, -1e30]))


@pytest.mark.parametrize("k", [0.0, 0.9, -1.0, -math.inf])
@pytest.mark.parametrize("op", ["topk", "bottomk", "limitk"])
def test_nothing_is_chosen_of_less_than_one(op: str, k: float) -> None:
    assert reduced(op, column(1, 2), k).labels == []


def test_warnings_of_quantiles() -> None:
    notes = Notes()
    vector = Vector([labels("m")], np.ones((1, 3)), np.ones((1, 3), np.bool_))
    answer = reduced("quantile", vector, np.array([2.5, -1, 0.5]), notes=notes)
    assert answer.values.tolist() == [[math.inf, -math.inf, 1]]
    assert list(notes.warnings) == [
        "PromQL warning: quantile value should be between 0 and 1, got 2.5",
        "PromQL warning: quantile value should be between 0 and 1, got -1",
    ]
    notes = Notes()
    assert np.isnan(reduced("quantile", column(1), math.nan, notes=notes).values).all()
    assert list(notes.warnings) == [
        "PromQL warning: quantile value should be between 0 and 1, got NaN"
    ]


def test_ratios_choose_by_the_hash_of_the_labels() -> None:
    vector = column(*range(500))
    some, others = (reduced("limit_ratio", vector, ratio) for ratio in (0.3, -0.7))
    assert 100 < some.present.sum() < 200
    assert (some.present ^ others.present).all()
    notes = Notes()
    assert reduced("limit_ratio", vector, 1.1, notes=notes).present.all()
    assert reduced("limit_ratio", vector, -7.0, notes=notes).present.all()
    assert list(notes.warnings) == [
        "PromQL warning: ratio value should be between -1 and 1, got 1.1, capping to 1",
        "PromQL warning: ratio value should be between -1 and 1, got -7, capping to -1",
    ]
    assert reduced("limit_ratio", vector, 0).labels == []


def test_sums_lose_nothing() -> None:
    assert reduced("sum", column(1, 1e100, 1, -1e100)).values.tolist() == [[2]]
    assert reduced("sum", column(*[0.1] * 10)).values.tolist() == [[1]]
    assert reduced("avg", column(1e16, 1, -1e16)).values.tolist() == [[1 / 3]]


def test_means_of_what_overflows() -> None:
    big = 1.7e308
    assert reduced("avg", column(big, big, big)).values.tolist() == [[big]]
    assert reduced("sum", column(big, big, -big)).values.tolist() == [[math.inf]]
    assert reduced("avg", column(big, big, -math.inf)).values.tolist() == [[-math.inf]]
    assert reduced("avg", column(math.inf, 1, math.inf)).values.tolist() == [[math.inf]]
    assert np.isnan(reduced("avg", column(math.inf, -math.inf)).values).all()


def test_counts_of_values() -> None:
    vector = column(1e21, 0.000001, 6, 6, math.inf, -math.inf, math.nan, -math.nan, -0.0)
    counted = reduced("count_values", vector, "v")
    assert [(dict(pairs)["v"], value) for pairs, value in at(counted, 0)] == [
        ("1000000000000000000000", 1),
        ("0.000001", 1),
        ("6", 2),
        ("+Inf", 1),
        ("-Inf", 1),
        ("NaN", 2),
        ("-0", 1),
    ]


@settings(deadline=None)
@given(st.data(), GROUPINGS, st.sampled_from(["v", "x", "__name__"]))
def test_values_are_counted_in_groups(
    data: st.DataObject, grouping: tuple[tuple[str, ...], bool], label: str
) -> None:
    vector = data.draw(vectors(2))
    by, without = grouping
    answer = reduced("count_values", vector, label, by, without)
    assert len(set(answer.labels)) == len(answer.labels)
    for step in range(2):
        renamed = [
            (tuple(sorted((dict(pairs) | {label: _text(value)}).items())), value)
            for pairs, value in at(vector, step)
        ]
        names = by if without else (*by, label)
        groups = plain.groups(renamed, names, without=without)
        expected = [(group, float(len(members))) for group, members in groups.items()]
        assert same(at(answer, step), expected)


def _text(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return np.format_float_positional(value, trim="-")


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_labels_that_cannot_be(name: str) -> None:
    with pytest.raises(Unprocessable, match=r"^invalid label name "):
        reduced("count_values", column(1), name)


def test_values_that_are_too_many_to_be_counted() -> None:
    values = np.arange(5000, dtype=np.float64)[None]
    vector = Vector([labels("m")], values, np.ones(values.shape, np.bool_))
    with pytest.raises(QueryTooDear, match="count_values found 5,000 values at 5,000 steps"):
        reduced("count_values", vector, "v")


def test_nothing_of_nothing() -> None:
    for op in (*plain.REDUCTIONS, "quantile", "topk", "limitk", "limit_ratio"):
        answer = reduced(op, Vector.empty(3), 0.5)
        assert (answer.labels, answer.values.shape) == ([], (0, 3))
    assert reduced("count_values", Vector.empty(3), "v").values.shape == (0, 3)


def test_groups_of_any_sizes_are_laid_out_once() -> None:
    """Whatever fits at once: every member of every group at every step, in order."""
    random = np.random.default_rng(3)
    row = np.repeat(np.arange(60), random.integers(1, 40, 60))
    random.shuffle(row)
    values = np.arange(len(row) * 5, dtype=np.float64).reshape(len(row), 5)
    present = random.random(values.shape) < 0.7
    for at_once in (1, 100, 1_000_000):
        seen = np.zeros(values.shape, np.int64)
        for block in blocks(row, values, present, at_once):
            assert (row[block.rows] == block.groups)[block.real].all()
            assert (np.diff(block.rows, axis=0) > 0)[block.real[1:]].all()
            assert (
                block.there == (present[:, block.part][block.rows] & block.real[:, :, None])
            ).all()
            assert (block.values == values[:, block.part][block.rows])[block.real].all()
            seen[block.rows[block.real], block.part] += 1
        assert (seen == 1).all()


@pytest.mark.parametrize("op", ["sum", "avg", "stdvar", "min"])
def test_many_members_are_reduced_as_few_are(op: str) -> None:
    """Whichever way is taken for many columns or few."""
    random = np.random.default_rng(4)
    names = [labels("m", i=str(i)) for i in range(300)]
    values = random.standard_normal((300, 40)) * 10.0 ** random.integers(-9, 9, (300, 40))
    vector = Vector(names, values, random.random(values.shape) < 0.9)
    answer = reduced(op, vector)
    for step in (0, 17, 39):
        single = Vector(names, values[:, [step]], vector.present[:, [step]])
        assert same(at(answer, step), at(reduced(op, single), 0))
        expected = plain.REDUCTIONS[op]([value for _, value in at(vector, step)])
        assert same(at(answer, step), [((), expected)])
