"""The rule condition `peers`: members of a group against each other, over the samples in memory.

Series of one metric, with equal labels where the rule says so, are a group. They are laid on one
grid and compared by `models.peers`; who is unlike the others breaks the rule, and its expectation
names them and what they do.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models.base import Array
from models.peers import ASPECTS, Peers, judge
from service.detection.counters import rates
from service.domain.series import NAME, MetricType, Series
from service.rules.sight import UNKNOWN, Sight, Verdict, about, finite, is_stale
from service.storage.columns import Columns

#: Windows before the newest one in which members' usual places are learned.
PAST_WINDOWS = 8
#: Cells of a window, if samples come that often; always even.
CELLS_MAX, CELLS_MIN = 24, 2
#: Peers that an expectation names.
NAMED = 2


class PeerGroups:
    """Series of one metric with equal labels `by`, compared over a window.

    With a `threshold` only those count whose score is so high.
    """

    def __init__(
        self,
        window_seconds: float,
        threshold: float,
        by: Sequence[str],
        sight: Sight,
        found: Sequence[Series],
    ) -> None:
        groups: dict[tuple[str, ...], list[Series]] = {}
        for series in found:
            labels = dict(series.labels)
            key = (labels.get(NAME, ""), *(labels.get(label, "") for label in by))
            groups.setdefault(key, []).append(series)
        self._said: dict[int, Verdict] = {}
        for group in groups.values():
            verdicts = zip(group, _judged(window_seconds, threshold, sight, group), strict=True)
            self._said |= {series.id: verdict for series, verdict in verdicts}

    def judge(self, series: Series) -> Verdict:
        """Whether it is unlike its peers.

        Nothing is known of a series without a sample in the newer half of the window. One with too
        few peers is not unlike them.
        """
        return self._said[series.id]


def _judged(
    window_seconds: float, threshold: float, sight: Sight, group: list[Series]
) -> list[Verdict]:
    now_ms = sight.now_ms
    window_ms = max(CELLS_MIN, round(window_seconds * 1000))
    start = now_ms - (PAST_WINDOWS + 1) * window_ms + 1
    samples = [_samples(sight.window(s.id, start, now_ms), s) for s in group]
    cells = _cells(samples, window_ms)
    peers = judge(_laid(samples, now_ms, window_ms // cells, (PAST_WINDOWS + 1) * cells), cells)
    active = peers.unlike & (peers.score >= threshold)
    crowd = _Crowd(group, peers) if active.any() else None
    said: list[Verdict] = []
    for i in range(len(group)):
        if not peers.known[i]:
            said.append(UNKNOWN)
            continue
        text = crowd.expectation(i) if active[i] and crowd is not None else ""
        last = sight.last(group[i].id, now_ms)
        value = None if last is None else finite(last[1])
        said.append(Verdict(bool(active[i]), value, text))
    return said


def _samples(columns: Columns, series: Series) -> Columns:
    """What is compared: of a counter its rate; nothing of a series that its sender has ended."""
    if len(columns.v) and is_stale(float(columns.v[-1])):
        return Columns.empty()
    return rates(columns) if series.metric_type is MetricType.COUNTER else columns


def _cells(samples: Iterable[Columns], window_ms: int) -> int:
    """Cells of a window: about one a sample of the member in the middle."""
    steps = [(int(c.t[-1]) - int(c.t[0])) / (len(c.t) - 1) for c in samples if len(c.t) > 1]
    if not steps:
        return CELLS_MIN
    fitting = int(window_ms / max(float(np.median(steps)), 1.0) * 1.01) // 2 * 2
    return max(CELLS_MIN, min(CELLS_MAX, fitting))


def _laid(samples: Sequence[Columns], now_ms: int, cell_ms: int, count: int) -> Array:
    """Mean of each cell (members, count), the newest last; NaN where there is no sample."""
    m = len(samples)
    lengths = [len(c.t) for c in samples]
    t = np.concatenate([c.t for c in samples])
    v = np.concatenate([c.v for c in samples])
    member = np.repeat(np.arange(m), lengths)
    back = (now_ms - t) // max(cell_ms, 1)
    good = np.isfinite(v) & (back < count) & (back >= 0)
    at = member[good] * count + (count - 1 - back[good])
    number = np.bincount(at, minlength=m * count)
    # shares, for the sum of the largest floats is none
    total = np.bincount(at, weights=v[good] / number[at], minlength=m * count)
    return np.where(number > 0, total, np.nan).reshape(m, count)


class _Crowd:
    """The members of a group that are together."""

    def __init__(self, group: Sequence[Series], peers: Peers) -> None:
        self._peers = peers
        self._members = np.flatnonzero(peers.majority)
        labels = _telling(group)
        named = [_place(group[int(i)], labels) for i in self._members]
        self._names = sorted(dict.fromkeys(named))
        levels = peers.level[self._members]
        self._low, self._high = float(levels.min()), float(levels.max())
        low, high = _typical(self._low), _typical(self._high)
        self._range = f"at {low}" if low == high else f"between {low} and {high}"

    def expectation(self, member: int) -> str:
        """Completes “it is 0.31, …” for a member that is not among them."""
        count = len(self._members)
        names = ", ".join(self._names[:NAMED]) + (", …" if len(self._names) > NAMED else "")
        level, expected = float(self._peers.level[member]), float(self._peers.expected[member])
        inside = self._low <= level <= self._high
        if inside and ASPECTS[self._peers.aspect[member]] == "roughness":
            more = "more" if self._peers.above[member] else "less"
            return f"it varies {more} than its {count} peers do ({names})"
        if inside:
            usual = _typical(expected)
            return f"usually {usual} when its {count} peers are {self._range} ({names})"
        return f"its {count} peers are {self._range} ({names})"


def _telling(group: Sequence[Series]) -> list[str]:
    """The labels in which members differ, which is what they are known by."""
    values: dict[str, set[str]] = {}
    tags: list[Mapping[str, str]] = [series.tags for series in group]
    for label in sorted({label for own in tags for label in own}):
        values[label] = {own.get(label, "") for own in tags}
    return [label for label, found in values.items() if len(found) > 1]


def _place(series: Series, labels: Sequence[str]) -> str:
    tags = series.tags
    return " ".join(tags[label] for label in labels if label in tags) or str(series)


def _typical(value: float) -> str:
    """A level, which is no single sample: two digits after the first."""
    return about(float(f"{value:.3g}"))
