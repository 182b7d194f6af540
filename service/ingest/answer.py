"""What the sender is told."""

from dataclasses import dataclass, field

#: Rejected items that are named one by one; the count covers all.
NAMED_MAX = 100


@dataclass(frozen=True, slots=True)
class Rejected:
    """One item that was not taken: its index in the request, its name if it had one, and why."""

    index: int
    name: str
    reason: str


@dataclass(slots=True)
class Answer:
    """How many samples were kept, and which items were not.

    `retry_after` is the seconds until some of the rejected may pass, 0 if none ever will.
    """

    accepted: int = 0
    rejected: int = 0
    items: list[Rejected] = field(default_factory=list)
    retry_after: float = 0.0

    def reject(self, index: int, name: str, reason: str) -> None:
        """Note one rejected item."""
        self.rejected += 1
        if len(self.items) < NAMED_MAX:
            self.items.append(Rejected(index, name, reason))
