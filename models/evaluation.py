"""How good detectors are, given labels: rows ranked by score, and anomalies found by alerts.

A label is an anomaly from its first row to its last. Rows at the beginning are not judged
(`judged_from`): nobody knows yet what is normal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.base import Array, Flags

_WEEK_MS = 7 * 86_400_000
#: The share of a series that is not judged, and the most rows, as in the Numenta Anomaly
#: Benchmark (Lavin and Ahmad, 2015).
PROBATION, PROBATION_MOST = 0.15, 750


def judged_from(rows: int) -> int:
    """The first row of a series of so many that counts."""
    return int(min(PROBATION * rows, PROBATION_MOST))


def average_precision(labels: Flags, scores: Array) -> float:
    """Mean precision over the labelled rows, in order of score: 1 is perfect, their share chance.

    `labels`, `scores` (n,). Rows of equal score count together. NaN if nothing is labelled.
    """
    positives = int(labels.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found = np.cumsum(labels[order])[last]
    precision = found / (last + 1)
    return float(np.diff(found, prepend=0) @ precision / positives)


def pooled_average_precision(series: Iterable[tuple[Flags, Array]]) -> float:
    """`average_precision` of all rows of several series (labels, scores) in one order.

    Scores must mean the same on each.
    """
    labels, scores = zip(*series, strict=True)
    return average_precision(np.concatenate(labels), np.concatenate(scores))


def mean_average_precision(series: Iterable[tuple[Flags, Array]]) -> float:
    """Mean of `average_precision` over the series that have labels; NaN if none has."""
    each = [average_precision(*one) for one in series if one[0].any()]
    return float(np.mean(each)) if each else float("nan")


def anomalies(labels: Flags) -> list[tuple[int, int]]:
    """Labelled stretches of (n,): the first row of each, and the one after its last."""
    edges = np.diff(np.concatenate(([0], labels.astype(np.int8), [0])))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Found:
    """What an alert stream found: of `total` anomalies `hits`, beside `false` alerts.

    An anomaly found twice is found once; an alert outside of all is false. `delays` are the rows
    from the begin of each found anomaly to its first alert.
    """

    total: int
    hits: int
    false: int
    delays: tuple[int, ...] = ()

    @property
    def precision(self) -> float:
        """Hits of all that was said; 0 if nothing was."""
        return self.hits / max(1, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Hits of all anomalies; 0 if there are none."""
        return self.hits / max(1, self.total)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.hits / max(1, self.hits + self.false + self.total)

    @property
    def delay(self) -> float:
        """Median rows until an anomaly was found; NaN if none was."""
        return float(np.median(self.delays)) if self.delays else float("nan")


def find(labels: Flags, alerts: Flags) -> Found:
    """What the alerts (n,) found of the anomalies in `labels` (n,)."""
    spans = anomalies(labels)
    delays = [int(alerts[a:b].argmax()) for a, b in spans if alerts[a:b].any()]
    return Found(len(spans), len(delays), int((alerts & ~labels).sum()), tuple(delays))


def together(found: Sequence[Found]) -> Found:
    """Several series as one."""
    return Found(
        sum(one.total for one in found),
        sum(one.hits for one in found),
        sum(one.false for one in found),
        tuple(delay for one in found for delay in one.delays),
    )


def weeks(rows: int, step_ms: float) -> float:
    """How long so many rows are."""
    return rows * step_ms / _WEEK_MS


def alerts_a_week(alerts: Flags, labels: Flags, step_ms: float) -> float:
    """Alerts (n,) a week in rows without a label; NaN if there are none."""
    normal = ~labels
    if not normal.any():
        return float("nan")
    return float((alerts & normal).sum() / weeks(int(normal.sum()), step_ms))
