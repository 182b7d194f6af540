"""What is wrong with a query is said in Prometheus' words, and of the right kind."""

import pytest

from service.domain.errors import InvalidInput, Unprocessable
from service.query.promql.evaluate import evaluate
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps, Vector
from tests.support.literal import Literal, every, labels
from tests.support.promql.refused import BY_TEXT

SOURCE = Literal(
    {
        labels(name, **others): every(15, [value] * 20)
        for name, others, value in (
            ("a", {"x": "1", "y": "p"}, 1.0),
            ("a", {"x": "1", "y": "q"}, 2.0),
            ("b", {"x": "1", "y": "p"}, 3.0),
            ("b", {"x": "1", "y": "q"}, 4.0),
            ("one", {"x": "1"}, 5.0),
            ("one", {"x": "2"}, 6.0),
        )
    }
    | {
        labels("early", x="1"): every(15, [1.0] * 4),
        labels("late", x="1"): every(15, [1.0] * 20, start=3600),
    }
)
AT = Steps(100_000, 100_000)
DUPLICATE = "found duplicate series for the match group {x="
UNIQUE = ";many-to-many matching not allowed: matching labels must be unique on one side"
AMBIGUOUS = (
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
)
SAME = "vector cannot contain metrics with the same labelset"


@pytest.mark.parametrize(
    "text", [*BY_TEXT, "integral(a[5m])", "", "  ", "a[0]", "a[5m:0]", "a[5m]["]
)
def test_a_text_that_is_wrong_by_itself(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a + on(x) b", UNIQUE),
        ("a + on(x) b", f'{DUPLICATE}"1"}} on the right hand-side of the operation: '),
        ("a * on(x) group_left() b", f'{DUPLICATE}"1"}} on the right hand-side'),
        ("a * on(x) group_right() b", f'{DUPLICATE}"1"}} on the left hand-side'),
        ("one + on(x) a", f'{DUPLICATE}"1"}} on the right hand-side'),
        ("a + on(x) one", AMBIGUOUS),
        ("a > on(x) one", AMBIGUOUS),
        ("a > bool on(x) one", AMBIGUOUS),
        ("a - ignoring(y) one", AMBIGUOUS),
        (
            'a * on(x) group_left(y) b{y="p"}',
            "multiple matches for labels: grouping labels must ensure unique matches",
        ),
        ('abs({__name__=~"a|b"})', SAME),
        ('-{__name__=~"a|b"}', SAME),
        ('{__name__=~"a|b"} + 1', SAME),
        ('1 - {__name__=~"a|b"}', SAME),
        ('{__name__=~"a|b"} > bool 1', SAME),
        ('rate({__name__=~"a|b"}[1m])', SAME),
        ('sum_over_time({__name__=~"a|b"}[1m])', SAME),
        ('timestamp({__name__=~"a|b"})', SAME),
        ('clamp_min({__name__=~"a|b"}, 1)', SAME),
        ('label_replace(a, "y", "same", "y", ".*")', SAME),
        ('label_replace(a, "y", "same", "y", "(")', "invalid regular expression in label_replace"),
        ('label_replace(a, "", "same", "y", ".*")', "label_replace(): "),
        ('label_join(a, "y", "-", "x")', SAME),
        ('label_join(a, "", "-", "x")', "label_join(): "),
        ('count_values("", a)', 'invalid label name ""'),
        ("topk(NaN, a)", "Parameter value is NaN"),
        ("bottomk(NaN, a)", "Parameter value is NaN"),
        ("limitk(NaN, a)", "Parameter value is NaN"),
        ("limit_ratio(NaN, a)", "Ratio value is NaN"),
        ("topk(Inf, a)", "Scalar value +Inf overflows int64"),
        ("bottomk(1e20, a)", "Scalar value 1e+20 overflows int64"),
        (
            "double_exponential_smoothing(a[1m], 2, 0.5)",
            "invalid smoothing factor. Expected: 0 < sf < 1, got: 2.000000",
        ),
        (
            "double_exponential_smoothing(a[1m], 0.5, 0)",
            "invalid trend factor. Expected: 0 < tf < 1, got: 0.000000",
        ),
    ],
)
def test_an_expression_that_these_series_make_wrong(text: str, said: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        evaluate(parse(text), SOURCE, AT)
    assert said in str(refused.value)
    # At one of many steps it is as wrong.
    with pytest.raises(Unprocessable):
        evaluate(parse(text), SOURCE, Steps(60_000, 300_000, 60_000))


@pytest.mark.parametrize(
    "text",
    [
        "nothing + on(x) a",
        "a + on(x) nothing",
        "a + on(x) b{x='2'}",
        'abs({__name__=~"a|nothing"})',
        "one * on(x) group_right() a",
    ],
)
def test_what_meets_nothing_is_not_wrong(text: str) -> None:
    evaluate(parse(text), SOURCE, AT)


def test_series_that_are_there_at_different_steps_become_one() -> None:
    expr = parse('rate({__name__=~"early|late"}[2m])')
    found = evaluate(expr, SOURCE, Steps(60_000, 3_720_000, 60_000))
    assert isinstance(found.value, Vector)
    assert len(found.value.labels) == 1


@pytest.mark.parametrize("text", ["a[5m]", '"text"', "a[5m:1m]"])
def test_a_range_query_takes_no_ranges_and_no_texts(text: str) -> None:
    evaluate(parse(text), SOURCE, AT)
    with pytest.raises(InvalidInput, match="for range query, must be Scalar or instant Vector"):
        evaluate(parse(text), SOURCE, Steps(0, 60_000, 15_000))
