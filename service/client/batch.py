"""The queue: what waits, what is on its way, and what became of the rest. Does no I/O.

Samples are numbered in the order of recording. One batch at a time is on its way; if it comes back
it goes to the front, so the oldest are sent first and, when the queue is full, dropped first.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from service.client.results import NAMED_MAX, FlushResult, Rejection
from service.client.samples import Sample

FULL = "the queue was full"


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples on their way; `first` is the number of the first."""

    first: int
    samples: list[Sample]


@dataclass(slots=True)
class Tally:
    """Counts since the last result was given, or of the client's life."""

    sent: int = 0
    rejected: int = 0
    dropped: int = 0


class Queue:
    """Bounded; of two samples too many the older is dropped. The caller holds the lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Sample] = deque()
        self._going: Batch | None = None
        self.recorded = 0
        self.total, self._since = Tally(), Tally()
        self._rejections: list[Rejection] = []
        self._untold_drops: Counter[str] = Counter()
        self._untold_rejections: list[Rejection] = []
        self._untold_rejected = 0
        self.error: str | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unsent(self) -> int:
        """Samples that wait or are on their way."""
        return len(self._waiting) + (len(self._going.samples) if self._going else 0)

    @property
    def busy(self) -> bool:
        """Whether a batch is on its way."""
        return self._going is not None

    @property
    def settled(self) -> int:
        """The number of the oldest sample of which nothing is known yet."""
        return self._going.first if self._going else self.recorded - len(self._waiting)

    def put(self, sample: Sample) -> None:
        """Add one sample; the oldest is dropped if there is no room."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.drop(1, FULL)
        self._waiting.append(sample)
        self.recorded += 1

    def take(self, most: int) -> Batch:
        """The oldest samples, now on their way."""
        first = self.recorded - len(self._waiting)
        count = min(most, len(self._waiting))
        self._going = Batch(first, [self._waiting.popleft() for _ in range(count)])
        return self._going

    def put_back(self, batch: Batch) -> None:
        """The batch was not taken; it is the oldest again, as far as there is room."""
        self._going = None
        room = max(0, self._most - len(self._waiting))
        kept = batch.samples[max(0, len(batch.samples) - room) :]
        self._waiting.extendleft(reversed(kept))
        self.drop(len(batch.samples) - len(kept), FULL)

    def recall(self) -> None:
        """Put back what is on its way, if anything is."""
        if self._going is not None:
            self.put_back(self._going)

    def settle(self, batch: Batch, refused: int, rejections: Sequence[Rejection]) -> None:
        """The server has the batch but for `refused` samples."""
        self._going = None
        for tally in (self.total, self._since):
            tally.sent += len(batch.samples) - refused
            tally.rejected += refused
        self._untold_rejected += refused
        for told in (self._rejections, self._untold_rejections):
            told.extend(rejections[: NAMED_MAX - len(told)])

    def drop(self, count: int, reason: str) -> None:
        """Count samples that are lost."""
        if count:
            self.total.dropped += count
            self._since.dropped += count
            self._untold_drops[reason] += count

    def untold(self) -> tuple[dict[str, int], int, list[Rejection]]:
        """Drops by reason, the number of rejections, and the first of them, since the last call."""
        drops, self._untold_drops = dict(self._untold_drops), Counter()
        rejected, self._untold_rejected = self._untold_rejected, 0
        rejections, self._untold_rejections = self._untold_rejections, []
        return drops, rejected, rejections

    def result(self) -> FlushResult:
        """What became of samples since the last call."""
        since, self._since = self._since, Tally()
        rejections, self._rejections = tuple(self._rejections), []
        reason = None
        if self.unsent:
            reason = self.error or "no answer came in time"
        elif since.rejected:
            reason = rejections[0].reason if rejections else "the server refused samples"
        elif since.dropped:
            reason = f"{FULL}, or the client closed" if self.error is None else self.error
        return FlushResult(
            since.sent, since.rejected, since.dropped, self.unsent, rejections, reason
        )
