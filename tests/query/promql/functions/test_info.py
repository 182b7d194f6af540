"""Labels of info metrics, given to the series of the same instance and job."""

import pytest

from service.domain.errors import InvalidInput, Unprocessable
from service.query.promql.evaluate import Settings
from service.query.promql.expressions import Call, Select
from service.query.promql.fetch import wanted
from service.query.promql.functions import FUNCTIONS
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps
from tests.support.literal import STALE, Literal, ask, every, labels, table

BASE = labels("hits", instance="a", job="web", path="/")
SOURCE = Literal(
    {
        BASE: every(60, [1, 2, 3]),
        labels("hits", instance="z", job="web"): every(60, [7, 7, 7]),
        labels("target_info", instance="a", job="web", region="eu", path="/info"): every(
            60, [1, 1, 1]
        ),
        labels("build_info", instance="a", job="web", version="1"): every(60, [1, STALE]),
        labels("build_info", instance="a", job="web", version="2"): every(60, [None, 1, 1]),
        labels("odd_info", instance="a", job="web", region="us"): every(60, [1, 1, 1]),
    }
)


def _told(**others: str) -> tuple[tuple[str, str], ...]:
    return labels("hits", instance="a", job="web", path="/", **others)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("info(hits{instance='a'})", {_told(region="eu"): [1, 2, 3]}),
        ("info(hits, {region=~'.+'})", {_told(region="eu"): [1, 2, 3]}),
        (
            "info(hits, {region=~'e.*', nope=~'.*'})",
            {_told(region="eu"): [1, 2, 3]},
        ),
        (
            "info(hits{instance='a'}, {__name__='build_info'})",
            {_told(version="1"): [1, None, None], _told(version="2"): [None, 2, 3]},
        ),
        ("info(hits{instance='a'}, {path='/info'})", {_told(): [1, 2, 3]}),
        ("info(hits{instance='a'}, {__name__='nope'})", {_told(): [1, 2, 3]}),
        ("info(hits, {__name__='nope', region=~'.+'})", {}),
        (
            "info(hits{instance='z'})",
            {labels("hits", instance="z", job="web"): [7, 7, 7]},
        ),
        (
            "info(odd_info, {__name__='odd_info'})",
            {labels("odd_info", instance="a", job="web", region="us"): [1, 1, 1]},
        ),
        ("info(sum(hits{instance='a'}))", {(): [1, 2, 3]}),
        ("info(nope)", {}),
    ],
)
def test_series_get_the_labels_of_what_tells_of_them(
    call: str, expected: dict[tuple[tuple[str, str], ...], list[float | None]]
) -> None:
    assert table(ask(call, SOURCE, 0, 120)) == expected


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(Unprocessable, match="conflicting label: region"):
        ask("info(hits, {__name__=~'target_info|odd_info'})", SOURCE, 0)
    twice = Literal(
        {
            BASE: every(60, [1]),
            labels("target_info", instance="a", job="web", region="eu"): every(60, [1]),
            labels("target_info", instance="a", job="web", region="us"): every(60, [1]),
        }
    )
    with pytest.raises(Unprocessable, match="found duplicate series for info metric"):
        ask("info(hits)", twice, 0)
    with pytest.raises(InvalidInput):
        ask("info(hits, hits + 1)", SOURCE, 0)


def test_of_two_the_newer_one_tells() -> None:
    source = Literal(
        {
            BASE: every(60, [1, 2, 3]),
            labels("target_info", instance="a", job="web", region="eu"): every(60, [1]),
            labels("target_info", instance="a", job="web", region="us"): every(60, [None, 1]),
        }
    )
    assert table(ask("info(hits)", source, 0, 120)) == {
        _told(region="eu"): [1, None, None],
        _told(region="us"): [None, 2, 3],
    }


def test_info_series_are_fetched_beforehand() -> None:
    expr = parse("info(hits, {region=~'.+'})")
    assert isinstance(expr, Call)
    spans = wanted(expr, Steps(600_000, 600_000), Settings())
    also = FUNCTIONS["info"].also
    assert also is not None
    [reach] = also(expr)
    assert any(span.selector == reach.selector and span.start_ms <= 300_001 for span in spans)
    assert isinstance(expr.args[1], Select)
