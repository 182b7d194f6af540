"""Counters are learned as rates: a total that only grows has no normal level.

A fall is a reset, after which the counter starts from 0. What models say about the rate is told
in the counter's own terms: the total that was expected next to the total that came.
"""

from dataclasses import replace

import numpy as np

from models.ensemble import Scores
from models.forecast.series import Forecast
from service.storage.columns import Columns, Values


def rates(samples: Columns) -> Columns:
    """Increase per second up to each sample but the first."""
    if len(samples.t) < 2:
        return Columns.empty()
    seconds = np.diff(samples.t) / 1000.0
    return Columns(samples.t[1:], (samples.v[1:] - _bases(samples)) / seconds)


def totals(samples: Columns, scores: Scores) -> Scores:
    """Scores of the newest rates of `samples`, with expectation and band as totals."""
    n = len(scores.t_ms)
    if not n:
        return scores
    at = np.searchsorted(samples.t, scores.t_ms)
    base = _bases(samples)[at - 1]
    base = np.where(np.isfinite(base), base, scores.expected)
    seconds = (samples.t[at] - samples.t[at - 1]) / 1000.0
    return replace(
        scores,
        expected=base + scores.expected * seconds,
        lower=base + scores.lower * seconds,
        upper=base + scores.upper * seconds,
    )


def total_forecast(samples: Columns, forecast: Forecast) -> Forecast:
    """A forecast of rates as the totals they lead to."""
    known = np.flatnonzero(np.isfinite(samples.v))
    last = float(samples.v[known[-1]]) if len(known) else 0.0
    steps: Values = np.diff(np.append(samples.t[-1:], forecast.t_ms)).astype(np.float64)

    def lead_to(rate: Values) -> Values:
        return np.asarray(last + np.cumsum(rate * steps / 1000.0))

    return replace(
        forecast,
        value=lead_to(forecast.value),
        lower=lead_to(forecast.lower),
        upper=lead_to(forecast.upper),
    )


def _bases(samples: Columns) -> Values:
    """What each sample but the first counts on from: the one before, 0 after a reset."""
    before, now = samples.v[:-1], samples.v[1:]
    return np.where(now < before, 0.0, before)
