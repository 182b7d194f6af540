"""Functions, by what they work on.

over_time   sums, extremes, ends and quantiles of a window
moments     what depends on the order of its samples: variance, smoothing
rates       growth, resets, changes
regressions straight lines through samples
histograms  quantiles and fractions of buckets
info        labels of info metrics
maths       functions of one number
times       times and parts of dates
labels      labels replaced and joined
ordering    series in order
absence     where there is nothing
registry    how functions are entered
"""

from service.query.promql.functions import (
    absence,
    histograms,
    info,
    labels,
    maths,
    moments,
    ordering,
    over_time,
    rates,
    regressions,
    times,
)
from service.query.promql.functions.registry import FUNCTIONS

__all__ = [
    "FUNCTIONS",
    "absence",
    "histograms",
    "info",
    "labels",
    "maths",
    "moments",
    "ordering",
    "over_time",
    "rates",
    "regressions",
    "times",
]
