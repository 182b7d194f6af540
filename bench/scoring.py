"""What one new point of each of ten thousand series costs: scikit-learn, one by one, together."""

import resource
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest as Reference
from threadpoolctl import threadpool_limits

from bench.pace import POINTS, TOGETHER, Figure, best, stepped
from models.bank import Bank
from models.ensemble import Detector
from models.features import FEATURES
from models.synthetic import daily, times

#: Rows that series have known, and different series that the others repeat.
_ROWS, _DIFFERENT = 4000, 4
#: Series that stand for all where each is asked alone.
_ALONE = 10


def measure(series: int) -> list[Figure]:
    """Milliseconds of CPU for one point of all series, and kilobytes of each in a bank."""
    t = times(_ROWS + POINTS)
    values = [daily(_ROWS + POINTS, seed) for seed in range(_DIFFERENT)]
    detectors = [_stored(Detector().fit(t[:_ROWS], v[:_ROWS])) for v in values]
    reference = Reference(n_estimators=50, max_samples=256, random_state=0)
    rows = np.random.default_rng(0).standard_t(5, (_ROWS, len(FEATURES) + 1))
    reference.fit(rows)
    theirs = best(lambda: [reference.score_samples(rows[i : i + 1]) for i in range(_ALONE)], 3)
    now = slice(0, _ROWS + 1)
    alone = best(
        lambda: [
            detectors[i % _DIFFERENT].score(t[now], values[i % _DIFFERENT][now], 1)
            for i in range(_ALONE)
        ],
        3,
    )
    bank = Bank()
    before = _resident()
    with threadpool_limits(1):
        for key in range(series):
            which = key % _DIFFERENT
            bank.add(key, detectors[which], t[:_ROWS], values[which][:_ROWS])
    each = (_resident() - before) / series
    spent = stepped(
        bank,
        [
            (np.full(series, t[at]), np.resize([v[at] for v in values], series))
            for at in range(_ROWS, _ROWS + POINTS)
        ],
    )
    scale, share = series / _ALONE * 1e3, series / 10_000
    median = float(np.median(spent))
    name = f"{series:,} series, a new point each"
    return [
        Figure(f"{name}: isolation forest of scikit-learn, one by one", theirs * scale, "ms"),
        Figure(f"{name}: detectors one by one", alone * scale, "ms"),
        Figure(f"{name}: bank, median of {POINTS}", median * 1e3, "ms", 150 * share, 75 * share),
        Figure(f"{name}: bank, mean of {POINTS}", float(np.mean(spent)) * 1e3, "ms"),
        Figure(f"{name}: bank, slowest of {POINTS}", max(spent) * 1e3, "ms"),
        Figure("whole ensemble, a point", float(np.mean(spent)) / series * 1e6, "µs", *TOGETHER),
        Figure("memory of a series in the bank", each / 1e3, "kB", 200),
    ]


def _stored(detector: Detector) -> Detector:
    """As the service has it: written down and read back."""
    return Detector.from_arrays(detector.to_arrays())


def _resident() -> int:
    """Bytes in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
