"""What was made of a text is made once, and forgotten when others take its room."""

import pytest

from service.query.promql.memo import Memo


class Maker:
    """Turns texts around and counts how often."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, text: str) -> str:
        self.made.append(text)
        if text == "wrong":
            raise ValueError(text)
        return text[::-1]


def test_a_text_is_made_once_until_newer_ones_need_its_room() -> None:
    memo, make = Memo[str](10), Maker()
    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        assert memo.of(text, make) == text[::-1]
        assert memo.length <= 10
    assert make.made == ["aaaa", "bbbb", "cccc", "bbbb"]


def test_a_text_longer_than_all_the_room_is_made_each_time() -> None:
    memo, make = Memo[str](3), Maker()
    assert memo.of("abcd", make) == memo.of("abcd", make) == "dcba"
    assert make.made == ["abcd", "abcd"]
    assert memo.length == 0


def test_what_fails_is_not_remembered() -> None:
    memo, make = Memo[str](100), Maker()
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            memo.of("wrong", make)
    assert make.made == ["wrong", "wrong"]
    assert memo.length == 0
