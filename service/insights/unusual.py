"""What is unusual about a series now, where it sits, what moved with it.

Pure functions over `Watched`; every figure they give was computed from stored samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.series import Series
from service.insights import words
from service.insights.reading import Watched

_SIGNIFICANT = 3.0  # robust standard deviations that count as a move
_MOVED = 0.1  # and the least relative change worth telling
_EXPLAINS = 0.6  # share of the deviation from which a label value explains it


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of unusual points that reaches (nearly) to the newest sample. Times in ms.

    `value` and `expected` are means over its unusual points; `expected` is None where no model
    wrote one. `ended` says that the newest sample is usual again.
    """

    since: int
    until: int
    points: int
    value: float
    expected: float | None
    ended: bool

    @property
    def share(self) -> float | None:
        """Relative deviation; None without an expectation to divide by."""
        return None if self.expected is None else words.relative(self.value, self.expected)

    @property
    def size(self) -> float:
        """For ranking: the relative deviation, 1 where none can be computed."""
        return abs(self.share) if self.share is not None else 1.0


def current_run(watched: Watched, threshold: float, now_ms: int) -> Run | None:
    """The unusual stretch that goes on now or ended within five steps; None if there is none."""
    t, v = watched.samples
    score = watched.on_samples(watched.score)
    hits = np.flatnonzero((score >= threshold) & np.isfinite(v))
    if not len(hits):
        return None
    tolerated = max(5 * watched.step_ms, 120_000)
    if now_ms - int(t[hits[-1]]) > tolerated:
        return None
    breaks = np.flatnonzero(np.diff(t[hits]) > tolerated)
    stretch = hits[breaks[-1] + 1 :] if len(breaks) else hits
    expected = watched.on_samples(watched.expected)[stretch]
    known = np.isfinite(expected)
    value = float(np.mean(v[stretch][known] if known.any() else v[stretch]))
    return Run(
        since=int(t[stretch[0]]),
        until=int(t[stretch[-1]]),
        points=len(stretch),
        value=value,
        expected=float(np.mean(expected[known])) if known.any() else None,
        ended=bool(stretch[-1] != np.flatnonzero(np.isfinite(v))[-1]),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    series: Series
    deviation: float
    share: float


def _parts(group: Sequence[Watched], since: int) -> list[_Part]:
    parts = []
    for w in group:
        late = (w.samples.t >= since) & np.isfinite(w.samples.v)
        expected = w.on_samples(w.expected)
        late &= np.isfinite(expected)
        if not late.any():
            continue
        value, usual = float(np.mean(w.samples.v[late])), float(np.mean(expected[late]))
        share = words.relative(value, usual)
        if share is not None:
            parts.append(_Part(w.series, value - usual, share))
    return parts


@dataclass(frozen=True, slots=True)
class Where:
    """Which label value holds a deviation. `label` is None where all series share it alike."""

    label: str | None
    value: str
    text: str
    share: float | None = None


def where(subject: Watched, run: Run, family: Sequence[Watched]) -> Where | None:
    """Which label value explains a run, among the series of the same metric.

    Looks at the finer series below the subject if there are at least two, else at its peers.
    """
    own = subject.series.tags
    finer = [w for w in family if own.items() < w.series.tags.items()]
    peers = [w for w in family if w.series.tags.keys() == own.keys() and w is not subject]
    group = finer if len(finer) >= 2 else [subject, *peers]
    parts = _parts(group, run.since)
    if len(parts) < 2 or run.share is None:
        return None
    direction = 1 if run.share > 0 else -1
    limit = max(_MOVED, 0.4 * abs(run.share))
    moved = [p for p in parts if p.share * direction >= limit]
    usual = [p for p in parts if p.share * direction < limit]
    if not moved:
        return None
    if not usual:
        return Where(None, "", f"all {words.count(len(parts), 'series', 'series')} alike")
    word = "rise" if direction > 0 else "drop"
    additive = len(finer) >= 2 and words.adds_up(subject.series.name)
    best = _explaining(parts, moved, direction) if additive else None
    if best is not None:
        label, value, share = best
        text = f"{label}={value} explains {words.percent(share)} of the {word}"
        return Where(label, value, text + _alike(moved, label), share)
    for label, value in sorted(moved[0].series.tags.items()):
        if own.get(label) == value and len(finer) >= 2:
            continue
        if all(p.series.label(label) == value for p in moved) and not any(
            p.series.label(label) == value for p in usual
        ):
            rest = len(usual)
            others = "the other one is" if rest == 1 else f"the other {rest} are"
            return Where(label, value, f"only {label}={value}; {others} as expected")
    text = f"{len(moved)} of {words.count(len(parts), 'series', 'series')}, mostly "
    worst = sorted(moved, key=lambda p: -abs(p.share))[:2]
    return Where(None, "", text + words.listing(words.place(p.series) for p in worst))


def _explaining(
    parts: list[_Part], moved: list[_Part], direction: int
) -> tuple[str, str, float] | None:
    total = sum(p.deviation for p in parts) * direction
    if total <= 0:
        return None
    best: tuple[str, str, float] | None = None
    for label, value in {pair for p in moved for pair in p.series.tags.items()}:
        inside = [p for p in parts if p.series.label(label) == value]
        share = sum(p.deviation for p in inside) * direction / total
        # A value that nearly every series has explains nothing.
        if len(inside) > 0.7 * len(parts) or share < _EXPLAINS:
            continue
        share = min(share, 1.0)
        if best is None or (share, label, value) > (best[2], best[0], best[1]):
            best = (label, value, share)
    return best


def _alike(moved: list[_Part], explained: str) -> str:
    for label in sorted({key for p in moved for key in p.series.tags} - {explained}):
        by_value: dict[str, list[float]] = {}
        for p in moved:
            by_value.setdefault(p.series.label(label), []).append(p.share)
        means = [float(np.mean(shares)) for shares in by_value.values()]
        if 2 <= len(means) <= 3 and max(means) - min(means) <= 0.3 * max(map(abs, means)):
            return f"; {words.listing(sorted(by_value))} alike"
    return ""


@dataclass(frozen=True, slots=True)
class Move:
    """Another series that left its course about then. `lead` is in ms, positive: earlier."""

    series: Series
    share: float
    lead: int
    strength: float

    @property
    def text(self) -> str:
        """“Buffer health ↓ 22 %”."""
        arrow = "↑" if self.share > 0 else "↓"
        size = (
            f"{words.change(self.share).removeprefix('×')}×"
            if self.share >= 2
            else words.percent(self.share)
        )
        return f"{words.metric_words(self.series.name)}{words.SPACE}{arrow}{words.SPACE}{size}"


def moved_with(subject: Watched, run: Run, others: Sequence[Watched]) -> list[Move]:
    """Series of other metrics that moved from half an hour before a run until now; surest first.

    A series whose labels contradict the subject's (another region, say) is left out, and one that
    has no label in common with it, unless either has none.
    """
    own = subject.series.tags
    found = []
    for other in others:
        tags = other.series.tags
        shared = own.keys() & tags.keys()
        if other.series.name == subject.series.name or any(own[k] != tags[k] for k in shared):
            continue
        if own and tags and not shared:
            continue
        move = _move(other, run, max(1_800_000, 10 * subject.step_ms))
        if move is not None:
            found.append(move)
    # Of one metric the series with the fewest labels speaks for the others.
    best: dict[str, Move] = {}
    for move in sorted(found, key=lambda m: (len(m.series.tags), -m.strength)):
        best.setdefault(move.series.name, move)
    return sorted(best.values(), key=lambda m: -m.strength)


def _move(other: Watched, run: Run, lead_ms: int) -> Move | None:
    t, v = other.samples
    expected = other.on_samples(other.expected)
    if np.isfinite(expected).sum() < 0.5 * len(t):
        expected = np.full(
            len(t), float(np.median(v[t < run.since])) if (t < run.since).any() else np.nan
        )
    rest = v - expected
    good = np.isfinite(rest)
    before, during = good & (t < run.since - lead_ms), good & (t >= run.since)
    if before.sum() < 12 or not during.any():
        return None
    base = rest[before]
    centre = float(np.median(base))
    spread = 1.4826 * float(np.median(np.abs(base - centre)))
    usual = float(np.mean(expected[during]))
    spread = max(spread, 0.01 * abs(usual), 1e-12)
    shift = float(np.median(rest[during])) - centre
    share = words.relative(usual + shift, usual)
    if share is None or abs(shift) < _SIGNIFICANT * spread or abs(share) < _MOVED:
        return None
    window = np.flatnonzero(good & (t >= run.since - lead_ms))
    off: NDArray[np.bool_] = (rest[window] - centre) * np.sign(shift) >= _SIGNIFICANT * spread
    lasting = off & np.append(off[1:], True)
    if lasting[0]:  # it was off before the half hour began: another story
        return None
    onset = int(t[window[int(np.argmax(lasting))]]) if lasting.any() else run.since
    return Move(other.series, share, run.since - onset, abs(shift) / spread)


def moves_text(moves: Sequence[Move], most: int = 3) -> str:
    """“Buffer health ↓ 22 %, Errors ↑ 9×, both 2 minutes earlier”."""
    told = list(moves[:most])
    if not told:
        return ""
    leads = [round(m.lead / 60_000) for m in told]
    if len(set(leads)) == 1:
        both = "" if len(told) == 1 else "both " if len(told) == 2 else "all "
        return f"{', '.join(m.text for m in told)}, {both}{_when(leads[0])}"
    return ", ".join(f"{m.text} ({_when(lead)})" for m, lead in zip(told, leads, strict=True))


def _when(minutes: int) -> str:
    if minutes == 0:
        return "at the same time"
    return f"{words.span(abs(minutes) * 60)} {'earlier' if minutes > 0 else 'later'}"
