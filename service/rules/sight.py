"""What a rule sees of the head at one moment, and what it says of a series."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.domain.series import Series
from service.storage.columns import Columns

#: Bits of the NaN with which a sender ends a series.
STALE_MARKER = struct.pack("<Q", 0x7FF0000000000002)


class HeadReader(Protocol):
    """What judging needs of the head."""

    def series(self, tenant: str) -> Mapping[int, Series]:
        """Every series of a tenant, derived ones too."""
        ...

    def window(self, tenant: str, series: int, start_ms: int, end_ms: int) -> Columns:
        """Samples with `start_ms <= t <= end_ms`."""
        ...

    def last(self, tenant: str, series: int, at_ms: int) -> tuple[int, float] | None:
        """The newest sample with t <= `at_ms`."""
        ...


class Verdict(NamedTuple):
    """What a rule says of one series: see `service.rules.evaluator.Judgement`."""

    active: bool | None
    value: float | None = None
    expectation: str = ""
    held: str = ""
    note: str = ""


#: There is no sample that is young enough.
UNKNOWN = Verdict(None)


@dataclass(frozen=True, slots=True)
class Sight:
    """The head of one tenant as it is at `now_ms`; a sample older than `lookback_ms` is none."""

    tenant: str
    head: HeadReader
    known: Mapping[int, Series]
    now_ms: int
    lookback_ms: int

    def derived(self, series: Series, suffix: str) -> int | None:
        """The id of what models write about a series, None where they have written nothing."""
        derived = series.derived(suffix).id
        return derived if derived in self.known else None

    def last(self, series: int, at_ms: int) -> tuple[int, float] | None:
        """The newest sample with t <= `at_ms`."""
        return self.head.last(self.tenant, series, at_ms)

    def window(self, series: int, start_ms: int, end_ms: int) -> Columns:
        """Samples with `start_ms <= t <= end_ms`."""
        return self.head.window(self.tenant, series, start_ms, end_ms)

    def young(self, series: int | None) -> tuple[int, float] | None:
        """The newest sample, None if it no longer counts."""
        if series is None:
            return None
        last = self.last(series, self.now_ms)
        if last is None or self.now_ms - last[0] >= self.lookback_ms or is_stale(last[1]):
            return None
        return last


def is_stale(value: float) -> bool:
    """Whether it is the NaN with which a Prometheus says that a series has ended.

    Then nothing is known of it any more, which is not the same as being well.
    """
    return value != value and struct.pack("<d", value) == STALE_MARKER


def finite(value: float) -> float | None:
    """The value, None for what is no number."""
    return value if math.isfinite(value) else None


def about(value: float) -> str:
    """A number as people read it, with about four digits."""
    size = abs(value)
    if 1000 <= size < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size >= 1e-4 else f"{value:.3g}"
