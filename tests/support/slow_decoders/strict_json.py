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


def parse(text: bytes) -> Any:
    """The value of a document in UTF-8; `Refused` if it is none."""
    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=Members,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def well_formed(value: Any) -> bool:
    """Whether no text has half a surrogate pair: it could not be written in UTF-8."""
    if isinstance(value, Members):
        return all(well_formed(key) and well_formed(item) for key, item in value)
    if isinstance(value, list):
        return all(map(well_formed, value))
    return not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)
