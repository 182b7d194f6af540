"""What detection costs: of a walk, of a new point, and of forests beside scikit-learn's."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import IsolationForest as Reference
from threadpoolctl import threadpool_limits

from models.bank import Bank
from models.base import Array, Integers
from models.ensemble import Detector
from models.features import FEATURES
from models.forest import Heaps, IsolationForest, Singles, grow, path_lengths
from models.synthetic import web

#: Forests as the ensemble has them: trees, rows a tree sees, rows to choose from, columns.
_TREES, _SAMPLE, _ROWS, _COLUMNS = 50, 256, 5000, len(FEATURES) + 1
#: Series that a figure is told for, and those that are measured, of ours and scikit-learn's.
SERIES, _OURS, _THEIRS = 10_000, 500, 20
_REPEATS = 3
#: Series of a bank, the models that they share, the values that those know.
_BANKED, _MODELS, _HISTORY = 250, 2, 3000
#: Points that each series of a bank gets, one after the other: so that what falls due every few
#: points is among them, recent levels every fifth, shapes every sixth.
POINTS = 30
#: Microseconds that a point may cost the whole ensemble, many series together: reach and aim.
TOGETHER = 40.0, 10.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A cost, in `unit`: the less the better. `reach` and `aim` are targets, `other` a baseline."""

    what: str
    value: float
    unit: str
    reach: float | None = None
    aim: float | None = None
    other: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times more the baseline costs."""
        return self.other / self.value if self.other is not None else None


def command(rows: int, seconds: float, cpu: float) -> list[Figure]:
    """What `offbeat detect` took for so many rows."""
    million = 1e6 / rows
    return [
        Figure("offbeat detect on a folder, a million rows", seconds * million, "s", 60.0),
        Figure("the same, CPU", cpu * million, "s"),
    ]


def measure() -> list[Figure]:
    """Everything else; CPU time of one core, best of several, of a bank the mean."""
    series = web(0, clean=True)
    n = len(series.values)
    walk = best(lambda: Detector().fit(series.t_ms, series.values), _REPEATS) / n
    detector = Detector().fit(series.t_ms[:-1], series.values[:-1])
    near = slice(n - detector.context - 1, n)
    point = best(lambda: detector.score(series.t_ms[near], series.values[near], 1), 20)
    return [
        Figure("walk over a history, a row", walk * 1e6, "µs"),
        Figure("a new point, one series alone", point * 1e6, "µs"),
        bank(),
        *forests(),
    ]


def bank(count: int = _BANKED, models: int = _MODELS) -> Figure:
    """A new point of each of many series, by the whole ensemble, together; what few learned."""
    every = [web(seed, clean=True) for seed in range(models)]
    known = slice(-_HISTORY - POINTS, -POINTS)
    detectors = [Detector().fit(s.t_ms[known], s.values[known]) for s in every]
    together = Bank()
    for key in range(count):
        series = every[key % models]
        together.add(key, detectors[key % models], series.t_ms[known], series.values[known])
    spent = stepped(
        together,
        [
            (
                np.resize([s.t_ms[at] for s in every], count),
                np.resize([s.values[at] for s in every], count),
            )
            for at in range(-POINTS, 0)
        ],
    )
    each = float(np.mean(spent)) / count * 1e6
    return Figure(f"a new point, {count:,} series together", each, "µs", *TOGETHER)


def stepped(bank: Bank, points: Iterable[tuple[Integers, Array]]) -> list[float]:
    """CPU seconds of each step of a bank: times and values (n,) of its n series, 0 to n - 1."""
    spent = []
    with threadpool_limits(1):
        for t_ms, values in points:
            begun = time.process_time()
            bank.step(range(len(values)), t_ms, values)
            spent.append(time.process_time() - begun)
    return spent


def forests(ours: int = _OURS, theirs: int = _THEIRS) -> list[Figure]:
    """Forests grown and asked for one new point each; what few series take stands for all."""
    rng = np.random.default_rng(0)
    rows = np.abs(rng.standard_t(5, (_ROWS, _COLUMNS)))
    points = np.abs(rng.standard_t(5, (ours, 1, _COLUMNS))).astype(np.float32)
    single = rows.astype(np.float32)[None]
    fit = best(lambda: IsolationForest(_TREES, _SAMPLE).fit(rows), _REPEATS)
    reference = Reference(n_estimators=_TREES, max_samples=_SAMPLE, random_state=0)
    their_fit = best(lambda: reference.fit(rows), _REPEATS)
    heaps = _many(single, ours, rng)
    ask = best(lambda: path_lengths(heaps, points), _REPEATS) * SERIES / ours
    one_by_one = [points[number].astype(np.float64) for number in range(theirs)]
    their_ask = best(lambda: [reference.score_samples(x) for x in one_by_one], 2) * SERIES / theirs
    return [
        Figure("fit of a forest", fit * 1e3, "ms", 10.0, 4.0, their_fit * 1e3),
        Figure(
            f"forests of {SERIES:,} series, a new point each",
            ask * 1e3,
            "ms",
            150.0,
            75.0,
            their_ask * 1e3,
        ),
    ]


def best(work: Callable[[], object], repeats: int) -> float:
    """Least CPU seconds of several runs, in one thread."""
    spent = []
    with threadpool_limits(1):
        for _ in range(repeats):
            begun = time.process_time()
            work()
            spent.append(time.process_time() - begun)
    return min(spent)


def _many(rows: Singles, series: int, rng: np.random.Generator) -> Heaps:
    """Forests of many series: those of a few, over and over."""
    few = grow(np.repeat(rows, 10, axis=0), _TREES, _SAMPLE, rng)
    return Heaps(*(np.resize(part, (series, *part.shape[1:])) for part in few))
