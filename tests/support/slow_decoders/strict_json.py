"""JSON by the standard library, as RFC 8259 has it and with nothing lost.

Objects keep their members in order, repeated ones too; numbers keep their text.
"""

import json
from typing import Any

from tests.support.slow_decoders.result import Refused


class Members(list[tuple[str, Any]]):
    """The members of an object, in their order."""


class Number(str):
    """A number as it is written."""

    __slots__ = ()

    @property
    def whole(self) -> bool:
        """Whether it is written without a fraction and an exponent."""
        return self.lstrip("-").isdigit()

    def real(self) -> float:
        """Its value as a double; infinite beyond the largest."""
        # An integer has no sign at zero.
        return float(self) if not self.whole or float(self) else 0.0


def parse(body: bytes) -> Any:
    """The value of a document; `Refused` if it is none.

    Bytes that are no UTF-8 spoil the text that they are in, and not the document: they become
    halves of surrogate pairs, see `is_text`. Escapes of such halves do spoil it.
    """
    if not _well_formed(_loads(body.decode(errors="replace"))):
        raise Refused("half a surrogate pair")
    return _loads(body.decode(errors="surrogateescape"))


def is_text(value: Any) -> bool:
    """Whether a value is text, and that text is UTF-8."""
    return isinstance(value, str) and not isinstance(value, Number) and _well_formed(value)


def _loads(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=Members,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _well_formed(value: Any) -> bool:
    if isinstance(value, Members):
        return all(_well_formed(key) and _well_formed(item) for key, item in value)
    if isinstance(value, list):
        return all(map(_well_formed, value))
    if not isinstance(value, str):
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
