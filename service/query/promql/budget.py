"""What a query may cost, and what it said on its way."""

import math
import time
from dataclasses import dataclass, field

from service.domain.errors import Unavailable, Unprocessable


class QueryTooDear(Unprocessable):
    """A query that would cost more than it may."""


class QueryTimeout(Unavailable):
    """A query that took longer than it may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one query. `points` are values held at once: series times steps."""

    samples: int = 50_000_000
    series: int = 100_000
    points: int = 20_000_000
    seconds: float = 120.0


@dataclass(slots=True, eq=False)
class Budget:
    """What is left of the bounds; asked before each piece of work."""

    limits: Limits = field(default_factory=Limits)
    _samples: int = 0
    _until: float = 0.0

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.limits.seconds

    def check(self) -> None:
        """`QueryTimeout` if the time is over."""
        if time.monotonic() > self._until:
            raise QueryTimeout(self.too_late)

    @property
    def too_late(self) -> str:
        """What a query is told whose time is over."""
        return (
            f"query timed out: it may take {self.limits.seconds:g} s; ask for less time, fewer "
            "series or larger steps"
        )

    def renewed(self) -> "Budget":
        """One for other work of the same query: the same time, nothing read yet."""
        other = Budget(self.limits)
        other._until = self._until
        return other

    def end(self) -> None:
        """Let the time be over: nobody waits for the answer any more."""
        self._until = -math.inf

    def read(self, series: int, samples: int) -> None:
        """So many series with so many samples are read; `QueryTooDear`, `QueryTimeout`."""
        self.check()
        if series > self.limits.series:
            raise QueryTooDear(
                f"a selector of the query accepts {series:,} series; {self.limits.series:,} are "
                "possible, so name more labels"
            )
        self._samples += samples
        if self._samples > self.limits.samples:
            raise QueryTooDear(
                "query processing would load too many samples into memory: over "
                f"{self.limits.samples:,}; ask for less time or fewer series"
            )

    def hold(self, series: int, steps: int) -> None:
        """So many values are about to be held; `QueryTooDear`, `QueryTimeout`."""
        self.check()
        if series * steps > self.limits.points:
            raise QueryTooDear(
                f"the query would hold {series:,} series at {steps:,} steps; "
                f"{self.limits.points:,} values are possible, so take larger steps or less time"
            )


@dataclass(slots=True)
class Notes:
    """Annotations of an answer, as Prometheus has them: each said once, in order."""

    warnings: dict[str, None] = field(default_factory=dict)
    infos: dict[str, None] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """Something is most likely wrong with the query or the data."""
        self.warnings[f"PromQL warning: {text}"] = None

    def inform(self, text: str) -> None:
        """Something may be wrong."""
        self.infos[f"PromQL info: {text}"] = None
