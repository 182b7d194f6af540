"""The metrics of one entity judged together, by what models wrote about each.

An entity is what series have in common whose labels are equal and whose metrics differ: a host,
a service, a region of one. `models.entity` combines their anomaly scores.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.base import Array
from models.entity import METRICS_MIN, USUAL, Entity, surprises
from service.domain.rules import Severity
from service.domain.series import SCORE, Series
from service.insights import words
from service.insights.finding import Finding, Kind
from service.insights.look import Look
from service.query.source import Source
from service.storage.columns import Columns, Times

#: Seconds of scores that are read, and rows of them that are judged.
SECONDS, ROWS_MAX = 3 * 86_400.0, 20_000
#: Metrics of an entity that are judged together; the first by name.
METRICS_MAX = 50
#: Rows in which a normal entity must have been seen before it can be told from an odd one.
ROWS_MIN = 200
#: Newest rows in which something odd goes on, and the score that at least two of them have.
NOW_ROWS, LASTING = 6, 0.99
#: How old the newest scores may be: so many steps of the slowest metric, and ten minutes anyway.
FRESH_STEPS, FRESH_MS = 5, 600_000
#: Entities that a look reads whole, and the mean surprise from which one is worth it.
READ_MOST, WORTH = 5, 1.5 * USUAL


@dataclass(frozen=True, slots=True)
class Joint:
    """What is said of an entity: at times (n,) a score (n,) in [0, 1), 1 - p of all metrics
    together on their own past, from the scores (n, m) of each, NaN where there is none."""

    series: tuple[Series, ...]
    t_ms: Times
    score: Array
    each: Array


def metrics_of(known: Mapping[int, Series], series: Series) -> list[Series]:
    """The metrics of a series' entity, itself among them, by name; those of all are `known`."""
    base = series.base
    tags = base.tags
    found = [s for s in known.values() if not s.is_derived and s.tags == tags]
    return sorted(found, key=lambda s: s.name)[:METRICS_MAX]


async def judge(
    source: Source, tenant: str, known: Mapping[int, Series], metrics: Sequence[Series], now: float
) -> Joint | None:
    """Judge metrics of one entity by their scores of the last days; None with fewer than two."""
    scores = {s.id: s.derived(SCORE).id for s in metrics if s.derived(SCORE).id in known}
    now_ms = round(now * 1000)
    read = await source.read(tenant, list(scores.values()), now_ms - round(SECONDS * 1000), now_ms)
    scored = [s for s in metrics if s.id in scores and len(read[scores[s.id]].t)]
    if len(scored) < METRICS_MIN:
        return None
    t, each = lay([read[scores[s.id]] for s in scored])
    # sorts as many times as there are rows: not in the loop that answers others
    said = await asyncio.to_thread(Entity().fit, each)
    return Joint(tuple(scored), t, said.scores_, each)


def lay(columns: Sequence[Columns]) -> tuple[Times, Array]:
    """Scores of several series on one grid: times (n,) and rows (n, m), NaN where there is none.

    Its step is what most of them have; of samples in one cell the last counts.
    """
    steps = [int(np.median(np.diff(c.t))) for c in columns if len(c.t) > 1]
    step = max(1, int(np.median(steps))) if steps else 60_000
    cells = [c.t // step for c in columns]
    rows = np.unique(np.concatenate(cells))[-ROWS_MAX:]
    each = np.full((len(rows), len(columns)), np.nan)
    for m, (cell, c) in enumerate(zip(cells, columns, strict=True)):
        late = cell >= rows[0] if len(rows) else np.zeros(0, np.bool_)
        each[np.searchsorted(rows, cell[late]), m] = c.v[late]
    return rows * step, np.where((each >= 0) & (each <= 1), each, np.nan)


async def together(source: Source, look: Look, threshold: float) -> list[Finding]:
    """Entities whose metrics are odd together now, though none of them is unusual by itself."""
    found = []
    for metrics in _worth(look):
        joint = await judge(source, look.tenant, look.known, metrics, look.now)
        if joint is None or len(joint.t_ms) < ROWS_MIN:
            continue
        finding = _finding(joint, threshold)
        if finding is not None:
            found.append(finding)
    return found


def _worth(look: Look) -> Iterable[list[Series]]:
    """Metrics of entities whose newest scores are high on average, the highest first."""
    entities: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for i, watched in look.watched.items():
        if len(watched.score.t):
            entities.setdefault(tuple(watched.series.tags.items()), []).append(i)
    worth = []
    for ids in entities.values():
        if len(ids) < METRICS_MIN or any(i in look.runs for i in ids):
            continue
        ids = sorted(ids, key=lambda i: look.watched[i].series.name)[:METRICS_MAX]
        t, each = lay([look.watched[i].score for i in ids])
        newest = surprises(each[-NOW_ROWS:])
        mean = float(np.where(np.isfinite(newest), newest, USUAL).mean(axis=1).max())
        slowest = max(look.watched[i].step_ms for i in ids)
        fresh = look.now_ms - int(t[-1]) <= max(FRESH_MS, FRESH_STEPS * slowest)
        if fresh and mean >= WORTH:
            worth.append((mean * len(ids) ** 0.5, [look.watched[i].series for i in ids]))
    worth.sort(key=lambda item: -item[0])
    return [metrics for _, metrics in worth[:READ_MOST]]


def _finding(joint: Joint, threshold: float) -> Finding | None:
    newest = slice(-NOW_ROWS, None)
    hits = np.flatnonzero(joint.score[newest] >= LASTING)
    if len(hits) < 2 or joint.score[newest].max() < threshold:
        return None  # of many entities one is odd in some row all the time
    row = len(joint.score[:-NOW_ROWS]) + int(joint.score[newest].argmax())
    each, score = joint.each[row], float(joint.score[row])
    loud = [int(m) for m in np.argsort(-np.nan_to_num(each)) if each[m] >= 0.9]
    if len(loud) < METRICS_MIN or not (each[loud] < threshold).all():
        return None  # one alone: that is what `unusual` tells
    where = words.place(joint.series[0])
    names = [words.metric_words(joint.series[m].name) for m in loud]
    rare = words.count(int(float(f"{1 / max(1 - score, 1e-6):.1g}")), "row")
    return Finding(
        Kind.TOGETHER,
        Severity.MEDIUM,
        f"{where or 'Several metrics'}: odd as a whole",
        f"{words.listing(names)} are each a little odd at the same time; none of them is unusual "
        f"by itself, but all of them together are this odd only once in {rare}",
        tuple(joint.series[m].hex for m in loud),
        float(joint.t_ms[len(joint.score[:-NOW_ROWS]) + int(hits[0])]) / 1000,
        {
            "score": score,
            "scores": {joint.series[m].name: float(each[m]) for m in loud},
            "metrics": len(joint.series),
        },
        0.2,
        "\x1e".join(f"{k}={v}" for k, v in joint.series[0].tags.items()),
    )
