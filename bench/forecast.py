"""Forecasts: all hourly series of the M4 competition, by its rules, beside plain forecasters.

Every series is forecast by the mixture and by each of its members alone, in the same run; the
command line, `offbeat forecast`, then gets the same series in a file, as anybody would give them.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from bench.m4 import HORIZON, SEASON, Series, interval_score, mase, naive2, smape
from models.base import Array, Integers
from models.forecast.pool import POOL, members
from models.forecast.series import MEMORY, SeriesForecaster
from models.forecast.views import View, has_logarithms

OURS, DEAR, BASE = "mixture", "mixture, all", "Naive2"
#: What intervals are asked to hold, and the one that targets and scores are about.
LEVELS, LEVEL = (0.8, 0.9, 0.95), 0.9
_HOUR_MS = 3_600_000
_START_MS = 1_700_000_000_000 // _HOUR_MS * _HOUR_MS

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How good a method is on all series, and the CPU time it takes for each, in seconds.

    `worse` series are worse than Naive2 by the mean of both errors.
    """

    method: str
    smape: float
    mase: float
    owa: float
    worse: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """At `level`: share of values inside, series below a half, mean score (scaled as MASE)."""

    method: str
    level: float
    coverage: float
    below_half: int
    score: float


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Everything measured on so many series."""

    series: int
    accuracy: list[Accuracy]
    intervals: list[Intervals]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Said:
    """Of one series: the forecast of each method (HORIZON,), CPU seconds, intervals of ours."""

    values: dict[str, Array]
    cpu: dict[str, float]
    inside: dict[str, list[tuple[float, float]]]


def measure(corpus: Sequence[Series], *, dear: bool, say: Say) -> Forecasts:
    """Everything, of every series, on all cores."""
    said: list[_Said] = []
    work = (delayed(_forecast)(one, dear) for one in corpus)
    for done in Parallel(n_jobs=len(os.sched_getaffinity(0)), return_as="generator")(work):
        said.append(done)
        if len(said) % 50 == 0:
            say(f"{len(said)} of {len(corpus)} series")
    errors = {name: _errors(corpus, [one.values[name] for one in said]) for name in said[0].values}
    return Forecasts(
        len(corpus),
        [
            _accuracy(name, errors[name], errors[BASE], [one.cpu[name] for one in said])
            for name in errors
        ],
        [
            _intervals(name, level, np.array([one.inside[name][place] for one in said]))
            for name in said[0].inside
            for place, level in enumerate(LEVELS)
        ],
    )


def _forecast(series: Series, dear: bool) -> _Said:
    t = _START_MS + np.arange(len(series.past), dtype=np.int64) * _HOUR_MS
    values: dict[str, Array] = {}
    cpu: dict[str, float] = {}
    inside: dict[str, list[tuple[float, float]]] = {}
    with threadpool_limits(1):
        for name in (OURS, DEAR) if dear else (OURS,):
            begun = time.process_time()
            model = SeriesForecaster(HORIZON, LEVEL, dear=name == DEAR).fit(t, series.past)
            values[name] = model.predict(t, series.past).value
            cpu[name] = time.process_time() - begun
            inside[name] = [_inside(series, model, t, level) for level in LEVELS]
        for name in (BASE, *members(SEASON, len(series.past), MEMORY, dear)):
            begun = time.process_time()
            values[name] = naive2(series.past) if name == BASE else _alone(name, series.past)
            cpu[name] = time.process_time() - begun
    return _Said(values, cpu, inside)


def _alone(name: str, past: Array) -> Array:
    """What one member says, looking at logarithms where it would in the mixture."""
    kind = POOL[name]
    view = View.of(past, log=kind.log and has_logarithms(past))
    x = view.see(past)
    member = kind.make(SEASON, MEMORY).fit(x, 0)
    return view.back(member.predict(x[None, -MEMORY:], np.array([len(x)]), HORIZON)[0])


def _inside(
    series: Series, model: SeriesForecaster, t: Integers, level: float
) -> tuple[float, float]:
    said = model.predict(t, series.past, level)
    held = (series.future >= said.lower) & (series.future <= said.upper)
    return float(held.mean()), interval_score(series, said.lower, said.upper, level)


def _errors(corpus: Sequence[Series], values: Sequence[Array]) -> Array:
    """sMAPE and MASE of each series (n, 2)."""
    return np.array([(smape(s.future, v), mase(s, v)) for s, v in zip(corpus, values, strict=True)])


def _accuracy(name: str, errors: Array, base: Array, cpu: list[float]) -> Accuracy:
    unit = base.mean(axis=0)
    mean = errors.mean(axis=0)
    worse = int(((errors / unit).sum(axis=1) > (base / unit).sum(axis=1)).sum())
    owa = float((mean / unit).mean())
    return Accuracy(name, float(mean[0]), float(mean[1]), owa, worse, float(np.mean(cpu)))


def _intervals(name: str, level: float, each: Array) -> Intervals:
    """From coverage and score of each series (n, 2)."""
    held, score = each.mean(axis=0)
    return Intervals(name, level, float(held), int((each[:, 0] < 0.5).sum()), float(score))
