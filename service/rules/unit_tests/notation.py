"""How unit tests write series: `m{a="b"}` with `1 2+3x4 _x2 stale`."""

import math
import re
from functools import lru_cache

import numpy as np

from service.domain.errors import InvalidInput
from service.domain.series import NAME, LabelPairs
from service.query.promql.vectors import STALE_BITS, Array, Flags
from service.rules.go_format import unquoted

#: Values that one series may have.
VALUES_MAX = 10_000_000

_NAME = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*")
_LABEL = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*")
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|`[^`]*`', re.DOTALL)
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:inf|nan)(?![a-zA-Z0-9_:])"
_ITEM = re.compile(
    rf"(?P<blank>_)(?:x(?P<blanks>\d+))?"
    rf"|(?P<stale>stale)"
    rf"|(?P<value>[-+]?(?:{_NUMBER}))(?:(?P<step>[-+](?:{_NUMBER}))?x(?P<times>\d+))?",
    re.ASCII,
)
_OCTAL = re.compile(r"0[0-7]+")
_SPACE = re.compile(r"\s*")


@lru_cache(maxsize=20_000)
def labels_of(text: str) -> LabelPairs:
    """The labels that `name{a="b"}` writes, those with an empty value left out; `InvalidInput`."""
    labels, end = _labels(text)
    if text[end:].strip():
        raise InvalidInput(f"unexpected {text[end:].strip()[:40]!r} after the labels of {text!r}")
    return labels


def _labels(text: str) -> tuple[LabelPairs, int]:
    found = _NAME.match(text)
    name, at = (found[1] or "", found.end()) if found is not None else ("", 0)
    labels = {NAME: name} if name else {}
    if text[at : at + 1] != "{":
        if not name and text.strip():
            raise InvalidInput(f"{text[:80]!r} begins with neither a name nor {{")
        return _pairs(labels), at
    at += 1
    while text[at:].lstrip()[:1] != "}":
        at = _label(text, at, labels)
        rest = text[at:].lstrip()
        if rest[:1] == ",":
            at = len(text) - len(rest) + 1
        elif rest[:1] != "}":
            raise InvalidInput(f"expected , or }} in {text[:80]!r} before {rest[:20]!r}")
    return _pairs(labels), text.index("}", at) + 1


def _label(text: str, at: int, labels: dict[str, str]) -> int:
    """One label from `at` on; where it ends."""
    found = _LABEL.match(text, at)
    if found is None:
        start = at + len(text[at:]) - len(text[at:].lstrip())
        quoted = _STRING.match(text, start)
        if quoted is None:
            raise InvalidInput(f'expected a label such as a="b" in {text[:80]!r}')
        name, at = unquoted(quoted[0]), quoted.end()
        rest = text[at:].lstrip()
        if rest[:1] != "=":  # a metric's name in quotes
            if NAME in labels:
                raise InvalidInput(f"{text[:80]!r} names the metric twice")
            labels[NAME] = name
            return at
        at = len(text) - len(rest[1:].lstrip())
    else:
        name, at = found[1], found.end()
    value = _STRING.match(text, at)
    if value is None:
        raise InvalidInput(f"expected text in quotes as the value of {name!r} in {text[:80]!r}")
    labels[name] = unquoted(value[0])
    return value.end()


def _pairs(labels: dict[str, str]) -> LabelPairs:
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def values_of(text: str) -> tuple[Array, Flags]:
    """Values (n,) of a series, one an interval, and which of them are there; `InvalidInput`."""
    values: list[Array] = []
    there: list[Flags] = []
    count, at, end = 0, 0, len(text.rstrip())
    while at < end:
        space = _SPACE.match(text, at)
        begin = space.end() if space is not None else at
        found = _ITEM.match(text, begin)
        if found is None or (found.end() < len(text) and not text[found.end()].isspace()):
            raise InvalidInput(_reason(text, begin))
        at = found.end()
        if found["blank"] is not None:
            number = _times(found["blanks"] or "1")
            count = _counted(count + number)
            values.append(np.zeros(number))
            there.append(np.zeros(number, np.bool_))
            continue
        number = _times(found["times"] or "0") + 1
        count = _counted(count + number)
        values.append(_run(found, number))
        there.append(np.ones(number, np.bool_))
    if not values:
        return np.empty(0), np.empty(0, np.bool_)
    return np.concatenate(values), np.concatenate(there)


def _run(found: re.Match[str], number: int) -> Array:
    if found["stale"] is not None:
        return np.full(number, np.int64(STALE_BITS)).view(np.float64)
    run = np.full(number, _float(found["value"]))
    if found["step"] is not None:
        run[1:] = _float(found["step"])
        # One addition after the other, as Prometheus does it, roundings and all.
        with np.errstate(all="ignore"):
            run = np.cumsum(run)
    return run


def _float(text: str) -> float:
    sign, digits = (-1.0, text[1:]) if text[0] == "-" else (1.0, text.lstrip("+"))
    if digits.lower() == "nan":
        return math.nan
    # As Prometheus reads numbers: with a leading zero they are octal, if they can be.
    return sign * (float(int(digits, 8)) if _OCTAL.fullmatch(digits) else float(digits))


def _times(text: str) -> int:
    """How often; of more digits than are possible, too often."""
    return int(text) if len(text) <= len(str(VALUES_MAX)) else VALUES_MAX + 1


def _counted(count: int) -> int:
    if count > VALUES_MAX:
        raise InvalidInput(f"a series may have {VALUES_MAX:,} values")
    return count


def _reason(text: str, at: int) -> str:
    word = text[at:].split(maxsplit=1)[0]
    if word.startswith("{{"):
        return "native histograms ({{…}}) are not supported in series values"
    return (
        f"unexpected {word[:40]!r} in series values, expected a number, _, stale or such as 1+2x3"
    )
