"""Matchers on labels, and the series that they accept; regular expressions are anchored."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import re2

from service.domain.errors import InvalidInput
from service.domain.series import Matcher, MatchType, Selector, Series


def shorten(text: str) -> str:
    """Text as an error quotes it."""
    return text if len(text) <= 80 else text[:77] + "…"


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> "re2._Regexp":
    """The regular expression; `InvalidInput` says what is wrong with it."""
    # RE2 matches in linear time, whatever a tenant writes.
    options = re2.Options()
    options.max_mem = 1 << 20
    options.log_errors = False
    options.dot_nl = True  # a dot stands for the end of a line too, since Prometheus 3
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise InvalidInput(f"the regular expression {shorten(pattern)!r}: {reason}") from error


def _matches(matcher: Matcher, value: str) -> bool:
    if matcher.type is MatchType.EQUAL:
        return value == matcher.value
    if matcher.type is MatchType.NOT_EQUAL:
        return value != matcher.value
    found = compiled(matcher.value).fullmatch(value) is not None
    return found is (matcher.type is MatchType.REGEX)


def matches(selector: Selector, series: Series) -> bool:
    """Whether every matcher accepts the series."""
    return all(_matches(m, series.label(m.name)) for m in selector.matchers)


def accepts(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher accepts the labels; one that is absent counts as empty."""
    return all(_matches(m, labels.get(m.name, "")) for m in matchers)


def check_pattern(pattern: str) -> None:
    """`InvalidInput` says what is wrong with a regular expression."""
    compiled(pattern)


def select(candidates: Iterable[Series], selector: Selector | None) -> list[Series]:
    """The series that the selector accepts, all without one; by name and labels."""
    chosen = candidates if selector is None else (s for s in candidates if matches(selector, s))
    return sorted(chosen, key=lambda s: s.labels)
