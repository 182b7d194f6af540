"""What comes next: when, how likely, and which of several first."""

import numpy as np
import pytest

from service.domain.rules import Condition
from service.domain.series import Series
from service.insights.coming import Crossing, crossing, natural, when
from service.insights.reading import Watched
from service.storage.columns import Columns

NOW = 1_700_000_000.0
NOW_MS, HOUR = round(NOW * 1000), 3_600_000
T = NOW_MS + HOUR * np.arange(1, 11)


def watched(
    forecast: np.ndarray, width: float | None, *, last: float = 100.0, name: str = "disk"
) -> Watched:
    past = NOW_MS - HOUR * np.arange(20, -1, -1)
    bands = {}
    if width is not None:
        bands = {
            "forecast_lower": Columns(T, forecast - width),
            "forecast_upper": Columns(T, forecast + width),
        }
    return Watched(
        Series.of(name),
        Columns(past, np.full(len(past), last)),
        forecast=Columns(T, forecast),
        **bands,
    )


def test_a_forecast_crosses_a_limit_or_comes_back() -> None:
    odd = watched(np.linspace(101.0, 110.0, 10), 3.0)
    found = crossing(odd, Condition.GT, 105.5, NOW_MS)
    assert found is not None
    assert (found.at, found.upwards, found.returns) == (int(T[5]), True, False)
    assert (found.early, found.late) == (int(T[3]), int(T[7]))
    assert found.probability is not None
    assert found.probability > 0.98
    unsure = crossing(odd, Condition.GT, 109.5, NOW_MS)
    assert unsure is not None
    assert unsure.probability is not None
    assert 0.5 <= unsure.probability < 0.75
    assert unsure.late is None
    back = crossing(odd, Condition.LT, 105.5, NOW_MS)
    assert back is not None
    assert (back.at, back.upwards, back.returns) == (int(T[5]), False, True)
    assert crossing(odd, Condition.GT, 200.0, NOW_MS) is None
    assert crossing(odd, Condition.EQ, 105.0, NOW_MS) is None
    none = Watched(odd.series, odd.samples)
    assert crossing(none, Condition.GT, 1.0, NOW_MS) is None


def test_without_an_interval_nobody_knows_how_likely() -> None:
    found = crossing(watched(np.linspace(101.0, 110.0, 10), None), Condition.GT, 105.5, NOW_MS)
    assert found == Crossing(int(T[5]), 105.5, True, False)
    assert when(found, NOW) == "in 6\u00a0hours"


def test_in_words() -> None:
    def said(early: int | None, late: int | None) -> str:
        at = NOW_MS + 7 * HOUR
        return when(Crossing(at, 90.0, True, False, 0.82, early, late), NOW).replace("\xa0", " ")

    assert said(NOW_MS + 5 * HOUR, NOW_MS + 9 * HOUR) == "in 7 hours (5 to 9 hours), 82 % likely"
    assert said(NOW_MS + HOUR, NOW_MS + 9 * HOUR) == "in 7 hours (1 to 9 hours), 82 % likely"
    assert said(NOW_MS + HOUR // 2, None) == "in 7 hours (30 minutes or more), 82 % likely"
    assert said(NOW_MS + HOUR // 2, NOW_MS + 9 * HOUR).startswith("in 7 hours (30 minutes to 9 h")
    assert said(NOW_MS + 7 * HOUR, NOW_MS + 7 * HOUR) == "in 7 hours, 82 % likely"
    assert said(None, None) == "in 7 hours, 82 % likely"


@pytest.mark.parametrize(
    ("name", "last", "limit"),
    [
        ("disk_used_percent", 80.0, 100.0),
        ("used_memory_ratio", 0.8, 1.0),
        ("disk_used_percent", 100.0, None),  # it is there already
        ("heap_used_ratio", 80.0, None),  # no ratio after all
        ("disk_used_bytes", 80.0, None),
        ("cpu_usage_percent", 80.0, None),  # busy is not full
        ("success_percent", 99.0, None),
        ("disk_free_bytes", 1e9, 0.0),
        ("memory_available_bytes", 1e9, 0.0),
        ("disk_free_bytes", 0.0, None),
        ("bikes_free", 3.0, None),
    ],
)
def test_limits_that_no_rule_names(name: str, last: float, limit: float | None) -> None:
    found = natural(watched(np.linspace(0, 1, 10), 1.0, last=last, name=name))
    assert (None if found is None else found.threshold) == limit
