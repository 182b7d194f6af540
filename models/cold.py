"""A series without a model of its own: limits around what there is, in the shape that peers have.

Rows are judged one by one, each by the rows before it: how far it lies from their median, against
how far they do themselves. Ranks say how rare that is, and beyond the largest tenth a Pareto tail
goes on, whose index is Hill's, shrunken, as in `models.calibration`. So a few rows say little, and
heavy tails are not taken for anomalies. Peers, series of the same metric that have models, lend
the course of their expectation and the width of their bands.

Works from about ten rows on, with peers from about five. Sees values out of their range and
sudden moves; blind to whatever comes slowly, and to rhythms that no peer has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.base import Array, Integers

#: Rows before a row that have a say: older ones are another hour's normal.
ROWS = 60
#: The largest deviations, by this share, are the tail. Its index, a little heavier than where there
#: is more data, and with how many of them the data must argue against it.
TAIL, INDEX, INDEX_ROWS = 0.1, 0.4, 10.0
#: No deviation counts for more, in the usual excesses: it may be an anomaly.
FREAK = 10.0
#: Variance of a median against the mean's.
MEDIAN = 1.57
#: What peers know of the spread counts as much as so many rows.
PEER_ROWS = 20.0
#: Peers that make a profile, at least and at most.
PEERS_MIN, PEERS_MAX = 3, 16
#: Bands hold all but this share. Of a normal distribution, deviations that leave out as much, and
#: the tail.
OUTSIDE, OUTSIDE_Z, TAIL_Z = 0.01, 2.5758, 1.6449
#: Smaller differences, against the largest of the rows before, are none.
DUST = 1e-9
LARGEST_SCORE = 1.0 - 1e-12
_DAY_MS = 86_400_000
#: So many windows are copied one by one, which is quicker then.
_FEW = 8


class Limits(NamedTuple):
    """What is said about rows (k,): `score` in [0, 1) is 1 - p, and a band that holds 99 %."""

    score: Array
    expected: Array
    lower: Array
    upper: Array


class Shape(NamedTuple):
    """What peers do at the times of a window (k, w) and of the row itself (k,), as a ratio to
    their level; `width` (k,) is the deviation that their bands allow, as a ratio too.

    NaN where nothing is known; then the rows stand alone.
    """

    before: Array
    now: Array
    width: Array


def judge(before: Array, seen: Array, shape: Shape | None = None) -> Limits:
    """Each of `seen` (k,) by the rows `before` it (k, w), NaN where missing, of which two count.

    With a `shape` both are read relative to what peers do at those times. Missing rows score 0.
    """
    course, width = np.ones(len(seen)), np.full(len(seen), np.nan)
    if shape is not None:
        led = (shape.now > 0) & np.isfinite(shape.width)
        known = np.isfinite(before)
        led &= 2 * (known & (shape.before > 0)).sum(axis=1) >= known.sum(axis=1)
        course, width = np.where(led, shape.now, 1.0), np.where(led, shape.width, np.nan)
        with np.errstate(over="ignore"):
            before = before / np.where(led[:, None], shape.before, 1.0)
            seen = seen / course
    finite = np.isfinite(before)
    rows = finite.sum(axis=1)
    unit = np.where(finite, np.abs(before), 0.0).max(axis=1, initial=0.0)
    unit[unit == 0] = 1.0
    ordered = np.sort(np.where(finite, before / unit[:, None], np.nan), axis=1)  # NaN comes last
    with np.errstate(over="ignore"):
        at = np.clip(seen / unit, -1e15, 1e15)
    middle = _median(ordered, rows)
    away = np.sort(np.abs(ordered - middle[:, None]), axis=1)
    share, start, index = _tail(away, rows)
    lent = np.where(np.isfinite(width), PEER_ROWS, 0.0)
    usual = np.where(lent > 0, np.nan_to_num(width) * np.abs(middle), 0.0) * TAIL_Z
    start = np.sqrt((rows * start**2 + lent * usual**2) / np.maximum(rows + lent, 1.0))
    start = start * np.sqrt(1.0 + MEDIAN / np.maximum(rows, 1))
    off = np.abs(at - middle)
    off[off <= DUST] = 0.0
    # nearly all rows are equal: there is no scale, and ranks are all that is known
    spread = start > DUST
    as_far = (away >= off[:, None] - DUST).sum(axis=1)  # NaN is not
    rank = np.where(off > 0, (1.0 + as_far) / (rows + 1.0), 1.0)
    far = np.maximum(off, np.where(spread, start, 1.0)) / np.where(spread, start, 1.0)
    beyond = share * np.power(far, -1.0 / index)
    p = np.where(spread, np.where(far > 1.0, beyond, np.maximum(rank, share)), rank)
    judged = np.isfinite(seen) & (rows >= 2)
    score = np.where(judged, np.clip(1.0 - p, 0.0, LARGEST_SCORE), 0.0)
    reach = start * np.power(share / OUTSIDE, index)
    last = np.maximum(rows - 1, 0)[:, None]
    lowest, highest = ordered[:, 0], np.take_along_axis(ordered, last, axis=1)[:, 0]
    lower = np.where(spread, middle - reach, lowest)
    upper = np.where(spread, middle + reach, highest)
    lower = np.where(lowest >= 0, np.maximum(lower, 0.0), lower)
    back = unit * course
    with np.errstate(over="ignore"):
        return Limits(score, *(_bounded(part * back) for part in (middle, lower, upper)))


def windows(values: Array, new: int) -> Array:
    """The `ROWS` values before each of the newest `new` of (n,): (new, ROWS), NaN where none is."""
    out = np.full((new, ROWS), np.nan)
    if new > _FEW:
        padded = np.concatenate((out[0], values[-ROWS - new :][:-1]))
        every = np.lib.stride_tricks.sliding_window_view(padded, ROWS)
        return np.asarray(every[len(every) - new :])
    for row, end in enumerate(range(len(values) - new, len(values))):
        before = values[max(0, end - ROWS) : end]
        out[row, ROWS - len(before) :] = before
    return out


class Expectation(NamedTuple):
    """What a model said about a peer: (n,) each, times ascending in milliseconds."""

    t_ms: Integers
    expected: Array
    lower: Array
    upper: Array


class Profile:
    """The course of peers: at each step of time the median of what is expected of them, each
    relative to its own level of the last day.

    Peers whose expectation is not above 0 throughout, or too few of them, say nothing.
    """

    def __init__(self, peers: Sequence[Expectation]) -> None:
        usable = [_last_day(peer) for peer in peers[:PEERS_MAX] if len(peer.t_ms)]
        usable = [peer for peer in usable if len(peer.t_ms) and (peer.expected > 0).all()]
        self.peers = len(usable)
        if self.peers < PEERS_MIN:
            return
        steps = [float(np.median(np.diff(peer.t_ms))) for peer in usable if len(peer.t_ms) > 1]
        step = max(1, round(float(np.median(steps)))) if steps else 60_000
        begin = min(int(peer.t_ms[0]) for peer in usable)
        end = max(int(peer.t_ms[-1]) for peer in usable)
        self._t = np.arange(begin, end + 1, max(step, (end - begin) // 5000 + 1), dtype=np.int64)
        told = [_at(peer, self._t, 3 * step) for peer in usable]
        shapes, widths = (np.stack([part[i] for part in told]) for i in (0, 1))
        enough = np.isfinite(shapes).sum(axis=0) >= PEERS_MIN
        self._shape, self._width = (np.full(len(self._t), np.nan) for _ in range(2))
        if enough.any():
            self._shape[enough] = np.nanmedian(shapes[:, enough], axis=0)
            self._width[enough] = np.nanmedian(widths[:, enough], axis=0)
        self._tolerance = 3 * step

    def at(self, t_ms: Integers) -> tuple[Array, Array]:
        """Ratio to the level, and relative deviation, at times of any shape; NaN where unknown."""
        if self.peers < PEERS_MIN:
            return np.full(t_ms.shape, np.nan), np.full(t_ms.shape, np.nan)
        place = np.searchsorted(self._t, t_ms, side="right") - 1
        known = (place >= 0) & (t_ms - self._t[place] <= self._tolerance)
        return (
            np.where(known, self._shape[place], np.nan),
            np.where(known, self._width[place], np.nan),
        )


def _tail(away: Array, rows: Integers) -> tuple[Array, Array, Array]:
    """Of ascending deviations (k, w), of which `rows` (k,) are numbers: the share that exceeds
    the beginning of the tail, that beginning, and the tail's index."""
    cut = np.minimum(rows - 1, ((1.0 - TAIL) * rows).astype(np.int64)).clip(0)
    start = np.nan_to_num(np.take_along_axis(away, cut[:, None], axis=1)[:, 0])
    above = np.maximum(rows - 1 - cut, 0)
    share = (above + 1.0) / (rows + 1.0)
    most = int(above.max(initial=0))
    place = np.minimum(cut[:, None] + 1 + np.arange(most), away.shape[1] - 1)
    inside = np.arange(most) < above[:, None]
    top = np.where(inside, np.take_along_axis(away, place, axis=1), 0.0)
    base = np.maximum(start, DUST)[:, None]
    excess = np.where(inside, np.log(np.maximum(top, base) / base), 0.0)
    middle = _median(np.sort(np.where(inside, excess, np.nan), axis=1), above) if most else 0.0
    limited = np.minimum(excess, FREAK * (np.reshape(middle, (-1, 1)) + 1e-3))
    return share, start, (limited.sum(axis=1) + INDEX_ROWS * INDEX) / (above + INDEX_ROWS)


def _last_day(peer: Expectation) -> Expectation:
    """Of what was said, the part of the newest day that is numbers."""
    kept = (peer.t_ms > peer.t_ms[-1] - _DAY_MS) & np.isfinite(peer.expected)
    return Expectation(*(part[kept] for part in peer))


def _at(peer: Expectation, t: Integers, tolerance: int) -> tuple[Array, Array]:
    """Ratio and relative deviation of one peer at times (m,), NaN where it said nothing."""
    place = np.searchsorted(peer.t_ms, t, side="right") - 1
    known = (place >= 0) & (t - peer.t_ms[place] <= tolerance)
    expected = peer.expected[place]
    with np.errstate(over="ignore"):
        ratio = expected / np.median(peer.expected)
        width = (peer.upper[place] / expected - peer.lower[place] / expected) / (2 * OUTSIDE_Z)
    return np.where(known, ratio, np.nan), np.where(known, width, np.nan)


def _median(ordered: Array, rows: Array | Integers) -> Array:
    """Median of the first `rows` (k,) of ascending (k, w), 0 without any."""
    low = np.maximum((rows - 1) // 2, 0).astype(np.int64)[:, None]
    high = np.minimum(rows // 2, ordered.shape[1] - 1).astype(np.int64)[:, None]
    low, high = np.minimum(low, ordered.shape[1] - 1), np.where(rows[:, None] > 1, high, low)
    middle = np.take_along_axis(ordered, low, axis=1) / 2
    middle = middle + np.take_along_axis(ordered, high, axis=1) / 2
    return np.nan_to_num(middle[:, 0])


def _bounded(values: Array) -> Array:
    """Without infinities."""
    return np.nan_to_num(values, nan=0.0)
