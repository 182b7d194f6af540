"""Selectors: `play_rate{region="eu", cdn!~"test.*"}`, as expressions write them."""

from service.domain.errors import InvalidInput
from service.domain.series import Selector
from service.query.matchers import shorten
from service.query.promql.expressions import Select
from service.query.promql.parse import parse

_MAX_TEXT = 2048


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
        found = parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{shorten(text)!r} is not a metric selector: {error}") from error
    if not isinstance(found, Select):
        raise InvalidInput(
            f"{shorten(text)!r} is an expression; a query is a metric name with optional "
            'matchers, e.g. error_rate{region="eu"}'
        )
    if found.offset_ms or found.at is not None:
        raise InvalidInput(f"{shorten(text)!r}: a query takes no offset and no @")
    return Selector(found.selector.matchers, text)
