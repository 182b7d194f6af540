"""Functions of models in expressions: over any source, at one time and at many."""

import numpy as np
import pytest

from service.domain.errors import InvalidInput
from service.query.promql.evaluate import Settings, evaluate
from service.query.promql.fetch import Fetched, wanted
from service.query.promql.parse import parse
from service.query.promql.vectors import Steps, Vector
from service.rules import functions
from service.rules.changes import AT_ONCE
from service.storage.columns import Columns
from tests.support.literal import Literal, every, labels

MINUTE = 60_000
HOUR = 3_600_000
NOW = 100 * HOUR


def at(seconds_apart: float, values: list[float], first_ms: int) -> Columns:
    return every(seconds_apart, values, first_ms / 1000)


def asked(text: str, source: Literal, steps: Steps | None = None) -> Vector:
    """The answer, by way of what would be fetched for it."""
    steps = steps or Steps(NOW, NOW)
    expr = parse(text)
    spans = wanted(expr, steps, Settings())
    fetched = Fetched([(s, source.select(s.selector, s.start_ms, s.end_ms)) for s in spans])
    found = evaluate(expr, fetched, steps).value
    assert isinstance(found, Vector)
    same = evaluate(expr, source, steps).value
    assert isinstance(same, Vector)
    assert same.labels == found.labels
    np.testing.assert_array_equal(
        np.where(same.present, same.values, 0), np.where(found.present, found.values, 0)
    )
    return found


def values(found: Vector) -> dict[str, list[float | None]]:
    rows = zip(found.labels, found.values.tolist(), found.present.tolist(), strict=True)
    return {
        dict(pairs).get("host", ""): [v if p else None for v, p in zip(row, there, strict=True)]
        for pairs, row, there in rows
    }


DISK = Literal(
    {
        labels("disk", host="a"): at(60, [70.0, 71.0, 72.0], NOW - 2 * MINUTE),
        labels("disk", host="b"): at(60, [99.0], NOW),
        labels("disk", host="c"): at(60, [50.0], NOW),
        labels("disk:forecast", host="a"): at(3600, [75.0, 85.0, 96.0, 99.0], NOW + HOUR),
        labels("disk:forecast_lower", host="a"): at(3600, [74.0, 84.0, 95.5, 98.0], NOW + HOUR),
        labels("disk:forecast_upper", host="a"): at(3600, [76.0, 86.0, 96.5, 99.9], NOW + HOUR),
        labels("disk:forecast", host="b"): at(3600, [97.0, 90.0, 80.0, 70.0], NOW + HOUR),
        labels("disk:forecast", host="c"): at(3600, [50.0, 51.0, 50.0, 51.0], NOW + HOUR),
        labels("disk:expected", host="a"): at(60, [69.0, 70.0, 71.0], NOW - 2 * MINUTE),
        labels("disk:expected_upper", host="a"): at(60, [70.5] * 3, NOW - 2 * MINUTE),
        labels("disk:anomaly_score", host="a"): at(60, [0.5, 0.9995, 0.9999], NOW - 2 * MINUTE),
        labels("disk:anomaly_score", host="b"): at(60, [0.2], NOW),
    }
)


def test_what_models_wrote_stands_beside_the_series_itself() -> None:
    assert values(asked("anomaly_score(disk)", DISK)) == {"a": [0.9999], "b": [0.2]}
    assert values(asked("disk - expected(disk)", DISK)) == {"a": [1.0]}
    assert values(asked('{__name__=~"di.*k"} > expected_upper({__name__=~"di.*k"})', DISK)) == {
        "a": [72.0]
    }
    assert values(asked('anomaly_score({host=~"a|c"})', DISK)) == {"a": [0.9999]}


def test_a_forecast_is_read_between_its_steps_and_no_further_than_it_reaches() -> None:
    assert values(asked("forecast(disk, 2h)", DISK)) == {"a": [85.0], "b": [90.0], "c": [51.0]}
    assert values(asked("forecast(disk, 90m)", DISK))["a"] == [80.0]
    assert values(asked("forecast(disk, 5h)", DISK)) == {}
    steps = Steps(NOW, NOW + 3 * HOUR, HOUR)
    assert values(asked("forecast(disk, 2h)", DISK, steps))["a"] == [85.0, 96.0, 99.0, None]


def test_a_crossing_is_counted_in_seconds_from_either_side() -> None:
    assert values(asked("crosses_in(disk, 95)", DISK)) == {"a": [3 * 3600.0], "b": [2 * 3600.0]}
    steps = Steps(NOW, NOW + 4 * MINUTE, 2 * MINUTE)
    assert values(asked("crosses_in(disk, 95)", DISK, steps))["a"] == [10800.0, 10680.0, 10560.0]
    assert values(asked("crosses_in(disk, 96.2, 0.9)", DISK))["a"] == [4 * 3600.0]


def test_filters_keep_name_and_value_as_comparisons_do() -> None:
    found = asked("anomalous(disk)", DISK)
    assert found.labels == [labels("disk", host="a")]
    assert found.values.tolist() == [[72.0]]
    steps = Steps(NOW - 2 * MINUTE, NOW, MINUTE)
    assert values(asked("anomalous(disk)", DISK, steps)) == {"a": [None, 71.0, 72.0]}
    assert values(asked("anomalous(disk, 0.1)", DISK)) == {"a": [72.0], "b": [99.0]}
    assert values(asked('will_cross(disk, ">=", 95, 1d)', DISK)) == {"a": [72.0], "b": [99.0]}
    assert values(asked('will_cross(disk, ">=", 95, 2h)', DISK)) == {"b": [99.0]}
    assert values(asked('will_cross(disk, ">", 96.2, 1d, 0.9)', DISK))["a"] == [72.0]
    assert values(asked("silent(disk, 30)", DISK)) == {}
    later = Steps(NOW + HOUR, NOW + HOUR)
    assert list(values(asked("silent(disk, 30m)", DISK, later))) == ["a", "b", "c"]
    assert values(asked("silent(disk, 30m)", DISK, Steps(NOW + 25 * HOUR, NOW + 25 * HOUR))) == {}


def test_a_change_of_level_and_a_member_unlike_the_others() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.3, (8, 240))
    source = {
        labels("load", host=f"h{i}"): at(60, (5.0 + row).tolist(), NOW - 239 * MINUTE)
        for i, row in enumerate(noise)
    }
    moved = 5.0 + noise[3] + 9.0 * (np.arange(240) >= 200)
    source[labels("load", host="h3")] = at(60, moved.tolist(), NOW - 239 * MINUTE)
    assert list(values(asked("level_changed(load, 1h)", Literal(source)))) == ["h3"]
    assert list(values(asked("unlike_peers(load, 20m, 0)", Literal(source)))) == ["h3"]
    assert values(asked('unlike_peers(load, 20m, 0, "host")', Literal(source))) == {}
    assert list(values(asked("level_changed(load, 1h) > 12 and load > 0", Literal(source)))) == [
        "h3"
    ]


def test_a_query_looks_at_every_series_for_a_change_of_level() -> None:
    moved = np.where(np.arange(120) >= 80, 9.0, 5.0) + np.random.default_rng(2).normal(0, 0.1, 120)
    samples = at(60, moved.tolist(), NOW - 119 * MINUTE)
    source = Literal({labels("load", host=f"h{i}"): samples for i in range(AT_ONCE + 5)})
    assert len(values(asked("level_changed(load, 1h)", source))) == AT_ONCE + 5


def test_an_anomaly_spends_a_budget() -> None:
    quiet = [0.3] * 600
    source = Literal(
        {
            labels("plays", host="a"): at(60, [10.0] * 600, NOW - 599 * MINUTE),
            labels("plays:anomaly_score", host="a"): at(
                60, [*quiet[:598], 0.9999, 0.9999], NOW - 599 * MINUTE
            ),
            labels("plays:alert_score", host="a"): at(
                60, [*[0.0] * 598, 0.99995, 0.0], NOW - 599 * MINUTE
            ),
        }
    )
    assert values(asked("over_budget(plays, 2)", source)) == {"a": [10.0]}
    assert values(asked("over_budget(plays, 0.1)", source)) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("anomalous(rate(x[5m]))", "anomalous takes a metric, with matchers or without"),
        ("anomalous(x offset 5m)", "not an expression, an offset or @"),
        ("forecast(x @ 5, 6h)", "not an expression, an offset or @"),
        ("forecast(x:forecast, 6h)", "takes the metric itself, not x:forecast"),
        ('will_cross(x, "gt", 5)', "will_cross takes one of '>', '>=', '<', '<='"),
        ("will_cross(x, 5)", "expected"),
        ("level_changed(x, 0)", "takes a time longer than 0"),
        ("silent(x, time())", "takes a plain time as its second argument"),
        ("silent(x, 60 * 60)", "takes a plain time as its second argument"),
        ("unlike_peers(x, Inf, 0)", "up to 400d"),
        ("crosses_in(x)", "expected"),
    ],
)
def test_a_call_that_cannot_be_says_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse(text)


def test_every_function_of_ours_is_described() -> None:
    assert functions.__doc__ is not None
    assert all(f"    {name}(" in functions.__doc__ for name in functions.FILTERS)
