"""What became of samples."""

from dataclasses import dataclass

#: Rejected samples that are named one by one; the count covers all.
NAMED_MAX = 100


@dataclass(frozen=True, slots=True)
class Rejection:
    """A sample that the server refused for good; `timestamp` in Unix seconds."""

    name: str
    labels: dict[str, str]
    value: float
    timestamp: float
    reason: str


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What became of samples since the last result was given; `unsent` is what waits right now.

    `sent`: the server has them. `rejected`: the server refused them, `rejections` says which and
    why (100 at most). `dropped`: never sent, as the queue was full or the client closed. `unsent`:
    still in the queue, and lost if this is the result of `close`. `error`: why, in one sentence.
    """

    sent: int = 0
    rejected: int = 0
    dropped: int = 0
    unsent: int = 0
    rejections: tuple[Rejection, ...] = ()
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the server has every sample."""
        return not (self.rejected or self.dropped or self.unsent)
