"""Series in memory, to which samples are added."""

import numpy as np
import pytest

from service.domain.errors import Unprocessable
from service.domain.series import Matcher, MatchType, Selector
from service.query.promql.literal import STALE, Literal
from service.query.promql.vectors import is_stale
from service.storage.columns import Columns

UP = (("__name__", "up"), ("a", "1"))
DOWN = (("__name__", "down"),)
EVERY_UP = Selector((Matcher("__name__", MatchType.EQUAL, "up"),))
WITH_A = Selector((Matcher("a", MatchType.REGEX, ".+"),))


def columns(*times: int) -> Columns:
    return Columns(np.array(times, np.int64), np.array(times, np.float64))


def test_series_are_found_by_name_and_by_matcher() -> None:
    source = Literal([(UP, columns(1, 2, 3)), (DOWN, columns(5))])
    for selector in (EVERY_UP, WITH_A):
        found = source.select(selector, 2, 9)
        assert found.labels == [UP]
        assert found.t.tolist() == [2, 3]
    assert source.extent() == (1, 5)
    assert len(source) == 2
    assert Literal().extent() is None


def test_what_is_added_is_seen_at_once_and_does_not_change_what_was_given() -> None:
    given = columns(1, 2)
    source = Literal([(UP, given)])
    assert source.select(WITH_A, 0, 9).labels == [UP]
    for t in range(3, 60):
        source.append(UP, t, float(t))
    more = (("__name__", "up"), ("a", "2"))
    source.append(more, 4, STALE)
    found = source.select(WITH_A, 0, 99)
    assert found.labels == [UP, more]
    assert found.t[:59].tolist() == list(range(1, 60))
    assert is_stale(found.v).tolist() == [False] * 59 + [True]
    assert given.t.tolist() == [1, 2]


def test_time_goes_on_and_a_sample_is_written_once() -> None:
    source = Literal([(UP, columns(1, 5))])
    with pytest.raises(Unprocessable, match="out of order sample"):
        source.append(UP, 4, 1.0)
    with pytest.raises(Unprocessable, match="duplicate sample for timestamp"):
        source.append(UP, 5, 1.0)
    source.append(UP, 5, 5.0)
    assert source.select(EVERY_UP, 0, 9).t.tolist() == [1, 5]


def test_what_is_later_than_now_is_not_seen() -> None:
    source = Literal([(UP, columns(1, 2, 3))])
    source.until_ms = 2
    assert source.select(EVERY_UP, 0, 9).t.tolist() == [1, 2]
