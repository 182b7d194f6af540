"""What a sample may look like. Each check answers with a sentence for the sender, or None."""

import re
from dataclasses import dataclass

from service.domain.clock import iso
from service.domain.series import DERIVED, NAME

NAME_MAX = 128
VALUE_MAX = 1024
LABELS_MAX = 30
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def check_name(name: str) -> str | None:
    """What is wrong with a metric's name."""
    if not name:
        return "name is empty"
    if len(name) > NAME_MAX:
        return f"name has {len(name)} characters; {NAME_MAX} are allowed"
    if not _METRIC.fullmatch(name):
        return (
            f"name {name!r} may hold letters, digits, _ and :, and starts with no digit "
            f"(try {re.sub('[^a-zA-Z0-9_:]', '_', name)!r})"
        )
    if name.endswith(DERIVED):
        return f"name {name!r} ends with what only models write"
    return None


def check_labels(labels: dict[str, str]) -> str | None:
    """What is wrong with the labels."""
    if len(labels) > LABELS_MAX:
        return f"{len(labels)} labels; {LABELS_MAX} are allowed"
    for key, value in labels.items():
        if len(key) > NAME_MAX:
            return f"label name {key[:20]!r}… has {len(key)} characters; {NAME_MAX} are allowed"
        if not _LABEL.fullmatch(key):
            return f"label name {key!r} may hold letters, digits and _, and starts with no digit"
        if key == NAME:
            return f"label {NAME} is reserved for the metric's name"
        # A character has up to four bytes.
        if len(value) > VALUE_MAX // 4 and len(value.encode()) > VALUE_MAX:
            return f"label {key} has a value of over {VALUE_MAX} bytes"
        if "\0" in value:
            return f"label {key} holds a NUL character"
    return None


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """From when to when samples are taken, in milliseconds."""

    start_ms: int
    end_ms: int

    def reason(self, t_ms: int) -> str:
        """Why a timestamp outside the window is refused."""
        if not -62_135_596_800_000 <= t_ms <= 253_402_300_799_999:
            return f"timestamp {t_ms / 1000:.0f} is no time in seconds (are these milliseconds?)"
        at = iso(t_ms / 1000)
        if t_ms < self.start_ms:
            return f"timestamp {at} is too old; the oldest taken is {iso(self.start_ms / 1000)}"
        return f"timestamp {at} is in the future; the latest is {iso(self.end_ms / 1000)}"
