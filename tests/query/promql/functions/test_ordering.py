"""Order is of answers at one time; where it is lost, the answer says so."""

import pytest

from tests.support.literal import Literal, ask, every, labels

SOURCE = Literal({labels("m", i=text): every(60, [ord(text)] * 5) for text in "bac"})
WARNING = (
    "PromQL warning: sort is ineffective for range queries since results are always ordered by "
    "labels"
)
CALLS = ("sort(m)", "sort_desc(m)", 'sort_by_label(m, "i")', 'sort_by_label_desc(m, "i")')


@pytest.mark.parametrize("call", CALLS)
def test_of_several_times_there_is_no_order(call: str) -> None:
    assert ask(call, SOURCE, 60).warnings == ()
    # The evaluation ends after it begins, though there is one step within.
    for end, step in ((120, 60), (90, 60)):
        assert ask(call, SOURCE, 60, end, step).warnings == (WARNING,)
    assert ask(f"sum_over_time({call}[2m:1m])", SOURCE, 120).warnings == (WARNING,)
    assert ask(f"count({call} + {call})", SOURCE, 60, 120).warnings == (WARNING,)
