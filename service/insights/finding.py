"""One thing worth knowing about a tenant's metrics."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.rules import Severity


class Kind(StrEnum):
    """What a finding is about."""

    UNUSUAL = "unusual"
    TOGETHER = "together"
    AHEAD = "ahead"
    SILENT = "silent"
    CHANGED = "changed"
    NEW_LEVEL = "new_level"
    TREND = "trend"
    NOISY_RULE = "noisy_rule"
    MODEL_FAILED = "model_failed"
    LEARNING = "learning"
    ALERTS_FULL = "alerts_full"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth knowing. `since` is Unix seconds; `series` are ids of 16 hex digits.

    `size` orders findings of the same severity: larger first.
    """

    kind: Kind
    severity: Severity
    title: str
    text: str
    series: tuple[str, ...] = ()
    since: float | None = None
    evidence: dict[str, object] = field(default_factory=dict)
    size: float = 0.0
    about: str = ""

    @property
    def id(self) -> str:
        """The same for as long as it is about the same thing."""
        text = "\x1f".join((self.kind, self.about or "\x1e".join(self.series)))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def clearest(found: Iterable[Finding], most: int) -> list[Finding]:
    """Of findings about the same thing the largest speaks for the others; at most `most` of all."""
    best: dict[str, Finding] = {}
    for finding in sorted(found, key=lambda f: -f.size):
        best.setdefault(finding.about, finding)
    return list(best.values())[:most]
