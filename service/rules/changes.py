"""Whether a series lately settled at another level, over the samples that a worker has in memory.

Looking through the memory of one series takes some milliseconds, so each is looked at once in a
while, those that waited longest first, and what was found is remembered in between.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.changepoint import ChangePoint, latest
from service.detection.counters import rates
from service.domain.clock import iso
from service.domain.series import MetricType, Series
from service.rules.sight import UNKNOWN, Sight, Verdict, about, finite, is_stale

#: Newest samples that are looked at.
ROWS = 4096
#: Series that one evaluation of a rule looks at anew.
AT_ONCE = 200
#: A series is looked at so many times in the window of a rule, and not more often than this.
LOOKS, EVERY_MS = 20, 60_000


@dataclass(frozen=True, slots=True)
class _Seen:
    """The newest change of level in memory at the time `at_ms`, when `newest_ms` was the newest
    sample."""

    at_ms: int
    newest_ms: int
    change: ChangePoint | None


@dataclass(slots=True)
class ChangesSeen:
    """The newest change of level of each series, by tenant and id.

    `at_once` are the series that one evaluation looks at anew: the others have their turn at the
    next ones. `check` is asked before each; it may raise.
    """

    at_once: int = AT_ONCE
    check: Callable[[], None] = lambda: None
    _known: dict[str, dict[int, _Seen]] = field(default_factory=dict)

    def look(self, sight: Sight, chosen: Sequence[Series], every_ms: int) -> None:
        """Look at those of the series anew that have new samples and have waited long enough."""
        seen = self._known.setdefault(sight.tenant, {})
        if len(seen) > len(sight.known):
            self._known[sight.tenant] = seen = {i: s for i, s in seen.items() if i in sight.known}
        due: list[tuple[int, int, Series]] = []
        for series in chosen:
            before = seen.get(series.id)
            if before is not None and 0 <= sight.now_ms - before.at_ms < every_ms:
                continue
            last = sight.last(series.id, sight.now_ms)
            if last is not None and (before is None or last[0] != before.newest_ms):
                due.append((0 if before is None else before.at_ms, last[0], series))
        due.sort(key=lambda waiting: waiting[0])
        for _, newest_ms, series in due[: self.at_once]:
            self.check()
            samples = sight.window(series.id, 0, sight.now_ms)
            if series.metric_type is MetricType.COUNTER:
                samples = rates(samples)
            change = latest(samples.t, samples.v, 0, ROWS)
            seen[series.id] = _Seen(sight.now_ms, newest_ms, change)

    def of(self, tenant: str, series: Series) -> _Seen | None:
        """What was found the last time, None of a series that was never looked at."""
        return self._known.get(tenant, {}).get(series.id)

    def forget(self, tenant: str) -> None:
        """A tenant is judged elsewhere now."""
        self._known.pop(tenant, None)


class Changes:
    """A look at one moment: did the level change within the window?"""

    def __init__(self, window_seconds: float, sight: Sight, seen: ChangesSeen) -> None:
        self._sight, self._seen = sight, seen
        self._window_ms = round(window_seconds * 1000)

    def prepare(self, chosen: Sequence[Series]) -> None:
        """Look at some of the series anew."""
        self._seen.look(self._sight, chosen, max(EVERY_MS, self._window_ms // LOOKS))

    def judge(self, series: Series) -> Verdict:
        """Unknown of a series that was silent all the window, or that nobody has looked at yet."""
        last = self._sight.last(series.id, self._sight.now_ms)
        seen = self._seen.of(self._sight.tenant, series)
        if last is None or seen is None or is_stale(last[1]):
            return UNKNOWN
        now_ms, value = self._sight.now_ms, finite(last[1])
        if now_ms - last[0] > max(self._window_ms, self._sight.lookback_ms):
            return UNKNOWN
        change = seen.change
        if change is None or now_ms - change.t_ms > self._window_ms:
            return Verdict(False, value)
        since = iso(math.floor(change.t_ms / 1000))
        each = " a second" if series.metric_type is MetricType.COUNTER else ""
        return Verdict(
            True,
            value,
            f"at a new level, {about(change.after)}{each} instead of {about(change.before)} "
            f"since {since}",
        )
