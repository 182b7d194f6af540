"""Where the Prometheus of the tests, 2.42, is known to answer otherwise than Prometheus 3 and we.

Each has a name, by which `docs/promql.md` explains it. What generated queries avoid by themselves:
samples at the left edge of a window, which 2.42 counts in; functions that it lacks; names that it
leaves with `atan2`; counters that begin small where a window has seen nothing yet.
"""

import re
from collections.abc import Callable

from tests.support.promql.answers import Answer


def spelt(text: str) -> str:
    """An expression as 2.42 spells it."""
    return text.replace("double_exponential_smoothing(", "holt_winters(")


def reason(text: str, ours: Answer, theirs: Answer) -> str:
    """The name of the difference that explains why two answers differ; nothing if none does."""
    return next((name for name, holds in _DIFFERENCES.items() if holds(text, ours, theirs)), "")


def _match_with_nothing(text: str, ours: Answer, theirs: Answer) -> bool:
    """2.42 looks for duplicates before it sees that the other side is empty."""
    return not ours.error and theirs.error.startswith("found duplicate series for the match group")


def _filtered_match(text: str, ours: Answer, theirs: Answer) -> bool:
    """2.42 refuses a second match only where the comparison holds for both."""
    refused = ours.error.startswith("multiple matches for labels")
    return refused and not theirs.error and bool(re.search("[=!<>]=|[<>]", text))


def _pinned_window(text: str, ours: Answer, theirs: Answer) -> bool:
    """2.42 moves the pinned window of `predict_linear` with the steps of a range query."""
    return bool(re.search(r"predict_linear\(.*@", text))


def _pinned_timestamp(text: str, ours: Answer, theirs: Answer) -> bool:
    """Prometheus forgets the offset of a pinned selector in `timestamp`, 3 as well."""
    return bool(re.search(r"timestamp\([^()]*( offset [^()]*@|@ \S* offset)", text)) or bool(
        re.search(r"timestamp\([^()]*@ (start|end)\(\) offset", text)
    )


_DIFFERENCES: dict[str, Callable[[str, Answer, Answer], bool]] = {
    "match with nothing": _match_with_nothing,
    "match that is filtered out": _filtered_match,
    "pinned predict_linear": _pinned_window,
    "pinned timestamp": _pinned_timestamp,
}
