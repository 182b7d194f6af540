"""Expressions respelt for the parser, which reads some numbers and texts otherwise than Prometheus.

What is no well-formed number or text stays as it is, for the parser to say what is wrong.
"""

import math
import re

from service.domain.errors import InvalidInput
from service.query.matchers import shorten

#: What may hide a bracket or an operator: texts and comments. One without an end goes on to the
#: end of all, so that nothing is looked at twice.
_HIDING = r'"(?:\\(?s:.)|[^"\\])*(?:"|\\?\Z)|\'(?:\\(?s:.)|[^\'\\])*(?:\'|\\?\Z)|`[^`]*`|#[^\n]*'
QUOTED = re.compile(_HIDING)
_TOKEN = re.compile(
    rf"(?P<hiding>{_HIDING})"
    r"|(?:[a-zA-Z_]|(?<!\w):)[\w:]*"
    r"|(?P<number>\.?[0-9](?:[eE][-+]?(?=[0-9])|[\w.])*)",
    re.ASCII,
)
_DIGITS = r"[0-9](?:_?[0-9])*"
_NUMBER = re.compile(
    rf"0[xX](?:_?[0-9a-fA-F])+|(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?{_DIGITS})?"
)
_OCTAL = re.compile(r"0[0-7]+")
#: Numbers that the parser refuses or reads differently: `1_000`, `0e1`, long ones after a zero.
_STRANGE = re.compile(r"0[0-9eE]|.*_")
_INT64_BEYOND = 2**63
#: One escape after the other; bytes that follow each other are a piece of UTF-8.
_ESCAPE = re.compile(r"(?P<bytes>(?:\\x[0-9a-fA-F]{2}|\\[0-3][0-7]{2})+)|\\.", re.DOTALL)
_BYTE = re.compile(r"\\(?:x(?P<hexadecimal>..)|(?P<octal>...))")


def respelt(text: str) -> str:
    """The same expression in the parser's spelling.

    Raises `InvalidInput` for a number beyond all floats and for a text that is not UTF-8.
    """
    return _TOKEN.sub(_token, text)


def _token(found: re.Match[str]) -> str:
    if found["number"] is not None:
        return _number(found["number"])
    hiding = found["hiding"]
    if hiding is None or hiding[0] == "#":
        return found[0]
    return _raw(hiding) if hiding[0] == "`" else _ESCAPE.sub(_escape, hiding)


def _number(token: str) -> str:
    """A number as Go reads it: with a zero before it in octal digits, if it can be."""
    if not _NUMBER.fullmatch(token):
        return token
    plain = token.replace("_", "")
    if plain[:2].lower() == "0x":
        return plain
    if math.isinf(value := float(plain)):
        raise InvalidInput(
            "error parsing number: strconv.ParseFloat: "
            f'parsing "{shorten(token)}": value out of range'
        )
    if not _STRANGE.match(token):
        return token
    if _OCTAL.fullmatch(plain) and (octal := int(plain, 8)) < _INT64_BEYOND:
        return str(octal)
    return repr(value)


def _raw(text: str) -> str:
    """A text in backticks between quotes: in it the parser takes backslashes for escapes."""
    escaped = text[1:-1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _escape(found: re.Match[str]) -> str:
    """Escaped bytes as the characters that they are in UTF-8; the parser takes each for one."""
    if found["bytes"] is None:
        return found[0]
    octets = bytes(
        int(byte["hexadecimal"], 16) if byte["hexadecimal"] else int(byte["octal"], 8)
        for byte in _BYTE.finditer(found["bytes"])
    )
    try:
        characters = octets.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{found['bytes']} in a text is not UTF-8") from error
    return "".join(c if ord(c) > 0x7F else f"\\x{ord(c):02x}" for c in characters)
