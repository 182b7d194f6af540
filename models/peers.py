"""Members of a group, such as regions or servers, compared with each other.

Members may always differ in level: what counts is whether a member has left its usual place among
the others, as it was in the windows before. Two explanations of a common move are tried, that all
gain as much or that all gain the same share, and a member is odd only if neither explains it.
What is left becomes a small vector for each member: level, trend and roughness of the newest
window, in the deviations that are usual. DBSCAN (Ester, Kriegel, Sander and Xu, KDD 1996) finds
where most of them are together; who is in no sizeable cluster is unlike its peers.

Works for members that do the same work at the same time. Says nothing of groups that are too
small, or in which no majority agrees. A member that stays elsewhere is at its usual place again
when half of the windows before are like that. Needs no model and no training.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.base import Array, Flags, Integers
from models.calibration import TailCalibrator, probability
from models.density import squared_distances

#: Fewer members are no group.
MEMBERS_MIN = 4
#: What a member is odd in: the columns of its vector.
ASPECTS = ("level", "trend", "roughness")
#: A cluster is a camp of its own if it has this share of the members.
CAMP = 0.25
#: Neighbours, itself included, that make a core point; fewer in small groups.
NEIGHBOURS = 5
#: eps, in usual deviations: at least so much, and so many times the distance within which most
#: members had their neighbours before, that at which most members were once, and, where there is
#: no before, the distance now.
EPS_MIN, EPS_BEFORE, EPS_ONCE, EPS_NOW = 4.0, 2.5, 1.25, 3.0
#: Half windows in which a member must have been seen to have a usual place.
PLACE_MIN = 4
#: How much the group's spread counts against a member's own, in windows.
SHRINK = 8.0
#: Least spread: of levels as a share of them, and of the logarithm of roughness.
SPREAD_MIN, ROUGH_MIN = 1e-3, 0.3
#: An explanation is out if it fitted a member's past so many times worse than the other.
WORSE = 2.0
#: Members that distances to neighbours are measured on, and that are clustered.
SAMPLED, CLUSTERED = 300, 2000
_POLISH = 3
_LARGEST = 1e150


@dataclass(frozen=True, slots=True)
class Peers:
    """What is said of each member (m,).

    `score` in [0, 1) is 1 - p on the group's own past. `unlike` its peers: in no sizeable cluster.
    `known`: seen in the newest half of the window. `majority`: in the largest cluster. `level` is
    the middle of that half, `expected` what it would be at its usual place; both NaN where nobody
    knows. `aspect` numbers `ASPECTS`: in which a member is furthest from its peers, and `above`
    says in which direction.
    """

    score: Array
    unlike: Flags
    known: Flags
    majority: Flags
    level: Array
    expected: Array
    aspect: Integers
    above: Flags


class _Moved(NamedTuple):
    """How members (m, windows) stand to their usual place: in levels, trends, and what is expected
    of the newest half (m,). `size` (m,) is how far they usually are from it, in their own units."""

    level: Array
    trend: Array
    expected: Array
    size: Array


def judge(values: Array, window: int) -> Peers:
    """Compare members by `values` (m, n) on one grid, NaN where missing, the newest column last.

    The last `window` columns are judged, by what is usual in those before. Raises ValueError for
    a window of less than two columns.
    """
    if window < 2:
        raise ValueError(f"window: {window} columns; two halves need 2")
    half = window // 2
    values = np.where(np.abs(values) <= _LARGEST, values, np.nan)  # NaN is not, nor infinity
    windows = max(1, values.shape[1] // (2 * half))
    halves = _last(values, 2 * half * windows).reshape(len(values), 2 * windows, half)
    levels = _midmean(halves)
    known = np.isfinite(levels[:, -1])
    peers = _nothing(levels[:, -1], known)
    if known.sum() < MEMBERS_MIN:
        return peers
    levels, halves = levels[known], halves[known]
    added, shared = _added(levels), _shared(levels)
    both = (added, shared) if shared is not None else (added,)
    level, trend, expected = _least(both)
    rough = _roughness(halves.reshape(len(levels), windows, 2 * half), levels)
    vectors = np.stack((level, trend, rough), axis=2)  # (m, windows, 3)
    vectors = np.where(np.isfinite(vectors), vectors, 0.0)
    chaos = 1.4826 * np.median(np.abs(vectors), axis=0)
    vectors /= np.maximum(chaos, 1.0)
    now, before = vectors[:, -1], vectors[:, :-1]
    unlike, home, away = _clusters(now, before)
    distance = np.sqrt((away * away).sum(axis=1))
    usual = np.sqrt((before * before).sum(axis=2))[np.isfinite(level[:, :-1])]
    ordered = np.sort(usual if len(usual) else distance[~unlike])
    surprise = TailCalibrator().fit(ordered).surprise(distance)
    peers.score[known] = np.minimum(1.0 - probability(surprise), 1.0 - 1e-12)
    peers.unlike[known], peers.majority[known] = unlike, home
    peers.expected[known] = expected
    aspect = np.abs(away).argmax(axis=1)
    peers.aspect[known] = aspect
    peers.above[known] = away[np.arange(len(away)), aspect] > 0
    return peers


def _nothing(level: Array, known: Flags) -> Peers:
    m = len(level)
    no, unknown = np.zeros(m, np.bool_), np.full(m, np.nan)
    aspect = np.zeros(m, np.int64)
    return Peers(np.zeros(m), no, known, no.copy(), level, unknown, aspect, no.copy())


def _last(values: Array, count: int) -> Array:
    """The last `count` columns, missing ones in front."""
    short = max(0, count - values.shape[1])
    padded = np.concatenate((np.full((len(values), short), np.nan), values), axis=1)
    return padded[:, padded.shape[1] - count :]


def _median(x: Array) -> Array:
    """Median along the last axis without what is missing; NaN where nothing is left."""
    if not x.shape[-1]:
        return np.full(x.shape[:-1], np.nan)
    ordered = np.sort(x, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, x.shape[-1] - 1)
    pair = [np.take_along_axis(ordered, at, axis=-1)[..., 0] for at in (low, high)]
    return np.where(count[..., 0] > 0, pair[0] / 2 + pair[1] / 2, np.nan)


def _midmean(x: Array) -> Array:
    """Mean of the middle half along the last axis without what is missing; NaN for nothing.

    As deaf to single values as a median, and fine where only few different values occur.
    """
    ordered = np.sort(x, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    low = np.where(count > 3, count // 4, np.maximum(count - 1, 0) // 2)
    rank = np.arange(x.shape[-1])
    middle = (rank >= low) & (rank < count - low)
    total = np.where(middle, ordered, 0.0).sum(axis=-1)
    number = middle.sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _mean(x: Array) -> Array:
    """Mean along the last axis without what is missing, 0 for nothing."""
    count = np.isfinite(x).sum(axis=-1)
    return np.asarray(np.where(np.isfinite(x), x, 0.0).sum(axis=-1) / np.maximum(count, 1))


def _known(value: Array) -> float:
    """A number, 0 if it is none."""
    return float(value) if np.isfinite(value) else 0.0


def _columns(x: Array) -> Array:
    """Median of each column (m, k) without what is missing."""
    return _median(np.ascontiguousarray(x.T))


def _spread(rest: Array, settled: Flags, place: float, least: Array) -> Array:
    """Usual size (m,) of what is left (m, windows) before the newest window.

    Few windows tell little of one member, so the group's counts too. Of members that are not
    `settled` nobody knows where they belong: `place` is how far members are apart.
    """
    before = np.where(settled[:, None], rest[:, :-1], np.nan)
    count = np.isfinite(before).sum(axis=1)
    own = 1.4826 * _median(np.abs(before))
    # most windows may be alike and others far off: then deviations count that are not the median
    pooled = max(_known(_median(own)), 0.6 * _known(_median(_mean(np.abs(before)))))
    own = np.where(count > 0, own, 0.0)
    size = np.sqrt((count * own**2 + SHRINK * pooled**2) / (count + SHRINK))
    return np.asarray(np.maximum(np.where(settled, size, np.hypot(size, place)), least))


def _places(levels: Array) -> tuple[Array, Flags]:
    """Median level of members before the newest window, and whether they had one."""
    before = levels[:, :-2]
    return _median(before), np.isfinite(before).sum(axis=1) >= PLACE_MIN


def _apart(places: Array) -> float:
    """How far members' places (m,) are from the middle one."""
    return float(1.4826 * _median(np.abs(places - _median(places))))


def _polished(levels: Array) -> tuple[Array, Array, Flags]:
    """Usual places (m,) and common moves (k,) that add up to levels (m, k): Tukey's median polish.

    Also whether a place was learned; the others are taken to be like their peers.
    """
    place, settled = _places(levels)
    middle = _median(np.where(settled, place, np.nan))
    place = np.where(settled, place, middle if np.isfinite(middle) else 0.0)
    move = _columns(levels - place[:, None])
    for _ in range(_POLISH):
        finer = _median(levels[:, :-2] - move[:-2])
        place = np.where(settled & np.isfinite(finer), finer, place)
        # where nobody settled is known, who is new says how all have moved
        move = _columns(levels - np.where(settled, place, np.nan)[:, None])
        move = np.where(np.isfinite(move), move, _columns(levels - place[:, None]))
    return place, move, settled


def _added(levels: Array) -> _Moved:
    """All gain as much: levels (m, k) of half windows are a usual place plus a common move."""
    place, move, settled = _polished(levels)
    rest = levels - place[:, None] - move
    # places of members who are new are known from now only
    apart = _apart(np.where(settled, place, rest[:, -1] + place))
    least = SPREAD_MIN * np.maximum(np.abs(place + move[-1]), np.abs(place)) + 1e-12
    return _scaled(rest, settled, apart, least, np.ones(len(levels)), place + move[-1])


def _shared(levels: Array) -> _Moved | None:
    """All gain the same share: levels (m, k) are a usual place times a common factor.

    None where levels are not all positive places.
    """
    place, settled = _places(levels)
    if np.nanmin(levels) < 0:
        return None
    usable = settled & (place > 0)
    if usable.sum() < max(MEMBERS_MIN, len(levels) // 2):
        return None
    for _ in range(_POLISH):
        factor = _columns(levels / np.where(usable, place, np.nan)[:, None])
        moved = np.where(factor > 0, factor, np.nan)[:-2]
        finer = _median(levels[:, :-2] / moved)
        place = np.where(usable & (finer > 0), finer, place)
    factor = _columns(levels / np.where(usable, place, np.nan)[:, None])
    middle = float(_median(np.where(usable, place, np.nan)))
    place = np.where(usable, place, middle)
    unit = place[:, None] * np.maximum(factor, 1.0)
    rest = (levels - place[:, None] * factor) / unit
    apart = _apart(np.where(usable, place, np.nan)) / middle
    least = np.full(len(levels), SPREAD_MIN)
    return _scaled(rest, usable, apart, least, place, place * factor[-1])


def _scaled(
    rest: Array, settled: Flags, apart: float, least: Array, unit: Array, expected: Array
) -> _Moved:
    """What is left of half windows (m, k) as levels and trends of windows, in usual sizes."""
    first, second = rest[:, 0::2], rest[:, 1::2]
    level = np.where(np.isfinite(first), first / 2 + second / 2, second)
    level = np.where(np.isfinite(level), level, first)
    trend = second - first
    size = _spread(level, settled, apart, least)
    turn = _spread(trend, np.ones(len(rest), np.bool_), 0.0, least)
    turn = np.maximum(turn, size if rest.shape[1] <= PLACE_MIN else 0.0)
    level, trend = level / size[:, None], trend / turn[:, None]
    # who has come back was odd, and is not
    newest = np.abs(second[:, -1])
    back = (newest < np.abs(first[:, -1])) & (newest < EPS_MIN * size)
    back &= np.hypot(level[:, -1], trend[:, -1]) > EPS_MIN
    level[back, -1], trend[back, -1] = second[back, -1] / size[back], 0.0
    return _Moved(level, trend, expected, size * unit)


def _least(both: tuple[_Moved, ...]) -> tuple[Array, Array, Array]:
    """Levels, trends (m, windows) and expectation (m,) by the kinder explanation of those that
    have fitted."""
    best = np.min([moved.size for moved in both], axis=0)
    sizes = [
        np.where((m.size > WORSE * best)[:, None], np.inf, np.hypot(m.level, m.trend)) for m in both
    ]
    # unknown is no reason to choose the other one
    chosen = np.argmin([np.where(np.isfinite(s), s, _LARGEST) for s in sizes], axis=0)
    at = chosen[None]
    level = np.take_along_axis(np.stack([m.level for m in both]), at, axis=0)[0]
    trend = np.take_along_axis(np.stack([m.trend for m in both]), at, axis=0)[0]
    expected = np.stack([m.expected for m in both])
    return level, trend, np.take_along_axis(expected, at[:, :, -1], axis=0)[0]


def _roughness(windows: Array, levels: Array) -> Array:
    """How much rougher windows (m, windows, w) are than usual, next to the others: (m, windows)."""
    steps = _midmean(np.abs(np.diff(windows, axis=2)))
    typical = _known(_median(_median(steps)))
    # steps that are rare and large show in the mean alone
    sudden = _known(_median(_mean(np.abs(np.diff(windows.reshape(len(windows), -1), axis=1)))))
    lowest = 0.1 * typical + 0.5 * max(sudden - 1.2 * typical, 0.0) + 1e-12
    floor = lowest + SPREAD_MIN * np.abs(_median(levels))
    pairs = np.repeat(np.log(steps + floor[:, None]), 2, axis=1)
    place, move, settled = _polished(pairs)
    rest = (pairs - place[:, None] - move)[:, 1::2]
    apart = _apart(np.where(settled, place, rest[:, -1] + place))
    least = np.full(len(levels), ROUGH_MIN)
    return rest / _spread(rest, settled, apart, least)[:, None]


def _reach(vectors: Array, neighbours: int) -> Array:
    """Distance of vectors (m, 3) to the last of so many neighbours, itself the first."""
    step = -(-len(vectors) // SAMPLED)
    rows = vectors[::step]
    distance = np.sqrt(squared_distances(rows, rows))
    return np.partition(distance, min(neighbours, len(rows)) - 1, axis=1)[
        :, min(neighbours, len(rows)) - 1
    ]


def _clusters(now: Array, before: Array) -> tuple[Flags, Flags, Array]:
    """Who is in no camp, who is in the largest, and how far vectors (m, 3) are from their camp."""
    m = len(now)
    neighbours = min(NEIGHBOURS, m // 2 + 1)
    if before.shape[1]:
        reach = np.stack([_reach(before[:, w], neighbours) for w in range(before.shape[1])])
        usual = EPS_BEFORE * float(np.quantile(reach, 0.75))
        # what most members have done now and then is no news if one of them does it
        eps = max(EPS_MIN, usual, EPS_ONCE * float(np.median(reach.max(axis=0))))
    else:
        eps = max(EPS_MIN, EPS_NOW * float(np.median(_reach(now, neighbours))))
    everybody = np.ones(m, np.bool_)
    if (now * now).sum(axis=1).max() <= eps * eps / 4:  # all are neighbours of all
        return ~everybody, everybody, now - np.median(now, axis=0)
    label = _labels(now, eps, neighbours)
    size = np.bincount(label[label >= 0], minlength=1)
    camps = np.flatnonzero(size >= max(CAMP * m, 2.0))
    if size[camps].sum() <= m / 2:  # nobody agrees
        return ~everybody, ~everybody, now - np.median(now, axis=0)
    unlike = ~np.isin(label, camps)
    centres = np.stack([np.median(now[label == camp], axis=0) for camp in camps])
    nearest = squared_distances(now, centres).argmin(axis=1)
    return unlike, label == int(size.argmax()), now - centres[nearest]


def _labels(vectors: Array, eps: float, neighbours: int) -> Integers:
    """DBSCAN's cluster of each vector (m, 3), -1 for noise.

    Of very many members only some are clustered, for nearly all are neighbours of each other; the
    others belong where their nearest core point does.
    """
    # takes seconds and a hundred megabytes to load, and most groups never need it
    from sklearn.cluster import DBSCAN

    step = -(-len(vectors) // CLUSTERED)
    found = DBSCAN(eps=eps, min_samples=neighbours).fit(vectors[::step])
    label = np.asarray(found.labels_, np.int64)
    core = np.asarray(found.core_sample_indices_, np.int64)
    if step == 1:
        return label
    of_core, whole = vectors[::step][core], np.full(len(vectors), -1, np.int64)
    for start in range(0, len(vectors) if len(core) else 0, CLUSTERED):
        distance = squared_distances(vectors[start : start + CLUSTERED], of_core)
        nearest = distance.argmin(axis=1)
        near = distance[np.arange(len(nearest)), nearest] <= eps * eps
        whole[start : start + CLUSTERED] = np.where(near, label[core[nearest]], -1)
    return whole
