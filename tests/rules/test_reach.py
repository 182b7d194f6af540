"""What functions read besides their arguments is known before, however far a query looks back."""

import pytest

from service.query.promql.evaluate import Settings, evaluate
from service.query.promql.fetch import Fetched, wanted
from service.query.promql.functions import FUNCTIONS
from service.query.promql.parse import parse
from service.query.promql.vectors import Samples, Steps, Vector
from service.rules.plans import watched

CALLS = (
    "anomaly_score(m)",
    "expected(m)",
    "expected_lower(m)",
    "expected_upper(m)",
    "forecast(m, 6h)",
    "crosses_in(m, 90, 0.8)",
    "anomalous(m)",
    "over_budget(m, 2)",
    'will_cross(m, ">=", 95)',
    "level_changed(m, 1h)",
    'unlike_peers(m, 30m, 0, "job")',
    "silent(m, 15m)",
    "info(m)",
    'info(m, {__name__!="build_info", region=~".*"})',
)


def test_there_is_a_call_of_each_function_that_reads_more() -> None:
    assert {call.partition("(")[0] for call in CALLS} == {
        name for name, known in FUNCTIONS.items() if known.also is not None
    }


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("lookback_ms", [1000, 300_000, 7_200_000])
def test_what_is_asked_for_was_fetched(call: str, lookback_ms: int) -> None:
    expr, settings = parse(call), Settings(lookback_ms)
    for steps in (Steps(10**9, 10**9), Steps(10**9, 10**9 + 600_000, 60_000)):
        spans = wanted(expr, steps, settings)
        fetched = Fetched([(span, Samples.of([])) for span in spans])
        found = evaluate(expr, fetched, steps, settings).value
        assert isinstance(found, Vector)
        assert not found.labels


def test_labels_alone_are_no_series_to_watch() -> None:
    found = watched(parse('info(m, {__name__="build_info", region=~".*"}) > 0'))
    assert {selector.name for selector in found} == {"m", "build_info"}
