"""Selectors: `play_rate{region="eu", cdn!~"test.*"}`, parsed by PromQL's own grammar."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import promql_parser
import re2

from service.domain.errors import InvalidInput
from service.domain.series import NAME, Matcher, MatchType, Selector, Series

_MAX_TEXT = 2048
_TYPES = {
    "MatchOp.Equal": MatchType.EQUAL,
    "MatchOp.NotEqual": MatchType.NOT_EQUAL,
    "MatchOp.Re": MatchType.REGEX,
    "MatchOp.NotRe": MatchType.NOT_REGEX,
}


def parse_selector(text: str) -> Selector:
    """The selector that `text` writes; `InvalidInput` says what is wrong with it.

    A metric name, matchers, or both; functions, ranges and offsets belong to expressions.
    """
    text = text.strip()
    if not text:
        raise InvalidInput('a query names a metric, e.g. error_rate or error_rate{region="eu"}')
    if len(text) > _MAX_TEXT:
        raise InvalidInput(f"a query may have {_MAX_TEXT} characters, this one has {len(text)}")
    try:
        tree = promql_parser.parse(text)
    except ValueError as error:
        raise InvalidInput(f"{_shorten(text)!r} is not a metric selector: {error}") from error
    if not isinstance(tree, promql_parser.VectorSelector):
        raise InvalidInput(
            f"{_shorten(text)!r} is an expression; a query is a metric name with optional "
            'matchers, e.g. error_rate{region="eu"}'
        )
    if tree.offset is not None or tree.at is not None:
        raise InvalidInput(f"{_shorten(text)!r}: a query takes no offset and no @")
    if tree.matchers.or_matchers:
        raise InvalidInput(f"{_shorten(text)!r}: a query takes no `or` between matchers")
    matchers = [Matcher(m.name, _TYPES[str(m.op)], m.value) for m in tree.matchers.matchers]
    if tree.name and not any(m.name == NAME for m in matchers):
        matchers.insert(0, Matcher(NAME, MatchType.EQUAL, tree.name))
    for matcher in matchers:
        if matcher.type in (MatchType.REGEX, MatchType.NOT_REGEX):
            _compiled(matcher.value)
    return Selector(tuple(matchers), text)


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> "re2._Regexp":
    # RE2 matches in linear time, whatever a tenant writes.
    options = re2.Options()
    options.max_mem = 1 << 20
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise InvalidInput(f"the regular expression {_shorten(pattern)!r}: {reason}") from error


def _matches(matcher: Matcher, value: str) -> bool:
    if matcher.type is MatchType.EQUAL:
        return value == matcher.value
    if matcher.type is MatchType.NOT_EQUAL:
        return value != matcher.value
    found = _compiled(matcher.value).fullmatch(value) is not None
    return found is (matcher.type is MatchType.REGEX)


def matches(selector: Selector, series: Series) -> bool:
    """Whether every matcher accepts the series."""
    return all(_matches(m, series.label(m.name)) for m in selector.matchers)


def accepts(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher accepts the labels; one that is absent counts as empty."""
    return all(_matches(m, labels.get(m.name, "")) for m in matchers)


def check_pattern(pattern: str) -> None:
    """`InvalidInput` says what is wrong with a regular expression."""
    _compiled(pattern)


def select(candidates: Iterable[Series], selector: Selector | None) -> list[Series]:
    """The series that the selector accepts, all without one; by name and labels."""
    chosen = candidates if selector is None else (s for s in candidates if matches(selector, s))
    return sorted(chosen, key=lambda s: s.labels)
