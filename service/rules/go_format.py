"""Values as Go prints them: `%v` and the other verbs of its `fmt`, on what templates deal in."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from service.domain.errors import InvalidInput
from service.query.promql.numerals import general

#: Characters of a text that is formatted.
TEXT_MAX = 65_536
#: Widths and precisions beyond this are taken as this: Go allows a million.
WIDTH_MAX = 1000

_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?(?:\[(\d+)\])?(.)?", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))",
    re.DOTALL,
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_EXPONENT = re.compile(r"e([-+])(\d)$")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a query's result."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, in milliseconds since 1970."""

    ms: int

    def __str__(self) -> str:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.ms)
        fraction = f".{self.ms % 1000:03d}".rstrip("0") if self.ms % 1000 else ""
        return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time, in nanoseconds."""

    ns: int

    def __str__(self) -> str:
        sign, ns = ("-", -self.ns) if self.ns < 0 else ("", self.ns)
        if ns == 0:
            return "0s"
        for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
            if ns < size * 1000:
                return f"{sign}{_decimal(ns, size)}{unit}"
        minutes, rest = divmod(ns, 60_000_000_000)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h" if hours else ""
        text += f"{minutes}m" if hours or minutes else ""
        return f"{sign}{text}{_decimal(rest, 1_000_000_000)}s"


class Loose(dict[str, Any]):
    """Names to values of any kind; one that is absent is no value at all.

    `size` is about how many characters it takes to print.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        # Kept, for one may hold another many times over.
        self.size = sum(len(name) + size_of(value) for name, value in values.items())


def size_of(value: Any) -> int:
    """About how many characters it takes to print what templates can make larger."""
    if isinstance(value, str):
        return len(value)
    return value.size if isinstance(value, Loose) else 1


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def type_name(value: Any) -> str:
    """How Go calls the type of a value."""
    if value is None:
        return "<nil>"
    for kind, name in _TYPES:
        if isinstance(value, kind):
            return name
    return "func"


_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (str, "string"),
    (Sample, "*template.sample"),
    (Loose, "map[string]interface {}"),
    (dict, "map[string]string"),
    (list, "template.queryResult"),
    (Moment, "*time.Time"),
    (Span, "*time.Duration"),
)


def float_text(value: float, verb: str = "g", precision: int | None = None) -> str:
    """A float by a verb, `%v` and `%g` without a precision by as few digits as tell it apart."""
    if not math.isfinite(value):
        return general(value)
    if precision is None and verb in "gG":
        return general(value) if verb == "g" else general(value).upper()
    return _two_digits(f"%.{6 if precision is None else precision}{verb}" % value)


def _two_digits(text: str) -> str:
    return _EXPONENT.sub(r"e\g<1>0\2", text)


def text_of(value: Any) -> str:
    """A value as `%v` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Sample):
        return f"{{{text_of(dict(value.labels))} {float_text(value.value)}}}"
    if isinstance(value, dict):
        pairs = (f"{key}:{text_of(value[key])}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, list):
        return f"[{' '.join(map(text_of, value))}]"
    return str(value)


def sprint(values: Sequence[Any]) -> str:
    """All one after the other, a space between two of which neither is text."""
    text = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            text += " "
        text += text_of(value)
    return text


def sprintln(values: Sequence[Any]) -> str:
    """All with spaces between them, and a new line."""
    return " ".join(map(text_of, values)) + "\n"


def sprintf(form: str, values: Sequence[Any]) -> str:
    """The values by a form. What does not fit is said in the text, as Go says it.

    `ValueError` for more than `TEXT_MAX` characters: a form may name a value many times.
    """
    taken, chosen, length = 0, False, 0
    parts: list[str] = []
    at = 0

    def star(text: str | None) -> int | None:
        nonlocal taken
        if text != "*":
            return None if text is None else min(int(text or 0), WIDTH_MAX)
        value = values[taken] if taken < len(values) else 0
        taken += 1
        return min(value, WIDTH_MAX) if isinstance(value, int) else 0

    for found in _VERB.finditer(form):
        parts.append(form[at : found.start()])
        at = found.end()
        flags, width, precision, which, verb = found.groups()
        wide, precise = star(width), star(precision)
        if which is not None:
            chosen, taken = True, int(which) - 1
        if verb is None:
            parts.append("%!(NOVERB)")
        elif verb == "%":
            parts.append("%")
        elif not 0 <= taken < len(values):
            parts.append(f"%!{verb}({'BADINDEX' if chosen else 'MISSING'})")
        else:
            parts.append(_formatted(verb, values[taken], flags, wide, precise))
            taken += 1
            length += len(parts[-1])
            if length > TEXT_MAX:
                raise ValueError(f"more than {TEXT_MAX} characters")
    parts.append(form[at:])
    if taken < len(values) and not chosen:
        extra = ", ".join(f"{type_name(v)}={text_of(v)}" for v in values[taken:])
        parts.append(f"%!(EXTRA {extra})")
    return "".join(parts)


def _formatted(verb: str, value: Any, flags: str, width: int | None, precision: int | None) -> str:
    if verb == "T":
        return _padded(type_name(value), flags, width)
    if isinstance(value, float) and verb in "vgGeEfF":
        text = float_text(value, {"v": "g", "F": "f"}.get(verb, verb), precision)
        return _padded(_signed(text, flags), flags, width, zeros=math.isfinite(value))
    if isinstance(value, int) and not isinstance(value, bool):
        digits = _integer(verb, value, flags, precision)
        if digits is not None:
            return _padded(digits, flags, width, zeros=precision is None)
    elif isinstance(value, bool):
        if verb in "tv":
            return _padded(text_of(value), flags, width)
    elif isinstance(value, str):
        shown = _string(verb, value, flags, precision)
        if shown is not None:
            return _padded(shown, flags, width, zeros="0" in flags)
    elif verb == "v" or (verb == "s" and isinstance(value, Moment | Span)):
        return _padded(text_of(value), flags, width)
    elif isinstance(value, list):
        inner = (_formatted(verb, one, flags, width, precision) for one in value)
        return f"[{' '.join(inner)}]"
    elif isinstance(value, dict):
        pairs = (
            f"{_formatted(verb, key, flags, width, precision)}:"
            f"{_formatted(verb, value[key], flags, width, precision)}"
            for key in sorted(value)
        )
        return f"map[{' '.join(pairs)}]"
    if value is None:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_name(value)}={text_of(value)})"


def _signed(text: str, flags: str) -> str:
    if text == "+Inf":
        return text
    if "+" in flags and text[0] != "-":
        return f"+{text}"
    return f" {text}" if " " in flags and text[0] != "-" else text


def _integer(verb: str, value: int, flags: str, precision: int | None) -> str | None:
    forms = {"d": "d", "v": "d", "x": "x", "X": "X", "o": "o", "b": "b"}
    if verb in forms:
        digits = format(abs(value), forms[verb]).rjust(precision or 0, "0")
        prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else ""
        return _signed(("-" if value < 0 else "") + prefix + digits, flags)
    if verb in "cqU":
        if not 0 <= value <= 0x10FFFF or 0xD800 <= value < 0xE000:
            value = 0xFFFD
        if verb == "U":
            return f"U+{value:04X}"
        return chr(value) if verb == "c" else f"'{chr(value)}'"
    return None


def _string(verb: str, value: str, flags: str, precision: int | None) -> str | None:
    if precision is not None and verb in "svqxX":
        value = value[:precision]
    if verb in "sv":
        return value
    if verb == "q":
        if "#" in flags and "`" not in value and value.isprintable():
            return f"`{value}`"
        return quoted(value, ascii_only="+" in flags)
    if verb in "xX":
        text = value.encode().hex(" ") if " " in flags else value.encode().hex()
        return text.upper() if verb == "X" else text
    return None


def _padded(text: str, flags: str, width: int | None, *, zeros: bool = False) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and zeros:
        sign = text[:1] if text[:1] in "+- " else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


_QUOTED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
           "\v": "\\v", '"': '\\"', "\\": "\\\\"}  # fmt: skip


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """Text in quotes, as `%q` and errors show it."""
    return '"' + "".join(_shown(char, ascii_only) for char in text) + '"'


def _shown(char: str, ascii_only: bool) -> str:
    if char in _QUOTED:
        return _QUOTED[char]
    if char.isprintable() and (char.isascii() or not ascii_only):
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquoted(text: str) -> str:
    """What text in quotes says, with the escapes of Go; `InvalidInput`."""
    inner = text[1:-1]
    if text[0] == "`" or "\\" not in inner:
        return inner
    # What `\x` and octal digits write are bytes, of which several may be one character.
    said, end = b"", 0
    for found in _ESCAPE.finditer(inner):
        said += inner[end : found.start()].encode() + _escaped(found)
        end = found.end()
    try:
        return (said + inner[end:].encode()).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{text[:60]} is not UTF-8") from error


def _escaped(found: re.Match[str]) -> bytes:
    simple, octal, byte, short, long, other = found.groups()
    if simple is not None:
        return _SIMPLE.get(simple, simple).encode()
    if other is not None:
        raise InvalidInput(f"unknown escape sequence \\{other}")
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    if octal or byte:
        if code > 0xFF:
            raise InvalidInput(f"escape sequence {found[0]} is no byte")
        return bytes([code])
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise InvalidInput(f"escape sequence {found[0]} is no character")
    return chr(code).encode()
