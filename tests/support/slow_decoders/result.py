"""What a body holds, in a form that two decoders can be compared by."""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

#: Stands for "now" in `Row.t_ms`.
NOW = -(2**63)

Labels = tuple[tuple[str, str], ...]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_MODELS = ("anomaly_score", "expected", "expected_lower", "expected_upper")
_FORECASTS = ("forecast", "forecast_lower", "forecast_upper")


class Refused(Exception):
    """Nothing of the body can be kept."""


class Row(NamedTuple):
    """One sample: its item, sorted labels with the name, type, milliseconds, bits of the value."""

    item: int
    labels: Labels
    metric_type: str
    t_ms: int
    bits: int


@dataclass
class Read:
    """The samples of a body in order, which items were rejected, and how many texts left out."""

    rows: list[Row] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)
    ignored: int = 0

    def add(
        self, index: int, labels: Labels | None, metric_type: str, t_ms: int, bits: int
    ) -> None:
        """Keep a sample, or reject its item where it has no good labels."""
        if labels is None:
            self.rejected.add(index)
        else:
            self.rows.append(Row(index, labels, metric_type, t_ms, bits))


def bits_of(value: float) -> int:
    """The 64 bits of a double."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def series(name: str, labels: dict[str, str]) -> Labels | None:
    """Sorted labels with the name, without empty ones; None if a name or a label is not allowed."""
    if not _name(name, _LETTERS + "_:", 128):
        return None
    if any(name.endswith(":" + word) for word in (*_MODELS, *_FORECASTS)) or len(labels) > 30:
        return None
    for key, value in labels.items():
        if not _name(key, _LETTERS + "_", 128) or key == "__name__":
            return None
        if len(value.encode()) > 1024 or "\0" in value:
            return None
    pairs = [(key, value) for key, value in labels.items() if value]
    return tuple(sorted([*pairs, ("__name__", name)]))


def _name(text: str, first: str, longest: int) -> bool:
    return (
        0 < len(text) <= longest
        and text[0] in first
        and all(character in first + _DIGITS for character in text)
    )
