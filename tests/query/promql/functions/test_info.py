"""Labels of info metrics, given to the series of the same instance and job."""

import pytest

from service.domain.errors import InvalidInput, Unprocessable
from service.query.promql.evaluate import Settings, evaluate
from service.query.promql.expressions import Select
from service.query.promql.fetch import Fetched, wanted
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps
from service.rules.rewriting import walk
from tests.support.literal import STALE, Literal, ask, every, labels, table

BASE = labels("hits", instance="a", job="web", path="/")
OTHER = labels("hits", instance="z", job="web")
SOURCE = Literal(
    {
        BASE: every(60, [1, 2, 3]),
        OTHER: every(60, [7, 7, 7]),
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
            {OTHER: [7, 7, 7]},
        ),
        (
            "info(odd_info, {__name__='odd_info'})",
            {labels("odd_info", instance="a", job="web", region="us"): [1, 1, 1]},
        ),
        ("info(sum(hits{instance='a'}))", {(): [1, 2, 3]}),
        ("info(nope)", {}),
        # Labels that exclude nothing, and names of which some are only excluded
        ("info(hits{instance='a'}, {})", {_told(region="eu"): [1, 2, 3]}),
        ("info(hits{instance='z'}, {version=~'.*'})", {OTHER: [7, 7, 7]}),
        (
            "info(hits, {__name__!='target_info', __name__!='odd_info', version!=''})",
            {_told(version="1"): [1, None, None], _told(version="2"): [None, 2, 3]},
        ),
        (
            "info(hits{instance='a'}, {__name__!~'.+_info'})",
            {_told(): [1, 2, 3]},
        ),
        ("info(hits{instance='a'}, {__name__!~'.+_info', region=~'.+'})", {}),
        (
            "info(odd_info, {__name__=~'target_.+', __name__=~'.+_info'})",
            {
                labels("odd_info", instance="a", job="web", region="us", path="/info"): [1, 1, 1],
            },
        ),
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("info(hits, hits + 1)", "expected label selectors only"),
        ("info(hits, ({path='/'}))", "expected label selectors only"),
        ("info(hits, target_info)", "expected label selectors only, got vector selector instead"),
        ("info({path=''}, {region!=''})", "must contain at least one non-empty matcher"),
        ("info(hits, {}) + topk(1, {path=~'.*'})", "must contain at least one non-empty matcher"),
    ],
)
def test_what_is_no_choice_of_labels_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(text)


def test_other_selectors_after_a_comma_stay_what_they_are() -> None:
    text = "count(info(hits, {} offset 5m)) + count(topk(5, {path!=''}))"
    assert table(ask(text, SOURCE, 0)) == {(): [4]}
    selected = [node.selector.text for node in walk(parse(text)) if isinstance(node, Select)]
    assert selected == ["hits{}", '{path!=""}']


@pytest.mark.parametrize("lookback_ms", [60_000, 300_000, 1_200_000])
def test_info_series_are_fetched_beforehand(lookback_ms: int) -> None:
    expr = parse("info(hits, {region=~'.+'})")
    settings = Settings(lookback_ms)
    asked = wanted(expr, Steps(600_000, 660_000, 60_000), settings)
    # What may stand for the labels of info series is not read for itself.
    assert [span.selector.name for span in asked] == ["target_info", "hits"]
    assert {(span.start_ms, span.end_ms) for span in asked} == {(600_001 - lookback_ms, 660_000)}
    fetched = Fetched([(s, SOURCE.select(s.selector, s.start_ms, s.end_ms)) for s in asked])
    for source in (fetched, SOURCE):
        found = evaluate(expr, source, Steps(600_000, 660_000, 60_000), settings)
        told = {_told(region="eu"): [3, 3]} if lookback_ms > 600_000 else {}
        assert table(found) == told
