"""Secrets at rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.crypto import CryptoError, SecretBox, derive

BOX = SecretBox(b"s" * 32)


@given(st.binary(max_size=300), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_was_sealed_opens_where_it_belongs(plaintext: bytes, context: str) -> None:
    token = BOX.seal(plaintext, context)
    assert BOX.open(token, context) == plaintext
    assert token.isascii()
    with pytest.raises(CryptoError):
        BOX.open(token, context + "x")


def test_the_same_secret_never_looks_the_same() -> None:
    assert len({BOX.seal(b"hook", "channel:acme:slack") for _ in range(50)}) == 50


@given(st.integers(0, 200), st.sampled_from("ABCxyz019-_=. é"))
def test_a_changed_token_never_opens(position: int, letter: str) -> None:
    token = BOX.seal(b"https://hooks.example/abcdef", "channel:acme:slack")
    position %= len(token)
    changed = token[:position] + letter + token[position + 1 :]
    if changed != token:
        with pytest.raises(CryptoError):
            BOX.open(changed, "channel:acme:slack")


def test_spare_bits_of_the_last_letter_count_too() -> None:
    token = BOX.seal(b"https://hooks.example/abcdef", "channel:acme:slack").rstrip("=")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(token[-1]) ^ 1]
    with pytest.raises(CryptoError):
        BOX.open(token[:-1] + other + "=", "channel:acme:slack")


@pytest.mark.parametrize("token", ["", "v1.", "v1.AAAA", "v2.AAAA", "\x00", "v1.\ud800"])
def test_what_we_did_not_seal_is_told_clearly(token: str) -> None:
    with pytest.raises(CryptoError, match="channel:acme:slack"):
        BOX.open(token, "channel:acme:slack")


def test_another_secret_key_opens_nothing() -> None:
    with pytest.raises(CryptoError, match="OFFBEAT_SECRET_KEY"):
        SecretBox(b"t" * 32).open(BOX.seal(b"x", "c"), "c")


def test_each_purpose_has_its_own_key() -> None:
    assert derive(b"s" * 32, "sessions") != derive(b"s" * 32, "models")
    assert len(derive(b"s" * 32, "sessions")) == 32
