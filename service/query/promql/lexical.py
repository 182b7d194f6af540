"""The text of an expression as the parser reads it, where Prometheus reads more than it does.

Texts in backticks, digits with underscores, all forms of numbers and lengths of nothing are written
differently, to the same effect.
"""

import re

# A text that does not end is taken to the end of all, so that what follows is looked at once.
_STRING = r'"(?:\\.|[^"\\])*"?|\'(?:\\.|[^\'\\])*\'?|`[^`]*`?|#[^\n]*'
#: What may hide a bracket, an operator or a number: texts and comments.
QUOTED = re.compile(_STRING)
_DIGITS = r"\d+(?:_\d+)*"
_TOKEN = re.compile(
    rf"(?P<quoted>{_STRING})"
    r"|(?P<name>[a-zA-Z_][\w:]*)"
    r"|(?<![\w.])(?P<length>(?:\d+(?:ms|[smhdwy]))+)(?![\w.])"
    # After a colon only where a length or a number is before it: else it is part of a name.
    r"|(?:(?<![\w.:])|(?<=\w:))(?P<number>0[xX]_?[\da-fA-F]+(?:_[\da-fA-F]+)*"
    rf"|(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?{_DIGITS})?)(?![\w.])",
    re.ASCII,
)
_OCTAL = re.compile(r"0[0-7]+")
_RAW = re.compile(r"`([^`]*)`")
#: What stands before the labels of `info(v, {…})`, among other things.
_ARGUMENT = re.compile(_STRING + r"|,\s*\{")
#: A matcher that is no label's: with it the parser lets labels through that exclude nothing.
LABELS_ONLY = "__labels_only__"
_MARK = f'{LABELS_ONLY}="1"'
_MARKED = re.compile(rf"{_MARK}(?:,\s*)?")
_LARGEST = (1 << 63) - 1


def plain(text: str) -> str:
    """The same expression in what the parser knows; `ValueError` for a number that is none."""
    return _TOKEN.sub(_plain, text)


def with_labels_only(text: str) -> str:
    """The same with a matcher on `LABELS_ONLY` in all braces that may be labels of `info`."""
    return _ARGUMENT.sub(_marked, text)


def unmarked(text: str) -> str:
    """What the parser makes of such a text, without that matcher."""
    return _MARKED.sub("", text)


def _marked(found: re.Match[str]) -> str:
    return f"{found[0]}{_MARK}," if found[0].startswith(",") else found[0]


def _plain(token: re.Match[str]) -> str:
    if token["quoted"] is not None:
        return _text(token["quoted"])
    if token["number"] is not None:
        return _number(token["number"])
    if token["length"] is not None and not token["length"].strip("0mshdwy"):
        return "0"
    return token[0]


def _text(quoted: str) -> str:
    """A text in backticks between quotes: in it the parser takes backslashes for escapes."""
    raw = _RAW.fullmatch(quoted)
    if raw is None:
        return quoted
    escaped = raw[1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _number(text: str) -> str:
    """A number as Go reads it: an integer of any base if it is one, else a decimal fraction."""
    digits = text.replace("_", "")
    based = digits[:2] in ("0x", "0X") or _OCTAL.fullmatch(digits)
    if based and (whole := int(digits, 16 if digits[1] in "xX" else 8)) <= _LARGEST:
        return str(whole)
    try:
        value = float(digits)
    except ValueError as error:
        raise ValueError(_unreadable(text, "invalid syntax")) from error
    if value == float("inf"):
        raise ValueError(_unreadable(text, "value out of range"))
    # As it was written wherever the parser can read that, for it says what is wrong with the rest.
    return digits if digits[0] != "0" or len(digits) == 1 else repr(value)


def _unreadable(text: str, why: str) -> str:
    return f'error parsing number: strconv.ParseFloat: parsing "{text}": {why}'
