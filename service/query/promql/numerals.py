"""Floats as Prometheus reads and writes them, which is as Go does: with the fewest digits."""

import math
import re
from decimal import Decimal

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_HEXADECIMAL = re.compile(
    r"[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[+-]?[0-9]+", re.IGNORECASE
)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)


def fixed(value: float) -> str:
    """Without an exponent: `0.00001`, `100000000000000000000000`, `-0`, `+Inf`, `NaN`."""
    if not math.isfinite(value):
        return _special(value)
    text = repr(value)
    return (format(Decimal(text), "f") if "e" in text else text).removesuffix(".0")


def general(value: float) -> str:
    """With an exponent where it is below -4 or above 5: `0.001`, `1e-05`, `1.5e+06`."""
    if not math.isfinite(value):
        return _special(value)
    text = repr(value)
    if "e" in text or abs(value) < 1e6:  # from 16 on Python writes exponents too
        return text.removesuffix(".0")
    number = Decimal(text).normalize()
    sign, digits, _ = number.as_tuple()
    head, tail = str(digits[0]), "".join(map(str, digits[1:]))
    return f"{'-' if sign else ''}{head}{'.' if tail else ''}{tail}e+{number.adjusted():02}"


def read(text: str) -> float | None:
    """The number that a text writes, as `strconv.ParseFloat` reads it; None if it is none."""
    if _INFINITE.fullmatch(text):
        return float(text)
    if text.lower() == "nan":
        return math.nan
    try:
        if _DECIMAL.fullmatch(text):
            value = float(text)
        elif _HEXADECIMAL.fullmatch(text):
            value = float.fromhex(text)
        else:
            return None
    except OverflowError:
        return None
    return None if math.isinf(value) else value


def in_open_metrics(value: float) -> str:
    """The number as labels such as `le` and `quantile` have it: a whole one with `.0` behind it."""
    text = general(value) if value else "0"
    return text if any(c in text for c in ".eNI") else f"{text}.0"


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
