"""Classic histograms: quantiles and fractions, repaired where counts fall."""

import math

import numpy as np
import pytest

from service.domain.errors import Unprocessable
from service.domain.series import LabelPairs
from service.query.promql.numerals import in_open_metrics, read
from service.storage.columns import Columns
from tests.support.literal import STALE, Literal, ask, every, labels, same, table

INF, NAN = math.inf, math.nan
FORCED = (
    "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see "
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


def _histogram(buckets: dict[str, float | None], **others: str) -> dict[LabelPairs, Columns]:
    return {labels("h_bucket", le=le, **others): every(60, [n]) for le, n in buckets.items()}


def _one(call: str, buckets: dict[str, float | None]) -> float | None:
    rows = list(table(ask(call, Literal(_histogram(buckets)), 0)).values())
    return rows[0][0] if rows else None


PLAIN: dict[str, float | None] = {"0.25": 40, ".5": 60, "2e0": 90, "+Inf": 100}
BELOW: dict[str, float | None] = {"-3": 4, "-1.5": 8, "0.5": 8, "+Inf": 16}


@pytest.mark.parametrize(
    ("q", "buckets", "value"),
    [
        ("0", PLAIN, 0),
        ("0.2", PLAIN, 0.125),
        ("0.5", PLAIN, 0.375),
        ("0.8", PLAIN, 1.5),
        ("1", PLAIN, 2),  # in the bucket up to infinity: its lower bound
        ("-0.1", PLAIN, -INF),
        ("1.01", PLAIN, INF),
        ("NaN", PLAIN, NAN),
        ("0", BELOW, -3),  # the first bucket has no lower bound
        ("0.2", BELOW, -3),
        ("0.4", BELOW, -2.1),
        ("0.8", BELOW, 0.5),
        ("0.5", {"+Inf": 10}, NAN),  # no other bucket
        ("0.5", {"1": 5, "2": 10}, NAN),  # none up to infinity
        ("0.5", {"1": 0, "+Inf": 0}, NAN),  # nothing observed
        ("0.5", {"1": 5, "+Inf": None}, NAN),
        ("0.5", {"1": None, "2": 5, "+Inf": 10}, 2),
        # What is not a number lies on one side of the halves or the other
        ("1", {"1": 2, "2": NAN, "4": 6, "+Inf": 8}, 4),
        ("0.2", {"1": 2, "2": NAN, "4": 6, "+Inf": 8}, NAN),
        ("0.625", {"1": NAN, "2": 4, "4": 6, "+Inf": 8}, 3),
        ("0.5", {"4": 3, "4.0": 2, "0x1p2": 1, "+Inf": 8, "Inf": 4}, 4),
    ],
)
def test_quantiles(q: str, buckets: dict[str, float | None], value: float) -> None:
    found = _one(f"histogram_quantile({q}, h_bucket)", buckets)
    assert found is not None
    assert same(found, value) or found == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(("q", "value"), [("0.25", 0.5), ("0.75", 3.5), ("1", 5)])
def test_counts_that_fall_are_raised_and_that_is_said(q: str, value: float) -> None:
    counts: dict[str, float | None] = {"1": 30, "2": 12, "5": 60, "8": 50, "+Inf": 55}
    result = ask(f"histogram_quantile({q}, h_bucket)", Literal(_histogram(counts)), 0)
    assert table(result) == {(): [pytest.approx(value, rel=1e-14)]}
    assert result.infos == (FORCED,)


def test_differences_by_rounding_are_taken_away_without_a_word() -> None:
    counts: dict[str, float | None] = {"1": 10, "2": 10 - 1e-12, "3": 10 + 1e-12, "+Inf": 10}
    result = ask("histogram_quantile(0.5, h_bucket)", Literal(_histogram(counts)), 0)
    assert table(result) == {(): [0.5]}
    assert result.infos == result.warnings == ()
    falls: dict[str, float | None] = {"1": 10, "+Inf": 10 - 1e-9}
    assert ask("histogram_quantile(0.5, h_bucket)", Literal(_histogram(falls)), 0).infos == (
        FORCED,
    )


def test_buckets_may_come_and_go() -> None:
    source = Literal(
        {
            labels("h_bucket", le="1"): every(60, [5, STALE, 5]),
            labels("h_bucket", le="2"): every(60, [10, 10, 10]),
            labels("h_bucket", le="+Inf"): every(60, [10, 10, STALE]),
        }
    )
    [row] = table(ask("histogram_quantile(0.75, h_bucket)", source, 0, 120)).values()
    assert row[:2] == [1.5, 1.5]
    assert row[2] is not None
    assert math.isnan(row[2])


def test_histograms_with_different_bounds_are_each_their_own() -> None:
    source = Literal(
        _histogram({"1": 1, "+Inf": 2}, a="x")
        | _histogram({"3": 1, "+Inf": 2}, a="y")
        | _histogram({"1": 2, "+Inf": 2}, a="z")
    )
    assert table(ask("histogram_quantile(0.5, h_bucket)", source, 0)) == {
        labels(a="x"): [1],
        labels(a="y"): [3],
        labels(a="z"): [0.5],
    }


def test_a_series_without_a_bound_is_left_out_and_warned_of() -> None:
    source = Literal(
        _histogram({"1": 1, "+Inf": 2}) | {labels("up"): every(60, [1])} | _histogram({"1_0": 3})
    )
    result = ask('histogram_quantile(0.5, {__name__=~".+"})', source, 0)
    assert table(result) == {(): [1]}
    assert result.warnings == (
        'PromQL warning: bucket label "le" is missing or has a malformed value of "" for metric '
        'name "up"',
        'PromQL warning: bucket label "le" is missing or has a malformed value of "1_0" for metric '
        'name "h_bucket"',
    )


def test_a_quantile_that_is_none_is_warned_of_whatever_there_is() -> None:
    warning = "PromQL warning: quantile value should be between 0 and 1, got 2"
    assert ask("histogram_quantile(2, h_bucket)", Literal({}), 0).warnings == (warning,)


def test_two_metrics_with_the_same_labels_are_refused() -> None:
    series = {
        labels(name, le=le): every(60, [1]) for name in ("a_bucket", "b_bucket") for le in "12"
    }
    with pytest.raises(Unprocessable, match="same labelset"):
        ask('histogram_quantile(0.5, {__name__=~"._bucket"})', Literal(series), 0)


@pytest.mark.parametrize(
    ("low", "high", "buckets", "value"),
    [
        ("0", "3", {"1": 10, "3": 30, "7": 40, "+Inf": 40}, 0.75),
        ("0", "2", {"1": 10, "3": 30, "7": 40, "+Inf": 40}, 0.5),
        ("-Inf", "+Inf", PLAIN, 1),
        ("0.5", "+Inf", PLAIN, 0.4),
        ("0.5", "0.5", PLAIN, 0),
        ("1", "0", PLAIN, 0),
        ("NaN", "1", PLAIN, NAN),
        ("0", "NaN", PLAIN, NAN),
        ("0", "5", PLAIN, 0.9),  # what is beyond the last bound is not counted
        ("-Inf", "-2", BELOW, (4 + 4 / 1.5) / 16),
        ("-Inf", "-4", BELOW, 4 / 16),  # nobody knows where the first bucket begins
        ("0", "1", {"1": 0, "+Inf": 0}, NAN),
        ("0", "1", {"1": 5}, NAN),
    ],
)
def test_fractions(low: str, high: str, buckets: dict[str, float | None], value: float) -> None:
    found = _one(f"histogram_fraction({low}, {high}, h_bucket)", buckets)
    assert found is not None
    assert same(found, value) or found == pytest.approx(value, rel=1e-14)


def test_several_quantiles_at_once_have_a_label_each() -> None:
    source = Literal(_histogram(PLAIN, a="x"))
    found = table(ask('histogram_quantiles(h_bucket, "q", 0.5, 1, 0.2)', source, 0))
    assert list(found) == [labels(a="x", q="0.5"), labels(a="x", q="1.0"), labels(a="x", q="0.2")]
    assert [row for [row] in found.values()] == pytest.approx([0.375, 2, 0.125], rel=1e-15)
    with pytest.raises(Unprocessable, match="same labelset"):
        ask('histogram_quantiles(h_bucket, "q", 0.5, 0.5)', source, 0)
    result = ask('histogram_quantiles(h_bucket, "q", 7)', source, 0)
    assert table(result) == {labels(a="x", q="7.0"): [INF]}
    assert result.warnings


def test_functions_of_native_histograms_ignore_numbers() -> None:
    source = Literal(_histogram(PLAIN))
    for name in ("avg", "count", "sum", "stddev", "stdvar"):
        assert table(ask(f"histogram_{name}(h_bucket)", source, 0)) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1), (".5", 0.5), ("5.", 5), ("-2e-1", -0.2), ("1E3", 1000), ("+Inf", INF),
        ("inf", INF), ("-Infinity", -INF), ("NaN", NAN), ("0x1p-2", 0.25), ("-0X1.8P1", -3),
        ("", None), ("abc", None), ("1_000", None), (" 1", None), ("1e400", None), ("0x10", None),
        ("١", None), ("+nan", None), ("0x1p99999", None),
    ],
)  # fmt: skip
def test_numbers_in_labels(text: str, value: float | None) -> None:
    assert same(read(text), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1.0"), (0, "0.0"), (-0.0, "0.0"), (0.99, "0.99"), (1e6, "1e+06"), (12345, "12345.0"),
        (1e-7, "1e-07"), (INF, "+Inf"), (-INF, "-Inf"), (NAN, "NaN"), (-1, "-1.0"),
    ],
)  # fmt: skip
def test_numbers_as_labels(value: float, text: str) -> None:
    assert in_open_metrics(value) == text


def test_quantiles_of_many_histograms_are_those_of_each() -> None:
    rng = np.random.default_rng(2)
    bounds = ["-1", "0", "0.5", "1", "2.5", "10", "+Inf"]
    series: dict[LabelPairs, Columns] = {}
    for i in range(40):
        counts = np.cumsum(rng.integers(0, 9, (len(bounds), 5)), axis=0).astype(float)
        for j, le in enumerate(bounds):
            series[labels("h_bucket", a=str(i), le=le)] = every(60, counts[j].tolist())
    found = table(ask("histogram_quantile(0.9, h_bucket)", Literal(series), 0, 240))
    for i in range(40):
        own = {pairs: columns for pairs, columns in series.items() if ("a", str(i)) in pairs}
        alone = table(ask("histogram_quantile(0.9, h_bucket)", Literal(own), 0, 240))
        [key] = alone
        assert all(map(same, alone[key], found[key]))
