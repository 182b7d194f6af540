"""Texts in quotes, as Go writes them."""

import pytest

from service.domain.errors import InvalidInput
from service.rules.go_format import unquoted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r'"\xc3\xa9\u00e9é\303\251"', "éééé"),
        (r'"a\tb\"\x41"', 'a\tb"A'),
        (r"`\x41`", r"\x41"),
    ],
)
def test_bytes_of_a_text_are_characters_together(text: str, said: str) -> None:
    assert unquoted(text) == said


@pytest.mark.parametrize("text", [r'"\xff"', r'"\777"', r'"\ud800"', r'"\q"'])
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        unquoted(text)
