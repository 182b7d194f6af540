"""What one new point of each of ten thousand series costs: scikit-learn, one by one, together.

A bank is asked for thirty points of each, so that what falls due every few points is among them:
recent levels every fifth, shapes every sixth.
"""

import resource
import sys
import time

import numpy as np
from sklearn.ensemble import IsolationForest as Reference
from threadpoolctl import threadpool_limits

from bench.pace import Figure, best
from models.bank import Bank
from models.base import Array
from models.ensemble import Detector
from models.features import FEATURES
from models.synthetic import daily, times

#: Rows that series have known, different series that the others repeat, points of each.
_ROWS, _DIFFERENT, _POINTS = 4000, 4, 30
#: Series that stand for all where each is asked alone.
_ALONE = 10


def measure(series: int) -> list[Figure]:
    """Milliseconds of CPU for one point of all series, and kilobytes of each in a bank."""
    t = times(_ROWS + _POINTS)
    values = [daily(_ROWS + _POINTS, seed) for seed in range(_DIFFERENT)]
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
        spent = [
            _step(bank, np.resize([v[at] for v in values], series), int(t[at]))
            for at in range(_ROWS, _ROWS + _POINTS)
        ]
    scale, share = series / _ALONE * 1e3, series / 10_000
    median = float(np.median(spent))
    name = f"{series:,} series, a new point each"
    return [
        Figure(f"{name}: isolation forest of scikit-learn, one by one", theirs * scale, "ms"),
        Figure(f"{name}: detectors one by one", alone * scale, "ms"),
        Figure(f"{name}: bank, median of {_POINTS}", median * 1e3, "ms", 150 * share, 75 * share),
        Figure(f"{name}: bank, mean of {_POINTS}", float(np.mean(spent)) * 1e3, "ms"),
        Figure(f"{name}: bank, slowest of {_POINTS}", max(spent) * 1e3, "ms"),
        Figure("whole ensemble, a point", float(np.mean(spent)) / series * 1e6, "µs", 40, 10),
        Figure("memory of a series in the bank", each / 1e3, "kB", 200),
    ]


def _step(bank: Bank, values: Array, t_ms: int) -> float:
    begun = time.process_time()
    bank.step(range(len(values)), np.full(len(values), t_ms), values)
    return time.process_time() - begun


def _stored(detector: Detector) -> Detector:
    """As the service has it: written down and read back."""
    return Detector.from_arrays(detector.to_arrays())


def _resident() -> int:
    """Most bytes in memory so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
